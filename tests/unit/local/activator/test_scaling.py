from __future__ import annotations

import asyncio

import pytest

from .conftest import Bench, eventually

pytestmark = pytest.mark.asyncio


async def hold(bench: Bench, started: list[str], name: str = "release") -> str:
    async with bench.request("/hold", headers=bench.release_file(name)) as response:
        started.append((await response.content.readline()).decode().split()[1])
        return (await response.content.read()).decode()


async def test_a_worker_takes_no_more_than_its_slots_and_more_workers_start(bench: Bench) -> None:
    bench.service(slots=2, max_scale=3)
    await bench.start()
    started: list[str] = []
    tasks = [asyncio.create_task(hold(bench, started)) for _ in range(6)]
    await eventually(lambda: len(started) == 6)
    assert sorted(started.count(pid) for pid in set(started)) == [2, 2, 2]
    bench.release()
    assert await asyncio.gather(*tasks) == ["done\n"] * 6


async def test_a_worker_that_is_up_soon_has_room_so_no_other_starts_at_once(bench: Bench) -> None:
    bench.service(slots=1, max_scale=2)
    await bench.start()
    started: list[str] = []
    first = asyncio.create_task(hold(bench, started))
    await eventually(lambda: started)
    second = asyncio.create_task(bench.ask())

    async def it_waits() -> bool:
        return (await bench.status())["waiting"] == 1

    await eventually(it_waits)
    assert len(await bench.workers()) == 1
    bench.release()
    assert str((await second)[1]["pid"]) == started[0]
    await first
    await asyncio.sleep(0.4)
    assert len(await bench.workers()) == 1


async def test_another_worker_starts_for_a_request_that_has_waited(bench: Bench) -> None:
    bench.service(slots=1, max_scale=2)
    await bench.start()
    started: list[str] = []
    first = asyncio.create_task(hold(bench, started))
    await eventually(lambda: started)
    assert str((await bench.ask())[1]["pid"]) != started[0]
    bench.release()
    await first


async def test_no_more_workers_than_max_scale_and_the_rest_wait_in_order(bench: Bench) -> None:
    bench.service(slots=1, max_scale=2)
    await bench.start()
    started: list[str] = []
    tasks = [asyncio.create_task(hold(bench, started, f"r{number}")) for number in range(4)]
    await eventually(lambda: len(started) == 2)
    await asyncio.sleep(0.2)
    status = await bench.status()
    assert (len(status["workers"]), status["waiting"], len(started)) == (2, 2, 2)
    for number in range(4):
        bench.release(f"r{number}")
    assert await asyncio.gather(*tasks) == ["done\n"] * 4
    assert len(set(started)) == 2


async def test_a_free_slot_goes_to_the_one_that_waited_longest(bench: Bench) -> None:
    bench.service(max_scale=1)
    await bench.start()
    order: list[int] = []

    async def one(number: int) -> None:
        async with bench.request("/hold", headers=bench.release_file()) as response:
            await response.content.readline()
            order.append(number)
            await response.content.read()

    tasks = []
    for number in range(4):
        tasks.append(asyncio.create_task(one(number)))
        await asyncio.sleep(0.05)
    bench.release()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3]


async def test_too_many_waiting_are_refused_with_retry_after(bench: Bench) -> None:
    bench.limits["queue_limit"] = 2
    bench.service(max_scale=1)
    await bench.start()
    started: list[str] = []
    held = asyncio.create_task(hold(bench, started))
    await eventually(lambda: started)
    waiting = [asyncio.create_task(bench.ask()) for _ in range(2)]

    async def two_wait() -> bool:
        return (await bench.status())["waiting"] == 2

    await eventually(two_wait)
    async with bench.request("/any") as response:
        assert response.status == 503
        assert response.headers["Retry-After"] == "1"
        assert response.content_type == "application/problem+json"
    bench.release()
    assert [status for status, _ in await asyncio.gather(*waiting)] == [200, 200]
    await held


