from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from airflow_knative.wire import Beat, Inputs, Missed, Record, Write
from airflow_knative.worker.transport import JournalTransport

from .requests import TI_ID, make_request

BASE = "http://api:8080/execution"
XCOM = f"{BASE}/xcoms/d/manual__2026-01-01T00%3A00%3A00%2B00%3A00/t"


class Api:
    """The Execution API behind the worker: takes everything and answers as it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, Any]] = []
        self.status = 200

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = request.read()
        self.calls.append((request.method, request.url.path, json.loads(body) if body else None))
        assert request.headers["authorization"] == "Bearer task-token"
        return httpx.Response(self.status, json={"from": "api"})


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def records() -> list[Record]:
    return []


@pytest.fixture
def transport(api: Api, records: list[Record], monkeypatch: pytest.MonkeyPatch) -> JournalTransport:
    monkeypatch.setattr(httpx, "HTTPTransport", lambda **_: httpx.MockTransport(api))
    transport = JournalTransport(records.append)
    transport.begin(make_request())
    return transport


@pytest.fixture
def client(transport: JournalTransport) -> httpx.Client:
    return httpx.Client(transport=transport, headers={"authorization": "Bearer task-token"})


def test_the_start_is_answered_with_the_context_that_came_along(client: httpx.Client, api: Api) -> None:
    assert client.patch(f"{BASE}/task-instances/{TI_ID}/run", json={}).json() == {"the": "context"}
    assert api.calls == []


def test_writes_of_the_own_task_instance_are_recorded_in_order(
    client: httpx.Client, api: Api, records: list[Record]
) -> None:
    client.post(f"{XCOM}/key", params={"dag_result": "true"}, json={"a": [1]})
    client.put(f"{BASE}/task-instances/{TI_ID}/rtif", json={"f": "v"})
    client.patch(f"{BASE}/task-instances/{TI_ID}/state", json={"state": "success"})
    client.delete(f"{XCOM}/key")
    run = "manual__2026-01-01T00:00:00+00:00"
    assert records == [
        Write(seq=0, method="POST", path=f"/xcoms/d/{run}/t/key", query={"dag_result": "true"}, body={"a": [1]}),
        Write(seq=1, method="PUT", path=f"/task-instances/{TI_ID}/rtif", body={"f": "v"}),
        Write(seq=2, method="PATCH", path=f"/task-instances/{TI_ID}/state", body={"state": "success"}),
        Write(seq=3, method="DELETE", path=f"/xcoms/d/{run}/t/key"),
    ]
    assert api.calls == []


def test_a_heartbeat_becomes_a_record(client: httpx.Client, api: Api, records: list[Record]) -> None:
    assert client.put(f"{BASE}/task-instances/{TI_ID}/heartbeat", json={}).status_code == 204
    assert records == [Beat()]
    assert api.calls == []


def test_a_miss_is_asked_of_the_api_and_reported(client: httpx.Client, api: Api, records: list[Record]) -> None:
    assert client.get(f"{BASE}/variables/v").json() == {"from": "api"}
    assert records == [Missed(path="/variables/v")]
    assert api.calls == [("GET", "/execution/variables/v", None)]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
def test_after_a_write_that_others_may_act_on_variables_are_asked_for(
    client: httpx.Client, transport: JournalTransport, method: str
) -> None:
    transport.begin(
        make_request(inputs=Inputs(variables={"v": "old", "w": "old"}, connections={"c": {"conn_id": "c"}}))
    )
    assert client.get(f"{BASE}/variables/v").json() == {"key": "v", "value": "old"}
    path = "dag-runs/other/run" if method == "POST" else "variables/v"  # that run may set it, too
    client.request(method, f"{BASE}/{path}", json={})
    for known in ("variables/v", "variables/w", "connections/c"):
        assert client.get(f"{BASE}/{known}").json() == {"from": "api"}


def test_xcoms_of_other_instances_are_asked_for_after_the_own_got_there(
    client: httpx.Client, transport: JournalTransport, api: Api
) -> None:
    transport.begin(make_request(ti={"map_index": 0}, inputs=Inputs(tasks=["t"])))
    client.post(f"{XCOM}/key", params={"map_index": "0"}, json=1)
    assert client.get(f"{XCOM}/key", params={"map_index": "0"}).json() == {"key": "key", "value": 1}
    assert client.get(f"{XCOM}/key/slice").json() == {"from": "api"}
    assert [(method, path.removeprefix("/execution/xcoms/d/")) for method, path, _ in api.calls] == [
        ("POST", "manual__2026-01-01T00:00:00+00:00/t/key"),
        ("GET", "manual__2026-01-01T00:00:00+00:00/t/key/slice"),
    ]


def test_other_writes_go_to_the_api_after_the_xcoms_before_them(
    client: httpx.Client, api: Api, records: list[Record]
) -> None:
    client.post(f"{XCOM}/first", json=1)
    client.put(f"{BASE}/task-instances/{TI_ID}/rtif", json={})
    client.post(f"{BASE}/dag-runs/other/run", json={})
    client.post(f"{BASE}/dag-runs/other/run2", json={})
    assert [(method, path.rsplit("/", 1)[1]) for method, path, _ in api.calls] == [
        ("POST", "first"),
        ("POST", "run"),
        ("POST", "run2"),
    ]
    assert len(records) == 2  # the dispatcher still gets what belongs to the task instance


def test_a_lost_caller_has_everything_reported_to_the_api(
    client: httpx.Client, transport: JournalTransport, api: Api
) -> None:
    client.post(f"{XCOM}/before", json=1)
    transport.caller_lost = True
    client.put(f"{BASE}/task-instances/{TI_ID}/heartbeat", json={"hostname": "worker", "pid": 1})
    client.patch(f"{BASE}/task-instances/{TI_ID}/state", json={"state": "success"})
    assert [(path.rsplit("/", 1)[1], body) for _, path, body in api.calls] == [
        ("heartbeat", {"hostname": "scheduler", "pid": 77}),  # as whom Airflow knows the task instance to run
        ("before", 1),
        ("state", {"state": "success"}),
    ]


def test_a_task_instance_that_is_not_its_own_any_more_reports_nothing(
    client: httpx.Client, transport: JournalTransport, api: Api
) -> None:
    client.post(f"{XCOM}/before", json=1)
    transport.caller_lost = True
    api.status = 409
    heartbeat = client.build_request("PUT", f"{BASE}/task-instances/{TI_ID}/heartbeat", json={})
    assert client.send(heartbeat).status_code == 409
    client.patch(f"{BASE}/task-instances/{TI_ID}/state", json={"state": "failed"})
    transport.report(heartbeat)
    assert len(api.calls) == 1


def test_a_task_that_ended_before_it_could_ask_asks_before_it_reports(
    client: httpx.Client, transport: JournalTransport, api: Api
) -> None:
    client.patch(f"{BASE}/task-instances/{TI_ID}/state", json={"state": "success"})
    transport.caller_lost = True
    transport.report(client.build_request("PUT", f"{BASE}/task-instances/{TI_ID}/heartbeat", json={}))
    assert [path.rsplit("/", 1)[1] for _, path, _ in api.calls] == ["heartbeat", "state"]


def test_a_write_that_the_api_could_not_take_goes_with_the_next_report(
    client: httpx.Client, transport: JournalTransport, api: Api
) -> None:
    heartbeat = client.build_request("PUT", f"{BASE}/task-instances/{TI_ID}/heartbeat", json={})
    transport.caller_lost = True
    client.send(heartbeat)
    api.status = 503  # its database is away
    assert client.patch(f"{BASE}/task-instances/{TI_ID}/state", json={"state": "success"}).status_code == 204
    with pytest.raises(httpx.HTTPStatusError, match="answered 503"):
        transport.report(heartbeat)
    api.status = 200
    transport.report(heartbeat)
    transport.report(heartbeat)
    assert [path.rsplit("/", 1)[1] for _, path, _ in api.calls] == [
        "heartbeat", "state", "heartbeat", "heartbeat", "state",
    ]  # fmt: skip


def test_what_was_skipped_for_an_others_sake_is_reported_in_the_end(
    client: httpx.Client, transport: JournalTransport, api: Api
) -> None:
    client.put(f"{BASE}/task-instances/{TI_ID}/rtif", json={"f": "v"})
    client.post(f"{XCOM}/key", json=1)
    client.post(f"{BASE}/dag-runs/other/run", json={})
    transport.caller_lost = True
    client.put(f"{BASE}/task-instances/{TI_ID}/heartbeat", json={})
    assert [path.rsplit("/", 1)[1] for _, path, _ in api.calls] == ["key", "run", "heartbeat", "rtif", "key"]


def test_another_task_instances_xcoms_are_not_recorded(client: httpx.Client, api: Api, records: list[Record]) -> None:
    client.post(f"{BASE}/xcoms/d/other-run/t/key", json=1)
    assert records == []
    assert api.calls == [("POST", "/execution/xcoms/d/other-run/t/key", 1)]
