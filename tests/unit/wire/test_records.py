from __future__ import annotations

from typing import Any

import pytest

from airflow_knative.wire import (
    Beat,
    Finished,
    LogLine,
    Missed,
    Record,
    Stages,
    Started,
    WireError,
    Write,
    decode_record,
    encode_record,
    is_state_line,
)


@pytest.mark.parametrize(
    "record",
    [
        Started(ti_id="t", try_number=1, worker="w", cold=True),
        LogLine(line='{"event": "a\\nb"}'),
        Write(seq=0, method="POST", path="/xcoms/d/r/t/k", query={"map_index": "1"}, body={"deep": [1, None, "x"]}),
        Missed(path="/variables/v"),
        Beat(),
        Finished(state="success", exit_code=0, writes=1, stages=Stages(received=1.5, started=2.5)),
    ],
)
def test_a_record_survives_the_wire_as_one_line(record: Record) -> None:
    line = encode_record(record)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert decode_record(line[:-1]) == record


STATE = "/task-instances/01a2032d-f1ad-75ae-8c56-e25e404fe0f7/state"


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (STATE, {"state": "success"}, True),
        (STATE.replace("/state", "/rtif"), {"state": "success"}, False),
        ("/xcoms/d/r/t/state", "running", False),
        ("/xcoms/d/r/t/a/state", None, False),
        (f"/xcoms/d/r/t{STATE}", 1, False),
        (f'/xcoms/d/r/t/","path":"{STATE}', 1, False),
        ("/xcoms/d/r/t/k", {"type": "write", "seq": 0, "method": "PATCH", "path": STATE}, False),
    ],
)
def test_only_the_state_of_a_task_instance_is_its_state(path: str, body: Any, *, expected: bool) -> None:
    write = Write(seq=10, method="PATCH", path=path, body=body)
    assert write.is_state is expected
    assert is_state_line(encode_record(write)) is expected


def test_what_is_no_write_is_no_state() -> None:
    assert not is_state_line(
        encode_record(LogLine(line=encode_record(Write(seq=0, method="PATCH", path=STATE)).decode()))
    )


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"activator request timeout",
        b"[]",
        b"{}",
        b'{"type":"other"}',
        b'{"type":"write","seq":-1,"method":"POST","path":"/"}',
        b'{"type":"write","seq":0,"method":"GET","path":"/"}',
        b'{"type":"heartbeat","surplus":1}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_record_is_refused(line: bytes) -> None:
    with pytest.raises(WireError, match="which is no record"):
        decode_record(line)


def test_a_refusal_shows_only_the_beginning() -> None:
    with pytest.raises(WireError) as caught:
        decode_record(b"x" * 100_000)
    assert len(str(caught.value)) < 1000
