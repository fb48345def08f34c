"""A worker's answer of any kind, as the dispatcher takes it in."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.memory import MIB, resident
from tests.unit.executor.test_call import STATE, TI_ID, FakeDatabase, stage

from airflow_knative.executor.outcome import Outcome
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

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web
    from tests.unit.executor.test_call import Stage

__all__ = ["stage"]

pytestmark = pytest.mark.timeout(600)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def _xcom(seq: int, value: Any) -> Write:
    return Write(seq=seq, method="POST", path="/xcoms/d/r/t/return_value", body=value)


def _state(seq: int) -> Write:
    return Write(seq=seq, method="PATCH", path=STATE, body={"state": "success"})


def _finished(writes: int) -> Finished:
    return Finished(state="success", exit_code=0, writes=writes, stages=Stages(received=1.0))


STARTED = Started(ti_id=TI_ID, try_number=1, worker="w", cold=True)


@st.composite
def _answers(draw: st.DrawFn) -> list[bytes]:
    """A good answer, as lines."""
    values = draw(st.lists(JSON, max_size=4))
    records: list[Record] = [STARTED]
    for seq, value in enumerate(values):
        records.append(_xcom(seq, value))
        records += draw(
            st.lists(st.sampled_from([Beat(), LogLine(line="hello"), Missed(path="/variables/v")]), max_size=2)
        )
    return [encode_record(one) for one in (*records, _state(len(values)), _finished(len(values) + 1))]


FOREIGN: list[Record] = [
    STARTED,
    Started(ti_id="01a2032d-f1ad-75ae-8c56-000000000000", try_number=1, worker="w", cold=True),
    STARTED.model_copy(update={"try_number": 2}),
    _xcom(0, "again"),
    _xcom(99, "from the future"),
    _state(0),
    _finished(0),
    _finished(10**9),
    Write(seq=0, method="POST", path="/xcoms/d/r/other/return_value", body=1),
    Write(seq=1, method="PATCH", path="/task-instances/01a2032d-f1ad-75ae-8c56-000000000000/state", body={}),
    Write(seq=1, method="PUT", path="/variables/v", body={"value": "x"}),
    Write(seq=1, method="DELETE", path=f"/task-instances/{TI_ID}/state"),
    Missed(path=""),
    Missed(path="/connections/../../x"),
]
_GARBAGE = (
    st.sampled_from([encode_record(record) for record in FOREIGN])
    | st.binary(max_size=200)
    | JSON.map(lambda value: json.dumps(value).encode() + b"\n")
    | st.sampled_from([b"\n", b"\r\n", b"{}\n", b"null\n", b"[" * 5_000 + b"\n", b"\xff\xfe\n", b'{"type":"write"}\n'])
)


@st.composite
def _spoiled(draw: st.DrawFn) -> bytes:
    """A good answer to which something was done: repeated, reordered, dropped, cut or mixed with garbage."""
    lines = draw(_answers())
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(lines)))
        match draw(st.sampled_from(["insert", "repeat", "drop", "swap", "flip", "cut"])):
            case "insert":
                lines.insert(at, draw(_GARBAGE))
            case "repeat":
                lines[at:at] = lines[at : at + 1]
            case "drop":
                del lines[at : at + 1]
            case "swap":
                lines[at : at + 2] = reversed(lines[at : at + 2])
            case "flip" if at < len(lines) and lines[at]:
                line = bytearray(lines[at])
                line[draw(st.integers(0, len(line) - 1))] = draw(st.integers(0, 255))
                lines[at] = bytes(line)
            case "cut" if lines:
                whole = b"".join(lines)
                lines = [whole[: draw(st.integers(0, len(whole)))]]
            case _:
                pass
    return b"".join(lines)


def _may_take_effect(answer: bytes) -> tuple[list[Write], bool]:
    """Return the writes that the contract allows to take effect, and whether the answer has its end, and no more."""
    writes: list[Write] = []
    state_seen = False
    *lines, rest = answer.split(b"\n")
    for number, line in enumerate(lines):
        try:
            record = decode_record(line)
        except WireError:
            break
        if (number == 0) != isinstance(record, Started):
            break
        match record:
            case Started() if record.ti_id != TI_ID:
                break
            case Write():
                own = record.path == STATE and record.method == "PATCH"
                own |= record.path == "/xcoms/d/r/t/return_value" and record.method == "POST"
                if not own or record.query or record.seq != len(writes) or (record.path == STATE and state_seen):
                    break
                state_seen |= record.path == STATE
                writes.append(record)
            case Finished():
                return writes, record.writes == len(writes) and number == len(lines) - 1 and not rest
            case _:
                pass
    return writes, False


async def _answer(stage: Stage, chunks: Sequence[bytes]) -> Outcome:
    database = FakeDatabase()
    stage.database = stage.context.database = database  # type: ignore[assignment]
    stage.context.settings = dataclasses.replace(
        stage.context.settings, lost_worker_timeout=0.04, dispatch_retry_timeout=0.2
    )
    stage.answers(*[chunk for chunk in chunks if chunk])
    result = await stage.run()
    assert result.outcome is not Outcome.FAILED or result.reason
    return result.outcome


def _judge(stage: Stage, answer: bytes, outcome: Outcome) -> None:
    allowed, whole = _may_take_effect(answer)
    applied = stage.database.applied
    assert applied == allowed[: len(applied)]
    settled = any(write.path == STATE for write in applied)
    assert (stage.database.state == "success") == settled
    if whole:
        assert applied == allowed
    # Without a state of its own the task is failed; with one it is what the worker said it is.
    assert outcome is (Outcome.SETTLED if settled else Outcome.FAILED)


@given(answer=_spoiled(), pieces=st.lists(st.integers(1, 300), max_size=8))
async def test_a_spoiled_answer_changes_no_more_than_its_good_part(
    stage: Stage, answer: bytes, pieces: list[int]
) -> None:
    bounds = [0, *itertools.accumulate(pieces), len(answer)]
    chunks = [answer[start:end] for start, end in itertools.pairwise(bounds) if start < end]
    _judge(stage, answer, await _answer(stage, chunks))


@given(answer=st.binary(max_size=2_000))
async def test_an_answer_of_arbitrary_bytes_fails_the_task(stage: Stage, answer: bytes) -> None:
    assert await _answer(stage, [answer]) is Outcome.FAILED
    assert stage.database.applied == []


async def _endless(stage: Stage, record: bytes, total: int) -> int:
    """Have the worker send a record over and over, `total` bytes of it; return by how much memory grew."""
    block = record * max(1, 65_536 // len(record))

    async def flood(_request: web.Request, response: web.StreamResponse) -> None:
        for _ in range(total // len(block)):
            await response.write(block)

    database = FakeDatabase()
    database.apply = lambda *_args, **_kwargs: False  # type: ignore[method-assign] # and keeps nothing
    stage.database = stage.context.database = database  # type: ignore[assignment]
    stage.context.settings = dataclasses.replace(stage.context.settings, lost_worker_timeout=0.5)
    stage.answers(encode_record(STARTED), then=flood)
    before = resident()
    result = await asyncio.wait_for(stage.call().run(), 100)
    assert result.outcome is Outcome.FAILED
    return resident() - before


@pytest.mark.parametrize(
    ("record", "total"),
    [
        # A heartbeat kept as an object would be twenty times as large.
        (Beat(), 4 * MIB),
        (LogLine(line="x" * 10_000), 64 * MIB),
        (Missed(path=f"/variables/{'v' * 5_000}"), 64 * MIB),
    ],
    ids=["heartbeats", "log", "missed reads"],
)
async def test_an_endless_answer_needs_no_memory(stage: Stage, record: Record, total: int) -> None:
    assert await _endless(stage, encode_record(record), total) < 24 * MIB


async def test_a_record_without_end_needs_no_more_than_what_is_allowed(stage: Stage) -> None:
    # The stage allows one million bytes of a record.
    assert await _endless(stage, b"x", 64 * MIB) < 24 * MIB
