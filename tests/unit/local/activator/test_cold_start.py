from __future__ import annotations

import asyncio

import pytest

from .conftest import Bench, eventually

pytestmark = pytest.mark.asyncio


async def test_the_first_request_starts_a_worker_and_is_answered_by_it(bench: Bench) -> None:
    bench.service()
    await bench.start()
    assert await bench.workers() == []
    status, answer = await bench.ask("/run?x=%20y", data=b"payload", headers={"X-Mark": "1"})
    assert status == 200
    assert (answer["path"], answer["body"], answer["headers"]["x-mark"]) == ("/run?x=%20y", "payload", "1")
    assert answer["headers"]["host"] == "svc.airflow.local"
    [worker] = await bench.workers()
    assert (worker["pid"], worker["state"], worker["served"]) == (answer["pid"], "ready", 1)


async def test_requests_wait_until_the_worker_is_ready(bench: Bench) -> None:
    bench.service(env={"READY_AFTER": "0.3"}, slots=5)
    await bench.start()
    answers = await asyncio.gather(*(bench.ask() for _ in range(5)))
    assert {status for status, _ in answers} == {200}
    assert len({answer["pid"] for _, answer in answers}) == 1
    assert len(bench.events("started")) == 1


async def test_the_next_request_finds_the_worker_warm(bench: Bench) -> None:
    bench.service()
    await bench.start()
    pids = {(await bench.ask())[1]["pid"] for _ in range(3)}
    assert len(pids) == 1
    assert len(bench.events("started")) == 1


async def test_a_get_makes_a_worker_warm_without_running_anything(bench: Bench) -> None:
    bench.service()
    await bench.start()
    status, _ = await bench.ask("/healthz", method="GET")
    assert status == 200
    assert len(await bench.workers()) == 1


async def test_a_worker_gets_only_what_it_needs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://secret")
    (bench.secrets / "shop.env").write_text("# made by hand\nTOKEN=a=b\n\n")
    bench.service(slots=3, env={"COLOUR": "red"}, secrets=("shop",))
    await bench.start()
    _, answer = await bench.ask()
    environment = answer["environment"]
    wanted = {
        "K_SERVICE": "svc",
        "AIRFLOW_KNATIVE_WORKER_DAG_FILE": "d.py",
        "AIRFLOW_KNATIVE_WORKER_DAG_ID": "d",
        "AIRFLOW_KNATIVE_WORKER_TASK_ID": "t",
        "AIRFLOW_KNATIVE_WORKER_SLOTS": "3",
        "COLOUR": "red",
        "TOKEN": "a=b",
    }
    assert {name: environment.get(name) for name in wanted} == wanted
    assert "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" not in environment


async def test_a_service_of_a_whole_dag_names_no_task(bench: Bench) -> None:
    bench.service(task_id=None)
    await bench.start()
    _, answer = await bench.ask()
    assert "AIRFLOW_KNATIVE_WORKER_TASK_ID" not in answer["environment"]


async def test_a_worker_that_ends_before_it_is_ready_is_told_with_its_last_words(bench: Bench) -> None:
    bench.service(env={"FAIL": "1"})
    await bench.start()
    status, problem = await bench.ask()
    assert status == 502
    assert "exit code 3" in problem["detail"]
    assert "the DAG cannot be imported" in problem["output"]
    assert "exit code 3" in (await bench.status())["failure"]
    assert await bench.workers() == []


async def test_all_that_wait_for_a_failed_start_are_told(bench: Bench) -> None:
    bench.service(env={"FAIL": "1"}, max_scale=1)
    await bench.start()
    answers = await asyncio.gather(*(bench.ask() for _ in range(4)))
    assert {status for status, _ in answers} == {502}


async def test_a_worker_that_is_never_ready_is_stopped(bench: Bench) -> None:
    bench.tune(ready_timeout=0.5)
    bench.service(env={"READY_AFTER": "1000"})
    await bench.start()
    status, problem = await bench.ask()
    assert status == 504
    assert "not ready within 0.5 s" in problem["detail"]
    assert await bench.workers() == []
    assert len(bench.events("asked to end")) == 1


async def test_a_missing_secret_is_named(bench: Bench) -> None:
    bench.service(secrets=("shop",))
    await bench.start()
    status, problem = await bench.ask()
    assert status == 502
    assert "'shop'" in problem["detail"]
    assert str(bench.secrets / "shop.env") in problem["detail"]


async def test_min_scale_is_warm_without_any_request(bench: Bench) -> None:
    bench.service(min_scale=2, window=0.2)
    await bench.start()

    async def two_ready() -> bool:
        return [worker["state"] for worker in await bench.workers()] == ["ready", "ready"]

    await eventually(two_ready)
    await asyncio.sleep(0.6)
    assert await two_ready()
    assert bench.events("asked to end") == []


async def test_a_dead_worker_of_min_scale_is_replaced(bench: Bench) -> None:
    bench.service(min_scale=1)
    await bench.start()
    first = (await bench.ask())[1]["pid"]
    status, problem = await bench.ask("/die-early")
    assert status == 502
    assert "ended with 7" in problem["detail"] or "broke the connection off" in problem["detail"]
    second = await eventually(lambda: _ready_pid(bench, first))
    assert second != first


async def _ready_pid(bench: Bench, not_this: int) -> int | None:
    ready = [worker["pid"] for worker in await bench.workers() if worker["state"] == "ready"]
    return next((pid for pid in ready if pid != not_this), None)
