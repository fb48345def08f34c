"""A real worker process by itself: no Airflow and no database anywhere."""

from __future__ import annotations

import json
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest

from airflow_knative.wire import TASK_PATH, Finished, Inputs, LogLine, Missed, Signer, Started, TaskRequest
from airflow_knative.wire.keys import generate, load_private

from .workers import RUN_ID, Worker, eventually, finished, is_running, known, records, state_of, xcoms_of

if TYPE_CHECKING:
    from collections.abc import Iterator

PROBE = Path(__file__).parent / "dags" / "probe.py"


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    with Worker(tmp_path, PROBE, "probe") as worker:
        yield worker


class Api:
    """A stand-in for the api-server's Execution API, which only counts what a worker asks of it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.heartbeat_status = 204
        self.running: dict[str, str] = {}
        """State by task, for who asks whether a result arrived."""
        api = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                what = self.path.rsplit("/", 1)[1]
                status = api.heartbeat_status if what == "heartbeat" else 200
                body = b'{"key":"greeting","value":"hello"}' if status == 200 else b""
                if what.startswith("states?"):
                    body = json.dumps({"task_states": {RUN_ID: api.running}}).encode()
                else:
                    api.calls.append((self.command, what))
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815

            def log_message(self, *_args: Any) -> None:
                """Be quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/execution/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def states(self) -> list[tuple[str, str]]:
        return [call for call in self.calls if call[1] == "state"]


@pytest.fixture
def api() -> Iterator[Api]:
    api = Api()
    yield api
    api.server.shutdown()
    api.server.server_close()


def test_a_request_that_comes_before_the_import_is_held_and_run(worker: Worker) -> None:
    request = worker.request("quick", conf={"data": 41})
    answer = worker.run(request)
    assert isinstance(answer[0], Started)
    assert answer[0].cold
    assert (state_of(answer), finished(answer).exit_code) == ("success", 0), answer
    assert [(xcom.key, xcom.value) for xcom in xcoms_of(request, answer)] == [("return_value", 42)]
    assert any("printed by the task" in record.line for record in answer if isinstance(record, LogLine))
    again = worker.run(worker.request("quick", conf={"data": 1}))
    assert isinstance(again[0], Started)
    assert not again[0].cold


def test_a_deferred_task_instance_comes_back_as_the_same_try(worker: Worker) -> None:
    request = worker.request("quick", conf={"data": 1})
    assert state_of(worker.run(request)) == "success"
    assert state_of(worker.run(request.model_copy(update={"turn": "second"}))) == "success"


def test_a_task_instance_is_never_run_twice(worker: Worker) -> None:
    request = worker.request("quick", conf={"data": 1})
    worker.run(request)
    with worker.stream(request) as response:
        assert response.status_code == 409
        assert "never run twice" in response.read().decode()


@pytest.mark.parametrize(
    ("task_id", "dag_id", "status"), [("quick", "other", 404), ("quick", "probe", 200), ("absent", "probe", 200)]
)
def test_only_the_served_dag_runs(tmp_path: Path, task_id: str, dag_id: str, status: int) -> None:
    with Worker(tmp_path, PROBE, "probe") as worker:
        worker.dag_id = dag_id
        with worker.stream(worker.request(task_id, conf={"data": 1})) as response:
            assert response.status_code == status
            if status == 200:
                answer = list(records(response))
                assert state_of(answer) == ("success" if task_id == "quick" else "failed")
            else:
                assert "serves every task of DAG 'probe'" in response.read().decode()


def test_a_dag_with_tasks_of_other_executors_is_served(tmp_path: Path) -> None:
    file = tmp_path / "shared.py"
    file.write_text(
        "from airflow.sdk import dag, task\n"
        "@dag(schedule=None)\n"
        "def shared():\n"
        "    @task(executor='KubernetesExecutor')\n"
        "    def elsewhere(): ...\n"
        "    @task\n"
        "    def here(): return 1\n"
        "    elsewhere() >> here()\n"
        "shared()\n"
    )
    with Worker(tmp_path, file, "shared") as worker:
        assert state_of(worker.run(worker.request("here"))) == "success"


