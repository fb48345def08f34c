from __future__ import annotations

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
