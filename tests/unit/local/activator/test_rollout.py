from __future__ import annotations

import asyncio

import pytest

from .conftest import Bench, eventually

pytestmark = pytest.mark.asyncio


async def test_a_new_revision_takes_new_requests_while_the_old_one_finishes(bench: Bench) -> None:
    bench.service(max_scale=1)
    await bench.start()
    held = await bench.request("/hold", headers=bench.release_file())
    old = int((await held.content.readline()).split()[1])
    bench.service(max_scale=1, revision="2")
    await bench.reload()
    new = (await bench.ask())[1]["pid"]
    assert new != old
    assert bench.events("asked to end") == []
    bench.release()
    assert await held.content.read() == b"done\n"
    await eventually(lambda: [event["pid"] for event in bench.events("ended")] == [old])
    assert (await bench.ask())[1]["pid"] == new


async def test_an_idle_worker_of_the_old_revision_goes_at_once(bench: Bench) -> None:
    bench.service()
    await bench.start()
    old = (await bench.ask())[1]["pid"]
    bench.service(revision="2")
    await bench.reload()
    await eventually(lambda: [event["pid"] for event in bench.events("ended")] == [old])


async def test_a_request_that_waits_is_served_by_the_new_revision(bench: Bench) -> None:
    bench.service(env={"READY_AFTER": "1000"})
    await bench.start()
    waiting = asyncio.create_task(bench.ask())
    await eventually(lambda: bench.events("started"))
    bench.service(revision="2")
    await bench.reload()
    status, _ = await waiting
    assert status == 200


async def test_the_same_revision_keeps_its_workers(bench: Bench) -> None:
    bench.service()
    await bench.start()
    before = (await bench.ask())[1]["pid"]
    bench.service("another")
    await bench.reload()
    assert (await bench.ask())[1]["pid"] == before


async def test_a_removed_service_is_unknown_and_its_work_finishes(bench: Bench) -> None:
    bench.service()
    await bench.start()
    held = await bench.request("/hold", headers=bench.release_file())
    await held.content.readline()
    bench.services = []
    await bench.reload()
    assert (await bench.ask())[0] == 404
    bench.release()
    assert await held.content.read() == b"done\n"
    await eventually(lambda: bench.events("ended"))


async def test_an_added_service_is_served(bench: Bench) -> None:
    await bench.start()
    assert (await bench.ask())[0] == 404
    bench.service()
    await bench.reload()
    assert (await bench.ask())[0] == 200
