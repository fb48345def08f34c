from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from .conftest import VIEWER, Check, Connect
from .fake_airflow import FakeAirflow, FakeDag, Mapped, Outcome

if TYPE_CHECKING:
    import httpx

pytestmark = pytest.mark.asyncio


async def test_answers_what_the_dag_returns_as_compact_json(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    response = await client.post("/runWorkflow/avg", json={"input": [1, 2, 3, 4]})
    assert response.status_code == 200
    assert response.content == b'{"output":2.5}'
    assert response.headers["content-type"] == "application/json"
    ((dag_id, run_id),) = airflow.runs
    assert dag_id == "avg"
    assert response.headers["airflow-run-id"] == run_id
    assert airflow.runs["avg", run_id].conf == {"data": [1, 2, 3, 4]}


@pytest.mark.parametrize("value", [None, 0, "", False, [], {}, {"a": [None, "é\u2028"]}, "\\u0000", 2**70, 1e300])
async def test_passes_any_json_there_and_back(client: httpx.AsyncClient, airflow: FakeAirflow, value: Any) -> None:
    airflow.dags["echo"] = FakeDag(lambda data: Outcome(returned="e", values={"e": data}))
    response = await client.post("/runWorkflow/echo", content=json.dumps({"input": value}), headers=JSON)
    assert response.status_code == 200, response.text
    assert response.json() == {"output": value}


JSON = {"content-type": "application/json"}


async def test_a_warm_call_asks_airflow_two_things(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    await client.post("/runWorkflow/avg", json={"input": [1]})
    airflow.requests.clear()
    await client.post("/runWorkflow/avg", json={"input": [1]})
    (_, second) = [run_id for _, run_id in airflow.runs]
    assert airflow.requests == ["POST /api/v2/dags/avg/dagRuns", f"GET /api/v2/dags/avg/dagRuns/{second}/wait"]


async def test_concurrent_runs_get_ids_of_their_own(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    responses = await asyncio.gather(*[client.post("/runWorkflow/avg", json={"input": [i]}) for i in range(20)])
    assert [response.json() for response in responses] == [{"output": float(i)} for i in range(20)]
    assert len(airflow.runs) == 20


async def test_without_a_return_value_the_only_leaf_is_the_output(client: httpx.AsyncClient) -> None:
    response = await client.post("/runWorkflow/leaf", json={"input": {"a": 1}})
    assert response.json() == {"output": {"a": 1}}


async def test_a_leaf_that_returns_nothing_is_null(client: httpx.AsyncClient) -> None:
    response = await client.post("/runWorkflow/leaf", json={"input": None})
    assert response.content == b'{"output":null}'


async def test_several_leaves_become_an_object(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    airflow.dags["two"] = FakeDag(
        lambda data: Outcome(values={"b": data}), downstream={"a": ["b", "c"], "b": [], "c": []}
    )
    response = await client.post("/runWorkflow/two", json={"input": 7})
    assert response.json() == {"output": {"b": 7, "c": None}}


async def test_a_dag_without_tasks_returns_null(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    airflow.dags["empty"] = FakeDag(lambda _: Outcome())
    assert (await client.post("/runWorkflow/empty", json={"input": 7})).json() == {"output": None}


@pytest.mark.parametrize(
    ("data", "output"), [([1, 2, 3], [1, 4, 9]), ([1, None, 3], [1, None, 9]), ([None], [None]), ([], []), ([3], [9])]
)
async def test_a_mapped_leaf_is_a_list_by_map_index(client: httpx.AsyncClient, data: Any, output: Any) -> None:
    response = await client.post("/runWorkflow/mapped", json={"input": data})
    assert response.json() == {"output": output}


async def test_a_mapped_leaf_keeps_its_places_over_many_pages(client: httpx.AsyncClient) -> None:
    data = [None if i % 100 == 7 else i for i in range(450)]
    response = await client.post("/runWorkflow/mapped", json={"input": data})
    assert response.json() == {"output": [None if i is None else i * i for i in data]}


async def test_a_mapped_task_that_the_dag_returns_keeps_its_places(
    client: httpx.AsyncClient, airflow: FakeAirflow
) -> None:
    airflow.dags["mapped"].run = lambda data: Outcome(
        returned="square", values={"square": Mapped({0: 1, 2: 9})}, instances={"square": 3}
    )
    assert (await client.post("/runWorkflow/mapped", json={"input": 0})).json() == {"output": [1, None, 9]}


async def test_a_list_that_a_plain_task_returns_is_left_alone(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    airflow.dags["plain"] = FakeDag(lambda data: Outcome(returned="e", values={"e": data}), downstream={"e": []})
    assert (await client.post("/runWorkflow/plain", json={"input": [[1], None]})).json() == {"output": [[1], None]}


async def test_what_the_task_sdk_wraps_comes_out_plain(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    wrapped = {"pair": {"__classname__": "builtins.tuple", "__version__": 1, "__data__": [1, 2]}}
    airflow.dags["odd"] = FakeDag(lambda _: Outcome(returned="e", values={"e": wrapped}))
    assert (await client.post("/runWorkflow/odd", json={"input": 0})).json() == {"output": {"pair": [1, 2]}}


async def test_outputs_may_be_large(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    airflow.dags["large"] = FakeDag(lambda _: Outcome(returned="e", values={"e": "x" * 3_000_000}))
    response = await client.post("/runWorkflow/large", json={"input": 0})
    assert len(response.json()["output"]) == 3_000_000


async def test_an_output_over_the_limit_is_a_problem(connect: Connect, airflow: FakeAirflow, problem: Check) -> None:
    client = await connect(max_output_bytes=1000)
    airflow.dags["large"] = FakeDag(lambda _: Outcome(returned="e", values={"e": "x" * 300_000}))
    document = problem(await client.post("/runWorkflow/large", json={"input": 0}), 502, "output-unusable")
    assert ("large", document["run_id"]) in airflow.runs
    assert "MAX_OUTPUT_BYTES" in document["detail"]


async def test_an_output_that_is_no_json_is_a_problem(
    client: httpx.AsyncClient, airflow: FakeAirflow, problem: Check
) -> None:
    airflow.dags["nan"] = FakeDag(lambda _: Outcome(returned="e", values={"e": float("nan")}))
    document = problem(await client.post("/runWorkflow/nan", json={"input": 0}), 502, "output-unusable")
    assert ("nan", document["run_id"]) in airflow.runs


async def test_a_caller_who_may_not_read_xcoms_gets_no_output(
    client: httpx.AsyncClient, airflow: FakeAirflow, problem: Check
) -> None:
    airflow.users["admin"].rights = frozenset({"read", "run"})
    document = problem(await client.post("/runWorkflow/leaf", json={"input": 1}), 403, "forbidden")
    assert "read the output" in document["detail"]
    assert document["run_id"]


async def test_a_failed_run_tells_its_failed_tasks(client: httpx.AsyncClient, problem: Check) -> None:
    response = await client.post("/runWorkflow/fails", json={"input": 1})
    document = problem(response, 422, "run-failed")
    assert document["failed_tasks"] == [
        {"task_id": "boom", "map_index": -1, "state": "failed", "tries": 2, "error": "ValueError: bad input 'x'"},
        {"task_id": "after", "map_index": -1, "state": "upstream_failed", "tries": 0, "error": None},
    ]
    assert document["dag_id"] == "fails"
    assert document["run_id"] == response.headers["airflow-run-id"]
    assert "'boom' failed after 2 tries: ValueError: bad input 'x'" in document["detail"]


async def test_a_failed_run_without_readable_logs_is_still_told(
    client: httpx.AsyncClient, airflow: FakeAirflow, problem: Check
) -> None:
    airflow.overrides["2"] = lambda _: web.Response(status=500, text="no logs")
    document = problem(await client.post("/runWorkflow/fails", json={"input": 1}), 422, "run-failed")
    assert document["failed_tasks"][0] == {
        "task_id": "boom", "map_index": -1, "state": "failed", "tries": 2, "error": None,
    }  # fmt: skip


async def test_a_failed_run_without_readable_tasks_is_still_told(
    client: httpx.AsyncClient, airflow: FakeAirflow, problem: Check
) -> None:
    airflow.overrides["taskInstances"] = lambda _: web.Response(status=403, text="no")
    document = problem(await client.post("/runWorkflow/fails", json={"input": 1}), 422, "run-failed")
    assert "failed_tasks" not in document


async def test_a_run_that_failed_without_a_failed_task(
    client: httpx.AsyncClient, airflow: FakeAirflow, problem: Check
) -> None:
    airflow.dags["stuck"] = FakeDag(lambda _: Outcome(state="failed"))
    document = problem(await client.post("/runWorkflow/stuck", json={"input": 1}), 422, "run-failed")
    assert document["failed_tasks"] == []
    assert "none of its tasks did" in document["detail"]


async def test_the_wait_ends_before_the_run(connect: Connect, airflow: FakeAirflow, problem: Check) -> None:
    client = await connect(wait_timeout=0.1)
    document = problem(await client.post("/runWorkflow/slow", json={"input": [1]}), 504, "wait-ended")
    assert ("slow", document["run_id"]) in airflow.runs
    assert document["state"] == "running"
    shown = await client.get(document["location"])
    assert shown.json()["state"] == "running"


async def test_unknown_workflow(client: httpx.AsyncClient, airflow: FakeAirflow, problem: Check) -> None:
    document = problem(await client.post("/runWorkflow/nope", json={"input": 1}), 404, "unknown-workflow")
    assert document["dag_id"] == "nope"
    assert not airflow.runs


async def test_a_workflow_that_vanished_since_it_was_looked_at(
    client: httpx.AsyncClient, airflow: FakeAirflow, problem: Check
) -> None:
    await client.post("/runWorkflow/avg", json={"input": [1]})
    del airflow.dags["avg"]
    problem(await client.post("/runWorkflow/avg", json={"input": [1]}), 404, "unknown-workflow")


@pytest.mark.parametrize(
    "path",
    ["..", "%2e%2e", "~", "a b", "a%2Fb", "..%2f..%2fauth", "a%00b", "a%3Fb", "a%23b", "x" * 251, "%F0%9F%98%80"],
)
async def test_odd_ids_never_reach_airflow(client: httpx.AsyncClient, airflow: FakeAirflow, path: str) -> None:
    response = await client.post(f"http://gateway/runWorkflow/{path}", json={"input": 1})
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert airflow.requests == []


async def test_letters_of_any_script_are_quoted(client: httpx.AsyncClient, airflow: FakeAirflow) -> None:
    airflow.dags["größe.v1"] = FakeDag(lambda _: Outcome(returned="e", values={"e": 1}))
    assert (await client.post("/runWorkflow/größe.v1", json={"input": 1})).json() == {"output": 1}


async def test_a_caller_who_may_not_run_it(client: httpx.AsyncClient, airflow: FakeAirflow, problem: Check) -> None:
    problem(await client.post("/runWorkflow/avg", json={"input": [1]}, auth=VIEWER), 403, "forbidden")
    assert not airflow.runs


async def test_a_workflow_with_import_errors(client: httpx.AsyncClient, airflow: FakeAirflow, problem: Check) -> None:
    airflow.dags["avg"].import_errors = True
    problem(await client.post("/runWorkflow/avg", json={"input": [1]}), 409, "workflow-broken")


async def test_an_input_that_the_params_of_the_dag_do_not_allow(
    client: httpx.AsyncClient, airflow: FakeAirflow, problem: Check
) -> None:
    def refuse(_data: Any) -> Outcome:
        raise ValueError("'x' is not of type 'integer'")

    airflow.dags["strict"] = FakeDag(refuse)
    document = problem(await client.post("/runWorkflow/strict", json={"input": "x"}), 400, "input-refused")
    assert "'x' is not of type 'integer'" in document["detail"]


async def test_more_calls_than_the_gateway_takes(connect: Connect, airflow: FakeAirflow, problem: Check) -> None:
    client = await connect(max_concurrency=2, wait_timeout=5)
    calls = [asyncio.create_task(client.post("/runWorkflow/slow", json={"input": [i]})) for i in range(2)]
    await airflow.until(lambda: len(airflow.runs) == 2)
    response = await client.post("/runWorkflow/avg", json={"input": [1]})
    problem(response, 503, "overloaded")
    assert response.headers["retry-after"] == "1"
    for run in airflow.runs.values():
        run.ends = 0
    assert {call.status_code for call in await asyncio.gather(*calls)} == {200}
    assert (await client.post("/runWorkflow/avg", json={"input": [1]})).status_code == 200


async def test_a_run_that_was_deleted_while_it_was_waited_for(
    client: httpx.AsyncClient, airflow: FakeAirflow, problem: Check
) -> None:
    airflow.overrides["wait"] = lambda _: airflow.runs.clear()
    problem(await client.post("/runWorkflow/slow", json={"input": [1]}), 404, "unknown-run")


async def test_the_caller_hangs_up_and_the_run_goes_on(connect: Connect, airflow: FakeAirflow) -> None:
    client = await connect()
    sent: list[Any] = []
    incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    incoming.put_nowait({"type": "http.request", "body": b'{"input":[1]}', "more_body": False})
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/runWorkflow/slow",
        "raw_path": b"/runWorkflow/slow",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"authorization", b"Basic YWRtaW46YWRtaW4=")],
    }

    async def send(message: Any) -> None:
        sent.append(message)

    call = asyncio.create_task(client._transport.app(scope, incoming.get, send))
    await airflow.until(lambda: airflow.intervals)
    incoming.put_nowait({"type": "http.disconnect"})
    await asyncio.wait_for(call, 5)
    assert sent[0]["status"] == 499
    ((_, run_id),) = airflow.runs
    assert (await client.get(f"/runs/slow/{run_id}")).json()["state"] == "running"
    assert client.gateway.calls._under_way.count == 0
