"""Results after their answer, with an Execution API that knows of them or does not."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from airflow_knative.wire import Write, encode_record
from airflow_knative.worker import receipts as module
from airflow_knative.worker.execution_api import ApiAwayError, Verdict
from airflow_knative.worker.receipts import Receipts

from .requests import make_request

if TYPE_CHECKING:
    from airflow_knative.wire import TaskRequest

RUN = "manual__2026-01-01T00:00:00+00:00"


class Api:
    """What the Execution API knows of a task's instances."""

    def __init__(self) -> None:
        self.running: set[tuple[str, str]] = set()
        self.verdict = Verdict.OURS
        self.away = 0
        self.asked = 0
        self.heartbeats: list[str] = []
        self.delivered: list[dict[str, Any]] = []

    def answer(self, _request: TaskRequest, runs: set[str]) -> set[tuple[str, str]]:
        self.asked += 1
        self._be_away()
        return {(run, name) for run, name in self.running if run in runs}

    def heartbeat(self, request: TaskRequest) -> tuple[Verdict, str]:
        self.heartbeats.append(str(request.ti["id"]))
        return self.verdict, ""

    def deliver(self, _request: TaskRequest, write: dict[str, Any]) -> None:
        self._be_away()
        self.delivered.append(write)

    def _be_away(self) -> None:
        if self.away:
            self.away -= 1
            raise ApiAwayError("refused")


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    api = Api()
    monkeypatch.setattr(module, "running", api.answer)
    monkeypatch.setattr(module, "heartbeat", api.heartbeat)
    monkeypatch.setattr(module, "deliver", api.deliver)
    monkeypatch.setattr(module, "_LAST_WAIT", 0.01)
    return api


def _result(**ti: Any) -> tuple[TaskRequest, list[bytes]]:
    request = make_request()
    request.ti.update({"id": str(uuid.uuid4()), **ti})
    state = f"/task-instances/{request.ti['id']}/state"
    xcom = Write(seq=0, method="POST", path=f"/xcoms/d/{RUN}/t/return_value", body=1)
    return request, [
        encode_record(xcom),
        encode_record(Write(seq=1, method="PATCH", path=state, body={"state": "success"})),
    ]


async def test_a_result_that_arrived_is_let_go(api: Api) -> None:
    receipts = Receipts()
    receipts.keep(*_result(), doubtful=False)
    receipts.keep(*_result(map_index=3), doubtful=False)
    await asyncio.wait_for(receipts.drain(), 10)
    assert api.asked == 1  # for all of a task at once
    assert api.heartbeats == []
    assert api.delivered == []


@pytest.mark.parametrize(("ti", "name"), [({}, "t"), ({"map_index": 3}, "t_3")])
async def test_a_result_that_did_not_arrive_is_delivered(api: Api, ti: dict[str, Any], name: str) -> None:
    api.running = {(RUN, name)}
    receipts = Receipts()
    request, writes = _result(**ti)
    receipts.keep(request, writes, doubtful=False)
    await asyncio.wait_for(receipts.drain(), 10)
    assert api.heartbeats == [str(request.ti["id"])]
    assert api.delivered == [json.loads(line) for line in writes]


async def test_a_result_of_a_turn_that_is_over_is_not_delivered(api: Api) -> None:
    api.running, api.verdict = {(RUN, "t")}, Verdict.NOT_OURS  # running behind another fence
    receipts = Receipts()
    receipts.keep(*_result(), doubtful=False)
    await asyncio.wait_for(receipts.drain(), 10)
    assert len(api.heartbeats) == 1
    assert api.delivered == []


async def test_an_api_that_is_away_is_asked_again_and_gets_each_write_once(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleep = asyncio.sleep
    monkeypatch.setattr(module.asyncio, "sleep", lambda _: sleep(0))
    api.running, api.away = {(RUN, "t")}, 2
    receipts = Receipts()
    receipts.keep(*_result(), doubtful=False)
    await asyncio.wait_for(receipts.drain(), 10)
    assert [write["seq"] for write in api.delivered] == [0, 1]


async def test_what_has_no_state_is_no_result(api: Api) -> None:
    receipts = Receipts()
    request, writes = _result()
    named_so = Write(seq=1, method="POST", path=f"/xcoms/d/{RUN}/t/state", body="success")
    receipts.keep(request, [writes[0], encode_record(named_so)], doubtful=True)
    await asyncio.wait_for(receipts.drain(), 10)
    assert api.asked == 0


@pytest.mark.parametrize("doubtful", [True, False])
async def test_it_asks_by_itself(api: Api, doubtful: bool) -> None:  # noqa: FBT001
    api.running = {(RUN, "t")}
    receipts = Receipts(wait=3600.0 if doubtful else 0.05)
    running = asyncio.create_task(receipts.run())
    receipts.keep(*_result(), doubtful=doubtful)
    async with asyncio.timeout(10):
        while len(api.delivered) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    running.cancel()


async def test_what_is_kept_is_bounded(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_BYTES", 1)
    api.running = {(RUN, "t")}
    receipts = Receipts()
    for _ in range(3):
        request, writes = _result()
        receipts.keep(request, writes, doubtful=False)
    await asyncio.wait_for(receipts.drain(), 10)
    assert api.heartbeats == [str(request.ti["id"])]
