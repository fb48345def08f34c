"""The ASGI app of the gateway."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_knative.gateway.accesslog import AccessLog
from airflow_knative.gateway.airflow import Airflow, AirflowError
from airflow_knative.gateway.auth import TokenCache, exchange
from airflow_knative.gateway.calls import Calls, closed_by_caller
from airflow_knative.gateway.deadlines import Deadlines
from airflow_knative.gateway.openapi import openapi_document
from airflow_knative.gateway.outputs import Outputs
from airflow_knative.gateway.pace import Pace
from airflow_knative.gateway.page import docs_page
from airflow_knative.gateway.payload import compact
from airflow_knative.gateway.problems import ProblemError, problem_response
from airflow_knative.gateway.runs import Runner

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from airflow_knative.gateway.settings import Settings

__all__ = ["Gateway", "create_app"]

_PATHS: Final = "POST /runWorkflow/<dag_id>, GET /runs/<dag_id>/<run_id>, /docs, /openapi.json, /healthz and /readyz"
_READY_FOR: Final = 1.0
_PAGE_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


class Gateway:
    """What lives as long as the gateway's process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.deadlines = Deadlines()
        self.calls: Calls | None = None
        self._airflow: Airflow | None = None
        self._ready: asyncio.Task[str | None] | None = None
        self._ready_at = 0.0

    @asynccontextmanager
    async def lifespan(self, _app: Starlette | None = None) -> AsyncIterator[None]:
        """Keep connections to Airflow for as long as the app runs."""
        settings = self.settings
        airflow = self._airflow = Airflow(settings)
        tokens = TokenCache(partial(exchange, airflow), size=settings.token_cache_size, ttl=settings.token_ttl)
        pace = Pace(shortest=settings.poll_min, longest=settings.poll_max, rate=settings.poll_rate)
        self.calls = Calls(
            settings=settings,
            airflow=airflow,
            tokens=tokens,
            runner=Runner(airflow, pace, unpause=settings.unpause, unpaused_ttl=settings.unpaused_ttl),
            outputs=Outputs(airflow),
            deadlines=self.deadlines,
        )
        try:
            yield
        finally:
            await airflow.close()

    async def run_workflow(self, request: Request) -> Response:
        """Answer `POST /runWorkflow/<dag_id>`."""
        return await self._calls().run_workflow(request)

    async def show_run(self, request: Request) -> Response:
        """Answer `GET /runs/<dag_id>/<run_id>`."""
        return await self._calls().show_run(request)

    async def healthz(self, _request: Request) -> Response:
        """Answer `GET /healthz`: the process is alive."""
        return JSONResponse({"status": "alive"})

    async def readyz(self, _request: Request) -> Response:
        """Answer `GET /readyz`: Airflow's API server answers. It is asked at most once a second."""
        now = time.monotonic()
        if self._ready is None or (self._ready.done() and now - self._ready_at >= _READY_FOR):
            self._ready_at = now
            self._ready = asyncio.create_task(self._ping())
        reason = await asyncio.shield(self._ready)
        if reason is not None:
            raise ProblemError("airflow-unavailable", reason, headers={"retry-after": "1"})
        return JSONResponse({"status": "ready"})

    async def _ping(self) -> str | None:
        if self._airflow is None:
            return "The gateway has not begun yet."
        try:
            await self._airflow.ping()
        except AirflowError as error:
            return str(error)
        return None

    def _calls(self) -> Calls:
        if self.calls is None:
            raise RuntimeError("The app's lifespan has not begun; an ASGI server that runs lifespans has to run it.")
        return self.calls


def create_app(settings: Settings, gateway: Gateway | None = None) -> ASGIApp:
    """Return the ASGI app of a gateway with these settings.

    Args:
        settings: The settings.
        gateway: What is to live as long as the app; by default one of its own.
    """
    gateway = gateway or Gateway(settings)
    description = openapi_document(settings)
    document = compact(description)
    page = docs_page(description)

    async def openapi(_request: Request) -> Response:
        return Response(document, media_type="application/json")

    async def docs(_request: Request) -> Response:
        return Response(page, media_type="text/html", headers={"content-security-policy": _PAGE_POLICY})

    app = Starlette(
        routes=[
            Route("/runWorkflow/{dag_id}", gateway.run_workflow, methods=["POST"]),
            Route("/runs/{dag_id}/{run_id}", gateway.show_run, methods=["GET"]),
            Route("/openapi.json", openapi, methods=["GET"]),
            Route("/docs", docs, methods=["GET"]),
            Route("/healthz", gateway.healthz, methods=["GET"]),
            Route("/readyz", gateway.readyz, methods=["GET"]),
        ],
        exception_handlers={
            ProblemError: _on_problem,
            HTTPException: _on_http_exception,
            ClientDisconnect: _on_disconnect,
            Exception: _on_defect,
        },
        lifespan=gateway.lifespan,
    )
    # A redirect would make clients send a POST again, as a GET.
    app.router.redirect_slashes = False
    return AccessLog(app)


def _on_problem(_request: Request, error: Exception) -> Response:
    if not isinstance(error, ProblemError):  # Starlette chose this handler by the type
        raise error
    return problem_response(error)


def _on_http_exception(request: Request, error: Exception) -> Response:
    """Answer what Starlette's routing refuses."""
    allow = getattr(error, "headers", None) or {}
    if getattr(error, "status_code", None) == HTTPStatus.METHOD_NOT_ALLOWED:
        methods = allow.get("Allow", "")
        detail = f"This path does not take {request.method}; allowed is {methods}."
        return problem_response(ProblemError("method-not-allowed", detail, headers={"allow": methods}))
    return problem_response(ProblemError("unknown-path", f"There is nothing at this path. There are: {_PATHS}."))


def _on_disconnect(_request: Request, _error: Exception) -> Response:
    return closed_by_caller()


def _on_defect(_request: Request, _error: Exception) -> Response:
    """Answer a call that ran into a defect; the exception itself goes to the log."""
    return problem_response(
        ProblemError("internal-error", "The gateway's log has the exception at this time. Please report it.")
    )
