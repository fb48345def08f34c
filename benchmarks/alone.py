"""The gateway alone: what it adds to a call, before an Airflow that answers by itself.

The stand-in takes half a second for a run, and says for each run how long it had it: from the arrival of the trigger
to the last line of the wait. What a caller waits beyond that is the gateway's own share, with the network's and the
caller's.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp import web

from airflow_knative.local.ports import free_port
from benchmarks import processes
from benchmarks.samples import percentile

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["measure"]

_RUN_SECONDS: Final = 0.5
_DAG: Final = "stand_in"


class _StandIn:
    """The calls of Airflow's API that one call of the gateway makes."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}
        self.had: dict[str, float] = {}

    def app(self) -> web.Application:
        app = web.Application()
        runs = f"/api/v2/dags/{_DAG}/dagRuns"
        app.add_routes(
            [
                web.get("/api/v2/version", self._version),
                web.post("/auth/token", self._token),
                web.get(f"/api/v2/dags/{_DAG}", self._dag),
                web.post(runs, self._trigger),
                web.get(runs + "/{run}/wait", self._wait),
            ]
        )
        return app

    async def _version(self, _request: web.Request) -> web.Response:
        return web.json_response({"version": "3.3.2"})

    async def _token(self, _request: web.Request) -> web.Response:
        claims = json.dumps({"sub": "1", "exp": time.time() + 3600}).encode()
        token = f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.x"
        return web.json_response({"access_token": token}, status=201)

    async def _dag(self, _request: web.Request) -> web.Response:
        return web.json_response({"dag_id": _DAG, "is_paused": False})

    async def _trigger(self, request: web.Request) -> web.Response:
        now = time.perf_counter()
        body = await request.json()
        self.began[body["dag_run_id"]] = now
        versions = [{"id": "1", "version_number": 1}]
        return web.json_response(
            {"dag_run_id": body["dag_run_id"], "dag_id": _DAG, "state": "queued", "conf": body["conf"]}
            | {"start_date": None, "end_date": None, "dag_versions": versions}
        )

    async def _wait(self, request: web.Request) -> web.StreamResponse:
        run = request.match_info["run"]
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"state":"running"}\n')
        await asyncio.sleep(max(0.0, self.began[run] + _RUN_SECONDS - time.perf_counter()))
        self.had[run] = time.perf_counter() - self.began[run]
        # The gateway may have begun another wait for the run, with another interval.
        with contextlib.suppress(ConnectionResetError):
            await response.write(b'{"state":"success","results":{"only":2.5}}\n')
        return response


def measure(*, calls: int, at_once: int) -> tuple[list[float], float, dict[str, Any]]:
    """Return the gateway's share of each call in milliseconds, its processor time a call, and further figures."""
    return asyncio.run(_measure(calls, at_once))


async def _measure(calls: int, at_once: int) -> tuple[list[float], float, dict[str, Any]]:
    stand_in = _StandIn()
    runner = web.AppRunner(stand_in.app())
    await runner.setup()
    port, gateway_port = free_port(), free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    gateway = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-m", "airflow_knative.gateway"],
        env=_environment(port, gateway_port),
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession(
            f"http://127.0.0.1:{gateway_port}",
            auth=aiohttp.BasicAuth("admin", "admin"),
            connector=aiohttp.TCPConnector(limit=0),
        ) as session:
            await _until_ready(session, gateway)
            await _call(session, calls=at_once, at_once=at_once)
            before = processes.cpu_ms([gateway.pid])
            took = await _call(session, calls=calls, at_once=at_once)
            cpu = (processes.cpu_ms([gateway.pid]) - before) / calls
    finally:
        gateway.terminate()
        gateway.wait()
        await runner.cleanup()
    shares = [milliseconds - stand_in.had[run] * 1000 for run, milliseconds in took]
    return shares, cpu, {"p99_ms": round(percentile(sorted(shares), 0.99), 1)}


def _environment(port: int, gateway_port: int) -> Mapping[str, str]:
    own = {
        "AIRFLOW_KNATIVE_GATEWAY_HOST": "127.0.0.1",
        "AIRFLOW_KNATIVE_GATEWAY_PORT": str(gateway_port),
        "AIRFLOW_KNATIVE_GATEWAY_AIRFLOW_URL": f"http://127.0.0.1:{port}",
    }
    return {**{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}, **own}


async def _until_ready(session: aiohttp.ClientSession, gateway: subprocess.Popen[bytes]) -> None:
    while True:
        try:
            async with session.get("/readyz") as answer:
                if answer.ok:
                    return
        except aiohttp.ClientError:
            pass
        if gateway.poll() is not None:
            sys.exit(f"The gateway ended with {gateway.returncode}")
        await asyncio.sleep(0.05)


async def _call(session: aiohttp.ClientSession, *, calls: int, at_once: int) -> list[tuple[str, float]]:
    """Make calls, `at_once` at a time; return the run id and the milliseconds of each."""
    took: list[tuple[str, float]] = []
    left = iter(range(calls))

    async def caller(number: int) -> None:
        # Spread over the length of a run: callers do not know of each other.
        await asyncio.sleep(_RUN_SECONDS * number / at_once)
        for _ in left:
            begun = time.perf_counter()
            async with session.post(f"/runWorkflow/{_DAG}", json={"input": [1, 2, 3, 4]}) as answer:
                text = await answer.text()
                if answer.status != 200:  # noqa: PLR2004
                    sys.exit(f"The gateway answered {answer.status}: {text}")
                took.append((answer.headers["airflow-run-id"], (time.perf_counter() - begun) * 1000))

    await asyncio.gather(*(caller(number) for number in range(at_once)))
    return took