def test_forged_tampered_and_unsigned_requests_are_refused(worker: Worker, tmp_path: Path) -> None:
    request = worker.request("quick", conf={"data": 1})
    body = request.model_dump_json().encode()
    good = worker.headers(request, body)
    (tmp_path / "other").mkdir()
    generate(tmp_path / "other" / "private.pem", tmp_path / "other" / "public.pem")
    forger = Signer(load_private(tmp_path / "other" / "private.pem"))
    forged = forger.sign(audience="service", ti_id=request.key[0], try_number=1, body=body)
    expired = Signer(load_private(tmp_path / "private.pem")).sign(
        audience="service", ti_id=request.key[0], try_number=1, body=body, valid_for=-60
    )
    other = worker.request("quick", conf={"data": 2})
    tries: list[tuple[bytes, dict[str, str], str]] = [
        (body, {}, "no signature"),
        (body, {"authorization": f"Bearer {forged}"}, "verification failed"),
        (body, {"authorization": f"Bearer {expired}"}, "expired"),
        (body.replace(b'"data":1', b'"data":9'), good, "not for this body"),
        (other.model_dump_json().encode(), good, "not for this body"),
    ]
    for sent, headers, reason in tries:
        response = worker.http.post(TASK_PATH, content=sent, headers=headers)
        assert (response.status_code, response.headers["content-type"]) == (401, "application/problem+json")
        assert reason in response.json()["detail"]
    assert worker.http.post(TASK_PATH, content=body, headers=good).status_code == 200


def test_an_unknown_protocol_version_is_refused(worker: Worker) -> None:
    request = worker.request("quick").model_copy(update={"version": 99})
    with worker.stream(request) as response:
        assert response.status_code == 400
        assert "protocol version 99" in response.read().decode()


def test_another_airflow_than_the_dispatchers_is_refused(worker: Worker) -> None:
    answer = worker.run(worker.request("quick", conf={"data": 1}).model_copy(update={"api_version": "2020-01-01"}))
    assert state_of(answer) is None
    assert finished(answer).exit_code != 0
    assert any("2020-01-01" in record.line for record in answer if isinstance(record, LogLine))


def test_more_than_its_slots_is_refused_for_now(worker: Worker, tmp_path: Path) -> None:
    with worker.stream(worker.request("sleeper", conf={"data": str(tmp_path / "pid")})) as busy:
        assert busy.status_code == 200
        with worker.stream(worker.request("quick")) as response:
            assert response.status_code == 503
            assert response.headers["retry-after"]


def test_each_task_draws_random_numbers_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "draws.py"
    file.write_text(
        """
import os
import random
import sys
from types import ModuleType, SimpleNamespace

from airflow.sdk import dag, task

numpy_random = sys.modules["numpy.random"] = ModuleType("numpy.random")  # which has one generator for all
numpy_random.state = b"of the import"
numpy_random.get_bit_generator = lambda: SimpleNamespace(seed_seq="entropy")
numpy_random.seed = lambda: setattr(numpy_random, "state", os.urandom(8))


@task
def draws():
    return [random.random(), numpy_random.state.hex()]


@dag(dag_id="draws", schedule=None)
def draws_dag():
    draws()


draws_dag()
"""
    )
    with Worker(tmp_path, file, "draws") as worker:
        requests = [worker.request("draws") for _ in range(2)]
        drawn = [xcoms_of(request, worker.run(request))[0].value for request in requests]
    assert drawn[0][0] != drawn[1][0]
    assert drawn[0][1] != drawn[1][1]


def test_a_task_that_dies_fails_and_the_slot_lives_on(worker: Worker) -> None:
    assert state_of(worker.run(worker.request("dies"))) == "failed"
    assert state_of(worker.run(worker.request("quick", conf={"data": 1}))) == "success"


def test_a_killed_slot_ends_the_answer_without_a_state(worker: Worker, tmp_path: Path) -> None:
    where = tmp_path / "pids"
    with worker.stream(worker.request("forks_and_sleeps", conf={"data": str(where)})) as response:
        stray, task = eventually(lambda: where.exists() and [int(pid) for pid in where.read_text().split()])
        psutil.Process(task).parent().kill()  # type: ignore[union-attr]
        answer = list(records(response))
    assert isinstance(answer[-1], Finished)
    assert state_of(answer) is None
    eventually(lambda: not is_running(task) and not is_running(stray))
    assert state_of(worker.run(worker.request("quick", conf={"data": 1}))) == "success"