async def test_an_idle_worker_is_stopped_after_its_window(bench: Bench) -> None:
    bench.service(window=0.3)
    await bench.start()
    first = (await bench.ask())[1]["pid"]
    await eventually(lambda: bench.events("ended"))
    assert bench.events("asked to end")[0]["pid"] == first

    async def none_left() -> bool:
        return await bench.workers() == []

    await eventually(none_left)
    assert (await bench.ask())[1]["pid"] != first


async def test_a_busy_worker_is_not_idle(bench: Bench) -> None:
    bench.service(window=0.2)
    await bench.start()
    started: list[str] = []
    held = asyncio.create_task(hold(bench, started))
    await eventually(lambda: started)
    await asyncio.sleep(0.6)
    assert bench.events("asked to end") == []
    bench.release()
    assert await held == "done\n"


async def begin_alone(bench: Bench) -> None:
    """Start a task, and leave it."""
    async with bench.request("/alone", headers=bench.release_file()) as response:
        await response.content.readline()
    await eventually(lambda: bench.events("request /alone"))


async def test_a_task_without_a_caller_keeps_its_worker_from_being_idle(bench: Bench) -> None:
    bench.service(window=0.2)
    await bench.start()
    await begin_alone(bench)
    await asyncio.sleep(0.8)
    assert bench.events("asked to end") == []
    assert (await bench.workers())[0]["state"] == "ready"
    bench.release()
    await eventually(lambda: bench.events("ended"))


async def test_a_worker_of_an_old_revision_finishes_a_task_without_a_caller(bench: Bench) -> None:
    bench.service()
    await bench.start()
    await begin_alone(bench)

    async def it_is_free() -> bool:
        return (await bench.workers())[0]["in_use"] == 0

    await eventually(it_is_free)
    bench.service(revision="2")
    await bench.reload()
    await asyncio.sleep(0.3)
    assert bench.events("asked to end") == []
    bench.release()
    await eventually(lambda: bench.events("ended"))


async def test_stopping_the_activator_does_not_wait_for_a_task_without_a_caller(bench: Bench) -> None:
    bench.service()
    await bench.start()
    await begin_alone(bench)
    bench.activator.stop()
    await eventually(lambda: bench.events("asked to end"))
    bench.release()
    await eventually(lambda: bench.events("ended"))


async def test_a_worker_that_does_not_end_when_asked_is_killed(bench: Bench) -> None:
    bench.tune(grace=0.3)
    bench.service(window=0.1, env={"IGNORE_TERM": "1"})
    await bench.start()
    await bench.ask()

    async def none_left() -> bool:
        return await bench.workers() == []

    await eventually(none_left)
    assert len(bench.events("asked to end")) == 1
    assert bench.events("ended") == []


async def test_starts_are_limited_across_services_and_work_goes_before_warming(bench: Bench) -> None:
    bench.limits["starts_at_once"] = 1
    for name in ("first", "nudged", "wanted"):
        bench.service(name, env={"READY_AFTER": "0.3"})
    await bench.start()
    tasks = [asyncio.create_task(bench.ask(service="first"))]
    await eventually(lambda: bench.events("started"))
    tasks.append(asyncio.create_task(bench.ask("/healthz", service="nudged", method="GET")))
    await asyncio.sleep(0.05)
    tasks.append(asyncio.create_task(bench.ask(service="wanted")))
    await asyncio.sleep(0.05)
    assert len(bench.events("started")) == 1
    await asyncio.gather(*tasks)
    assert [event["service"] for event in bench.events("started")] == ["first", "wanted", "nudged"]


async def test_stopping_the_activator_ends_all_workers_and_lets_work_finish(bench: Bench) -> None:
    bench.service(max_scale=2)
    await bench.start()
    started: list[str] = []
    held = asyncio.create_task(hold(bench, started))
    await eventually(lambda: started)
    bench.activator.stop()
    await eventually(lambda: bench.events("asked to end"))
    bench.release()
    assert await held == "done\n"
    await eventually(lambda: bench.events("ended"))
