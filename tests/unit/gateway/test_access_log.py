from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from airflow_knative.gateway.accesslog import JsonFormatter

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from .fake_airflow import FakeAirflow

pytestmark = pytest.mark.asyncio

SECRET = "hunter2-hunter2"


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[dict[str, Any]]]:
    caplog.set_level(logging.DEBUG)

    def read() -> list[dict[str, Any]]:
        formatter = JsonFormatter()
        return [
            json.loads(formatter.format(record))
            for record in caplog.records
            if record.name.startswith("airflow_knative")
        ]

    return read


async def test_one_line_for_each_call(
    client: httpx.AsyncClient, airflow: FakeAirflow, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    await client.post("/runWorkflow/avg", json={"input": [1]})
    ((_, run_id),) = airflow.runs
    (line,) = lines()
    assert line["event"] == "call"
    assert (line["method"], line["path"]) == ("POST", "/runWorkflow")
    assert (line["dag_id"], line["run_id"], line["status"]) == ("avg", run_id, 200)
    assert line["level"] == "info"
    assert line["ms"] > 0


async def test_errors_are_logged_with_what_is_known(
    client: httpx.AsyncClient, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    await client.post("/runWorkflow/fails", json={"input": [1]})
    await client.get("/runs/avg/nope")
    await client.get("/nope")
    failed, unknown, nothing = lines()
    assert failed["status"] == 422
    assert failed["run_id"].startswith("gateway__")
    assert (unknown["dag_id"], unknown["run_id"], unknown["status"]) == ("avg", "nope", 404)
    assert "dag_id" not in nothing


async def test_probes_are_logged_at_debug_level(
    client: httpx.AsyncClient, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    await client.get("/healthz")
    assert [line["level"] for line in lines()] == ["debug"]


async def test_what_callers_send_is_never_logged(
    client: httpx.AsyncClient, airflow: FakeAirflow, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    airflow.users["admin"].password = SECRET
    auth = ("admin", SECRET)
    await client.post("/runWorkflow/avg?token=" + SECRET, json={"input": [1]}, auth=auth)
    await client.post("/runWorkflow/avg", json={"input": SECRET}, auth=("admin", "wrong-" + SECRET))
    await client.post("/runWorkflow/" + SECRET + "%20", json={"input": SECRET}, auth=auth)
    token = airflow.issue(airflow.users["admin"])
    await client.get("/runs/avg/x", headers={"authorization": f"Bearer {token}"}, auth=lambda request: request)
    formatter = JsonFormatter()
    ours = [record for record in caplog.records if record.name.startswith(("airflow_knative", "uvicorn"))]
    text = "".join(formatter.format(record) for record in ours)
    assert len(ours) == 4
    assert SECRET not in text
    assert token not in text


async def test_a_line_is_one_line() -> None:
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, "two\nlines", (), None)
    assert "\n" not in JsonFormatter().format(record)