def test_nothing_a_task_leaves_behind_outlives_it(worker: Worker, tmp_path: Path) -> None:
    where = tmp_path / "pid"
    assert state_of(worker.run(worker.request("forks", conf={"data": str(where)}))) == "success"
    eventually(lambda: not is_running(int(where.read_text())))


@pytest.mark.parametrize("victim", ["main", "front"])
def test_nothing_outlives_a_killed_worker(worker: Worker, tmp_path: Path, victim: str) -> None:
    where = tmp_path / "pid"
    with worker.stream(worker.request("sleeper", conf={"data": str(where)})):
        eventually(lambda: where.exists() and where.read_text())
        everyone = [child.pid for child in psutil.Process(worker.process.pid).children(recursive=True)]
        if victim == "main":
            worker.process.kill()
        else:
            front = min(child.pid for child in psutil.Process(worker.process.pid).children())
            os.kill(front, signal.SIGKILL)
        worker.process.wait(30)
        eventually(lambda: not any(is_running(pid) for pid in everyone))


def test_a_miss_is_asked_of_the_execution_api(worker: Worker, api: Api) -> None:
    request = worker.request("reads_variable", api_url=api.url)
    answer = worker.run(request)
    assert [xcom.value for xcom in xcoms_of(request, answer)] == ["hello"]
    assert Missed(path="/variables/greeting") in answer
    assert api.calls == [("GET", "greeting")]


def test_what_was_sent_along_is_not_asked_for(worker: Worker, api: Api) -> None:
    request = worker.request("reads_variable", api_url=api.url, inputs=Inputs(variables={"greeting": "sent along"}))
    answer = worker.run(request)
    assert [xcom.value for xcom in xcoms_of(request, answer)] == ["sent along"]
    assert api.calls == []


def test_a_request_that_waited_is_claimed_before_it_runs(worker: Worker, api: Api) -> None:
    request = worker.request("quick", conf={"data": 1}, api_url=api.url, claim=True)
    assert state_of(worker.run(request)) == "success"
    assert api.calls == [("PUT", "heartbeat")]


@pytest.mark.parametrize(("status", "answered"), [(409, 409), (410, 409), (401, 409), (500, 503)])
def test_a_request_that_cannot_be_claimed_does_not_run(
    worker: Worker, api: Api, tmp_path: Path, status: int, answered: int
) -> None:
    api.heartbeat_status = status
    request = worker.request("sleeper", conf={"data": str(tmp_path / "pid")}, api_url=api.url, claim=True)
    with worker.stream(request) as response:
        assert response.status_code == answered
        assert f"{status}" in json.loads(response.read())["detail"]
    assert not (tmp_path / "pid").exists()
    api.heartbeat_status = 204
    quick = worker.request("quick", conf={"data": 1}, api_url=api.url, claim=True)
    assert state_of(worker.run(quick)) == "success"  # the slot is free


def test_a_claim_waits_for_an_execution_api_that_is_away(worker: Worker, api: Api) -> None:
    request = worker.request("quick", conf={"data": 1}, claim=True)  # nobody listens there
    with worker.stream(request) as response:
        assert response.status_code == 503
    here = request.model_copy(update={"execution_api": request.execution_api.model_copy(update={"url": api.url})})
    assert state_of(worker.run(here)) == "success"


def test_a_result_that_nobody_took_to_airflow_is_taken_there(worker: Worker, api: Api) -> None:
    api.running = {"quick": "running"}  # though the answer was sent to its last byte
    assert state_of(worker.run(worker.request("quick", conf={"data": 1}, api_url=api.url))) == "success"
    eventually(api.states)
    assert api.calls == [("PUT", "heartbeat"), ("PUT", "rtif"), ("POST", "return_value"), ("PATCH", "state")]


