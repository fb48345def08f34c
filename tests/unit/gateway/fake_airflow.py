"""A small Airflow: the routes of its public API and auth manager that the gateway uses, with the same answers."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable

RETURN = "return_value"


@dataclass
class Outcome:
    """How a run ends. `values` has the XComs by task id, or by task id and map index for mapped tasks."""

    state: str = "success"
    returned: str | None = None
    values: dict[str, Any] = field(default_factory=dict)
    instances: dict[str, int] = field(default_factory=dict)
    failed: list[dict[str, Any]] = field(default_factory=list)
    logs: dict[tuple[str, int, int], list[dict[str, Any]]] = field(default_factory=dict)


@dataclass
class FakeDag:
    run: Callable[[Any], Outcome]
    downstream: dict[str, list[str]] = field(default_factory=dict)
    mapped: set[str] = field(default_factory=set)
    paused: bool = False
    duration: float = 0.0
    import_errors: bool = False


@dataclass
class FakeRun:
    dag_id: str
    run_id: str
    conf: Any
    outcome: Outcome
    ends: float

    def state(self, dag: FakeDag) -> str:
        if dag.paused:
            return "queued"
        return self.outcome.state if time.monotonic() >= self.ends else "running"


@dataclass
class User:
    number: int
    password: str
    rights: frozenset[str] = frozenset({"read", "run", "edit", "xcom"})


class FakeAirflow:
    def __init__(self) -> None:
        self.users = {"admin": User(1, "admin"), "viewer": User(2, "viewer", frozenset({"read", "xcom"}))}
        self.dags: dict[str, FakeDag] = {}
        self.runs: dict[tuple[str, str], FakeRun] = {}
        self.tokens: dict[str, User] = {}
        self.requests: list[str] = []
        self.intervals: list[float] = []
        self.headers: list[dict[str, str]] = []
        self.token_delay = 0.0
        self.token_lifetime = 3600.0
        self.take_tokens = True
        self.database = True
        self.refusal = 401
        self.overrides: dict[str, Callable[[web.Request], Any]] = {}
        """What to answer instead, by the last part of the path; None lets the call through."""
        self.url = ""
        self._numbers = itertools.count()
        self._runner: web.AppRunner | None = None
        self._changed = asyncio.Event()

    async def start(self, port: int = 0) -> None:
        app = web.Application(middlewares=[self._middleware], client_max_size=2**26)
        dag, run = "/api/v2/dags/{dag}", "/api/v2/dags/{dag}/dagRuns/{run}"
        instance = run + "/taskInstances/{task}"
        app.add_routes(
            [
                web.get("/api/v2/version", self._version),
                web.get("/api/v2/monitor/health", self._health),
                web.post("/auth/token", self._token),
                web.get(dag, self._show_dag),
                web.patch(dag, self._patch_dag),
                web.get(dag + "/tasks", self._tasks),
                web.post(dag + "/dagRuns", self._trigger),
                web.get(run, self._show_run),
                web.get(run + "/wait", self._wait),
                web.get(run + "/taskInstances", self._instances),
                web.get(instance + "/xcomEntries", self._xcoms),
                web.get(instance + "/logs/{try_number}", self._log),
            ]
        )
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def until(self, ready: Callable[[], object]) -> None:
        """Return when this has become true of what this Airflow was asked."""
        while not ready():
            self._changed.clear()
            await self._changed.wait()

    def count(self, what: str) -> int:
        return sum(request.endswith(what) for request in self.requests)

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path}")
        self.headers.append(dict(request.headers))
        override = self.overrides.get(request.path.rsplit("/", 1)[-1])
        if override is not None:
            answer = override(request)
            if asyncio.iscoroutine(answer):
                answer = await answer
            if answer is not None:
                return answer
        try:
            return await handler(request)
        except web.HTTPException as error:
            return web.json_response({"detail": error.text}, status=error.status)

    def _user(self, request: web.Request, right: str) -> User:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer":
            raise web.HTTPUnauthorized(text="Not authenticated")
        user = self.tokens.get(token)
        if user is None or not self.take_tokens:
            raise (
                web.HTTPUnauthorized(text="Token Expired")
                if self.refusal == 401
                else web.HTTPForbidden(text="Invalid JWT token")
            )
        if right not in user.rights:
            raise web.HTTPForbidden(text="Forbidden")
        return user

    def _dag(self, request: web.Request) -> FakeDag:
        dag_id = request.match_info["dag"]
        if dag_id not in self.dags:
            raise web.HTTPNotFound(text=f"The Dag with ID: `{dag_id}` was not found")
        return self.dags[dag_id]

    def _run(self, request: web.Request) -> FakeRun:
        dag_id, run_id = request.match_info["dag"], request.match_info["run"]
        if (dag_id, run_id) not in self.runs:
            raise web.HTTPNotFound(text=f"The DagRun with dag_id: `{dag_id}` and run_id: `{run_id}` was not found")
        return self.runs[dag_id, run_id]

    async def _version(self, _request: web.Request) -> web.Response:
        return web.json_response({"version": "3.3.2", "git_version": None})

    async def _health(self, _request: web.Request) -> web.Response:
        return web.json_response({"metadatabase": {"status": "healthy" if self.database else "unhealthy"}})

    async def _token(self, request: web.Request) -> web.Response:
        body = await request.json()
        await asyncio.sleep(self.token_delay)
        if not body.get("username") or not body.get("password"):
            raise web.HTTPBadRequest(text="Username and password must be provided")
        user = self.users.get(body["username"])
        if user is None or user.password != body["password"]:
            raise web.HTTPUnauthorized(text="Invalid credentials")
        token = self.issue(user)
        return web.json_response({"access_token": token}, status=201)

    def issue(self, user: User) -> str:
        claims = {"sub": str(user.number), "exp": time.time() + self.token_lifetime, "jti": next(self._numbers)}
        payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        token = f"header.{payload}.signature"
        self.tokens[token] = user
        return token

    async def _show_dag(self, request: web.Request) -> web.Response:
        self._user(request, "read")
        return web.json_response({"dag_id": request.match_info["dag"], "is_paused": self._dag(request).paused})

    async def _patch_dag(self, request: web.Request) -> web.Response:
        self._user(request, "edit")
        dag = self._dag(request)
        assert request.query["update_mask"] == "is_paused"
        dag.paused = (await request.json())["is_paused"]
        return web.json_response({"dag_id": request.match_info["dag"], "is_paused": dag.paused})

    async def _tasks(self, request: web.Request) -> web.Response:
        self._user(request, "read")
        dag = self._dag(request)
        tasks = [
            {"task_id": task, "downstream_task_ids": downstream, "is_mapped": task in dag.mapped}
            for task, downstream in dag.downstream.items()
        ]
        return web.json_response({"tasks": tasks, "total_entries": len(tasks)})

    async def _trigger(self, request: web.Request) -> web.Response:
        self._user(request, "run")
        dag_id = request.match_info["dag"]
        body = await request.json()
        assert body.keys() == {"dag_run_id", "logical_date", "conf"}
        assert body["logical_date"] is None
        if dag_id not in self.dags:
            raise web.HTTPNotFound(text=f"Dag with dag_id: '{dag_id}' not found")
        dag = self.dags[dag_id]
        if dag.import_errors:
            raise web.HTTPBadRequest(text=f"Dag with dag_id: '{dag_id}' has import errors and cannot be triggered")
        if (dag_id, body["dag_run_id"]) in self.runs:
            detail = {"reason": "Unique constraint violation", "statement": "hidden", "orig_error": "hidden"}
            return web.json_response({"detail": detail}, status=409)
        try:
            outcome = dag.run(body["conf"]["data"])
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"Invalid input for param data: {error}") from None
        run = FakeRun(dag_id, body["dag_run_id"], body["conf"], outcome, time.monotonic() + dag.duration)
        self.runs[dag_id, run.run_id] = run
        self._changed.set()
        return web.json_response(self._account(run, state="queued"))

    async def _show_run(self, request: web.Request) -> web.Response:
        self._user(request, "read")
        run = self._run(request)
        return web.json_response(self._account(run, state=run.state(self._dag(request))))

    def _account(self, run: FakeRun, *, state: str) -> dict[str, Any]:
        return {
            "dag_run_id": run.run_id,
            "dag_id": run.dag_id,
            "state": state,
            "conf": run.conf,
            "start_date": None if state == "queued" else "2026-01-02T03:04:05.678901Z",
            "end_date": "2026-01-02T03:04:06.678901Z" if state in {"success", "failed"} else None,
            "dag_versions": [{"id": f"version-of-{run.dag_id}", "version_number": 1}],
        }

    async def _wait(self, request: web.Request) -> web.StreamResponse:
        user = self._user(request, "read")
        interval = float(request.query["interval"])
        assert interval > 0
        tasks = request.query.getall("result", None)
        if "xcom" not in user.rights and tasks:
            raise web.HTTPForbidden(text="User is not authorized to read XCom data for this Dag")
        run, dag = self._run(request), self._dag(request)
        self.intervals.append(interval)
        self._changed.set()
        response = web.StreamResponse()
        await response.prepare(request)
        while (state := run.state(dag)) not in {"success", "failed"}:
            await response.write(json.dumps({"state": state}).encode() + b"\n")
            await asyncio.sleep(interval)
        line: dict[str, Any] = {"state": state}
        if tasks is None:
            tasks = [run.outcome.returned] if run.outcome.returned and "xcom" in user.rights else []
        if results := {task: _collected(run.outcome.values[task]) for task in tasks if task in run.outcome.values}:
            line["results"] = results
        text = json.dumps(line).encode()
        half = len(text) // 2
        await response.write(text[:half])
        await response.write(text[half:])
        await response.write(b"\n")
        return response

    async def _instances(self, request: web.Request) -> web.Response:
        self._user(request, "read")
        run = self._run(request)
        if task := request.query.get("task_id"):
            count = run.outcome.instances[task]
            items = [{"task_id": task, "map_index": index} for index in range(count)] or [
                {"task_id": task, "map_index": -1, "state": "skipped"}
            ]
        else:
            states = request.query.getall("state")
            items = [item for item in run.outcome.failed if item["state"] in states]
        limit = int(request.query["limit"])
        return web.json_response({"task_instances": items[:limit], "total_entries": len(items)})

    async def _xcoms(self, request: web.Request) -> web.Response:
        self._user(request, "xcom")
        assert request.query["xcom_key"] == RETURN
        assert request.query["order_by"] == "map_index"
        indexes = sorted(self._run(request).outcome.values.get(request.match_info["task"], {}))
        offset, limit = int(request.query["offset"]), int(request.query["limit"])
        entries = [{"map_index": index} for index in indexes[offset : offset + min(limit, 100)]]
        return web.json_response({"xcom_entries": entries, "total_entries": len(indexes)})

    async def _log(self, request: web.Request) -> web.Response:
        self._user(request, "read")
        assert request.headers["accept"] == "application/x-ndjson"
        key = (request.match_info["task"], int(request.match_info["try_number"]), int(request.query["map_index"]))
        logs = self._run(request).outcome.logs
        if key not in logs:
            raise web.HTTPNotFound(text="TaskInstance not found")
        text = "".join(json.dumps(record) + "\n" for record in logs[key])
        return web.Response(text=text, content_type="application/x-ndjson")


class Mapped(dict[int, Any]):
    """The values of a mapped task, by map index."""


def _collected(value: Any) -> Any:
    return [value[index] for index in sorted(value)] if isinstance(value, Mapped) else value
