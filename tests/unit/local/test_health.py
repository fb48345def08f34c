from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest_asyncio
from aiohttp import web

from airflow_knative.local.health import Health
from airflow_knative.local.secrets import Secrets
from airflow_knative.local.settings import LocalSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Airflow:
    """Answers what is asked of Airflow's API: the ids of its DAGs in pages, and a token."""

    def __init__(self) -> None:
        self.ids = [f"dag_{number:03}" for number in range(116)]
        self.added_after_a_page: list[str] = []
        self.pages = 0

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/auth/token":
            return web.json_response({"access_token": "token"})
        assert request.path == "/api/v2/dags"
        self.pages += 1
        limit, offset = int(request.query["limit"]), int(request.query["offset"])
        answer: dict[str, Any] = {
            "dags": [{"dag_id": dag_id} for dag_id in self.ids[offset : offset + limit]],
            "total_entries": len(self.ids),
        }
        self.ids = sorted([*self.ids, *self.added_after_a_page])
        self.added_after_a_page = []
        return web.json_response(answer)


@pytest_asyncio.fixture
async def airflow() -> Airflow:
    return Airflow()


@pytest_asyncio.fixture
async def health(airflow: Airflow, tmp_path: Path) -> AsyncIterator[Health]:
    runner = web.ServerRunner(web.Server(airflow.serve, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    settings = LocalSettings(workflows=tmp_path, api_port=runner.addresses[0][1])
    asking = Health(settings, Secrets.make(), tmp_path / "activator")
    yield asking
    await asking.close()
    await runner.cleanup()


async def test_every_page_of_dags_is_read(airflow: Airflow, health: Health) -> None:
    assert await health.parsed_dags() == set(airflow.ids)
    assert airflow.pages == 2


async def test_dags_that_come_between_two_pages_do_not_hold_it_up(airflow: Airflow, health: Health) -> None:
    airflow.added_after_a_page = ["a_new_one"]
    before = set(airflow.ids)
    assert await health.parsed_dags() == before
    assert airflow.pages == 2
    assert await health.parsed_dags() == before | {"a_new_one"}