def test_a_result_that_nobody_took_is_taken_before_the_worker_ends(tmp_path: Path, api: Api) -> None:
    api.running = {"quick": "running"}
    with Worker(tmp_path, PROBE, "probe") as worker:
        worker.run(worker.request("quick", conf={"data": 1}, api_url=api.url))
        worker.process.terminate()
        assert worker.process.wait(30) == 0
    assert len(api.states()) == 1


def _lose_caller_during_sleep(worker: Worker, api: Api, where: Path) -> int:
    with worker.stream(worker.request("sleeper", conf={"data": str(where)}, api_url=api.url)):
        pid = eventually(lambda: where.exists() and int(where.read_text() or 0))
    return int(pid)


def test_a_worker_that_lost_its_caller_goes_on_while_the_task_is_its_own(
    worker: Worker, api: Api, tmp_path: Path
) -> None:
    pid = _lose_caller_during_sleep(worker, api, tmp_path / "pid")
    eventually(lambda: ("PUT", "heartbeat") in api.calls)
    assert is_running(pid)
    os.kill(pid, signal.SIGKILL)  # its end is reported to the Execution API
    eventually(api.states)


def test_a_worker_that_lost_its_caller_stops_when_the_task_is_not_its_own(
    worker: Worker, api: Api, tmp_path: Path
) -> None:
    api.heartbeat_status = 409
    pid = _lose_caller_during_sleep(worker, api, tmp_path / "pid")
    eventually(lambda: not is_running(pid))
    assert api.states() == []


def test_a_task_without_a_caller_leaves_room_for_the_next(worker: Worker, api: Api, tmp_path: Path) -> None:
    pid = _lose_caller_during_sleep(worker, api, tmp_path / "pid")
    assert state_of(worker.run(worker.request("quick", conf={"data": 1}))) == "success"
    assert state_of(worker.run(worker.request("quick", conf={"data": 1}))) == "success"
    assert is_running(pid)


def test_a_worker_says_how_many_tasks_it_runs(worker: Worker, api: Api, tmp_path: Path) -> None:
    assert worker.http.get("/healthz").json()["tasks"] == 0
    pid = _lose_caller_during_sleep(worker, api, tmp_path / "pid")
    assert worker.http.get("/healthz").json()["tasks"] == 1
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: worker.http.get("/healthz").json()["tasks"] == 0)


def test_sigterm_ends_an_idle_worker_at_once_however_long_its_grace_period_is(tmp_path: Path) -> None:
    with Worker(tmp_path, PROBE, "probe", grace=600.0) as worker:
        assert state_of(worker.run(worker.request("quick", conf={"data": 1}))) == "success"
        assert worker.http.get("/healthz").status_code == 200  # over a connection that stays open
        worker.process.terminate()
        assert worker.process.wait(20) == 0


def test_sigterm_ends_a_worker_that_has_only_begun_to_start(tmp_path: Path) -> None:
    with Worker(tmp_path, PROBE, "probe", grace=600.0) as worker:  # it listens, but nobody is there to act on a signal
        worker.process.terminate()
        assert worker.process.wait(60) == 0
        assert "Traceback" not in worker.log.read_text()


def test_sigterm_waits_for_a_task_without_a_caller(tmp_path: Path, api: Api) -> None:
    with Worker(tmp_path, PROBE, "probe") as worker:
        pid = _lose_caller_during_sleep(worker, api, tmp_path / "pid")
        eventually(lambda: ("PUT", "heartbeat") in api.calls)
        worker.process.terminate()
        with pytest.raises(httpx.ConnectError):
            eventually(lambda: httpx.get(f"http://127.0.0.1:{worker.port}/readyz").status_code == 0)
        assert is_running(pid)
        os.kill(pid, signal.SIGKILL)
        eventually(api.states)
        assert worker.process.wait(30) == 0


def test_sigterm_lets_a_running_task_finish_and_refuses_new_work(tmp_path: Path) -> None:
    where = tmp_path / "pid"
    with (
        Worker(tmp_path, PROBE, "probe", slots=2) as worker,
        worker.stream(worker.request("sleeper", conf={"data": str(where)})) as response,
    ):
        pid = eventually(lambda: where.exists() and int(where.read_text() or 0))
        worker.process.terminate()
        with pytest.raises(httpx.ConnectError):
            eventually(lambda: httpx.get(f"http://127.0.0.1:{worker.port}/readyz").status_code == 0)
        os.kill(pid, signal.SIGKILL)
        answer = list(records(response))
        assert isinstance(answer[-1], Finished)
        assert worker.process.wait(30) == 0


def test_sigterm_reports_a_task_as_failed_when_the_grace_period_ends(tmp_path: Path) -> None:
    where = tmp_path / "pid"
    with (
        Worker(tmp_path, PROBE, "probe", grace=1.0) as worker,
        worker.stream(worker.request("sleeper", conf={"data": str(where)})) as response,
    ):
        eventually(lambda: where.exists() and where.read_text())
        worker.process.terminate()
        answer = list(records(response))
        assert state_of(answer) == "failed"
        assert worker.process.wait(30) == 0


def test_a_worker_tells_when_it_is_ready(worker: Worker) -> None:
    assert worker.http.get("/healthz").status_code == 200
    eventually(lambda: worker.http.get("/readyz").status_code == 200)


def test_a_dag_that_does_not_import_ends_the_worker(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import surely_not_a_module\n")
    worker = Worker(tmp_path, tmp_path / "broken.py", "broken")
    assert worker.process.wait(60) == 1
    assert "surely_not_a_module" in worker.log.read_text()


def test_a_worker_holds_no_database_variables(worker: Worker) -> None:
    request = worker.request("environment")
    results = {xcom.key: xcom.value for xcom in xcoms_of(request, worker.run(request))}
    environment = results["return_value"]
    # Airflow itself plants the two that block access.
    urls = {name: value for name, value in environment.items() if "SQL_ALCHEMY" in name}
    assert set(urls.values()) <= {"airflow-db-not-allowed:///"}
    assert not [name for name in environment if "FERNET" in name or "JWT" in name]


def _run_all(worker: Worker, tasks: list[tuple[str, int]], data: Any) -> dict[tuple[str, int], Any]:
    """Run the named (task, map index) pairs in their order and return their results."""
    xcoms: list[Any] = []
    for task_id, map_index in tasks:
        request: TaskRequest = worker.request(
            task_id, conf={"data": data}, map_index=map_index, inputs=known(xcoms, *(name for name, _ in tasks))
        )
        answer = worker.run(request)
        assert state_of(answer) == "success", answer
        xcoms += xcoms_of(request, answer)
    return {(xcom.task_id, xcom.map_index): xcom.value for xcom in xcoms}


ORDERS = {"1001": 301.27, "1002": 433.21, "1003": 502.22}
EXAMPLES: list[tuple[str, str, list[tuple[str, int]], Any, Any]] = [
    ("avg.py", "compute_avg", [("extract", -1), ("do_avg", -1)], [1, 2, 3, 4], 2.5),
    (
        "avg_distributed.py",
        "compute_avg_distributed",
        [("extract", -1), ("compute_count", -1), ("compute_sum", -1), ("do_avg", -1)],
        [1, 2, 3, 4],
        2.5,
    ),
    ("etl.py", "etl", [("extract", -1), ("transform", -1), ("load", -1)], ORDERS, None),
    (
        "etl_mapped.py",
        "etl_mapped",
        [("extract", -1), ("transform", 0), ("transform", 1), ("transform", 2), ("load", -1)],
        ORDERS,
        {"orders": 3, "total_order_value": 1236.7},
    ),
    ("../benchmarks/dags/benchmark.py", "benchmark_w1_d3", [("source", -1), ("step_1", -1), ("total", -1)], 5, 6),
]


@pytest.mark.parametrize("example", EXAMPLES, ids=[one[1] for one in EXAMPLES])
def test_every_example_runs_where_there_is_no_database_at_all(
    tmp_path: Path, example: tuple[str, str, list[tuple[str, int]], Any, Any]
) -> None:
    file, dag_id, tasks, data, output = example
    with Worker(tmp_path, Path(__file__).parents[2] / "workflows" / file, dag_id) as worker:
        result = _run_all(worker, tasks, data)[tasks[-1]]
        assert result == output if output is not None else result
