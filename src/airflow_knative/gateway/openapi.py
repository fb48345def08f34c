"""The OpenAPI 3.1 document of the gateway."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from airflow_knative import __version__
from airflow_knative.gateway.problems import KINDS, MEDIA_TYPE, type_uri

if TYPE_CHECKING:
    from airflow_knative.gateway.settings import Settings

__all__ = ["openapi_document"]

_STRING: Final = {"type": "string"}
_NULLABLE_TIME: Final = {"type": ["string", "null"], "format": "date-time"}
_RUN_ID: Final = {"type": "string", "minLength": 1, "maxLength": 250, "pattern": "^[^/]+$"}
_DAG_ID: Final = {"type": "string", "minLength": 1, "maxLength": 250, "pattern": r"^[A-Za-z0-9_.-]+$"}
_STATES: Final = ["queued", "running", "success", "failed"]

_RETRY_AFTER: Final = {
    "Retry-After": {"description": "Seconds after which to call again", "schema": {"type": "string"}}
}
_RUN_HEADERS: Final = {
    "Airflow-Run-Id": {"description": "Id of the run", "schema": _RUN_ID},
    "Preference-Applied": {"description": "Which preferences were followed (RFC 7240)", "schema": _STRING},
    "Idempotency-Replayed": {
        "description": "Present if an earlier call with the same Idempotency-Key started the run",
        "schema": {"type": "string", "const": "true"},
    },
}
_LINKS: Final = {
    "run": {
        "operationId": "showRun",
        "parameters": {"dag_id": "$response.body#/dag_id", "run_id": "$response.body#/run_id"},
        "description": "The run as it is then",
    }
}
_LOCATION: Final = {"Location": {"description": "Where to ask for the run", "schema": {"type": "string"}}}


def openapi_document(settings: Settings) -> dict[str, Any]:
    """Return the document for a gateway with these settings."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "airflow-knative gateway",
            "version": __version__,
            "summary": "One HTTP call is one workflow run",
            "description": (
                "Runs an Airflow DAG with the input of a call and answers with what it returns. Callers bring their "
                "own Airflow user and password; what they may do here is what they may do in Airflow."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"basic": []}, {"bearer": []}],
        "paths": {
            "/runWorkflow/{dag_id}": {"post": _run_workflow(settings)},
            "/runs/{dag_id}/{run_id}": {"get": _show_run()},
            "/healthz": {"get": _probe("Tell whether the gateway is alive", "healthz", "alive", problems=())},
            "/readyz": {
                "get": _probe("Tell whether Airflow answers", "readyz", "ready", problems=("airflow-unavailable",))
            },
            "/openapi.json": {"get": _document("This document", "openapi", "application/json", {"type": "object"})},
            "/docs": {"get": _document("This document for people", "docs", "text/html; charset=utf-8", _STRING)},
        },
        "components": {
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic", "description": "User and password at Airflow"},
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "Airflow token"},
            },
            "parameters": {
                "dag_id": _parameter("dag_id", "path", "The workflow: the dag_id of a DAG", _DAG_ID, required=True),
                "run_id": _parameter("run_id", "path", "The run", _RUN_ID, required=True),
            },
            "schemas": _schemas(),
        },
    }


def _run_workflow(settings: Settings) -> dict[str, Any]:
    longest = f"{settings.wait_timeout:g}"
    return {
        "operationId": "runWorkflow",
        "summary": "Run a workflow",
        "description": (
            "Starts a run with params['data'] set to the input and waits for it. "
            "If the caller hangs up, the run goes on."
        ),
        "parameters": [
            {"$ref": "#/components/parameters/dag_id"},
            _parameter(
                "Prefer",
                "header",
                f"wait=N: wait for N seconds, at most {longest}; respond-async: answer 202 at once; both: answer 202 "
                "after N seconds if the run has not ended by then",
                {"type": "string", "examples": ["respond-async", "wait=10", "respond-async, wait=5"]},
            ),
            _parameter(
                "Idempotency-Key",
                "header",
                "Calls of one user with the same key share one run of a workflow, whichever replica takes them",
                {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[!#-~]+$"},
            ),
        ],
        "requestBody": {
            "required": True,
            "description": f"The input, at most {settings.max_body_bytes} bytes of UTF-8",
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/Call"},
                    "example": {"input": [1, 2, 3, 4]},
                }
            },
        },
        "responses": {
            "200": _response("The run succeeded", "Output", headers=_RUN_HEADERS, example={"output": 2.5}),
            "202": _response("The run goes on", "Accepted", headers=_RUN_HEADERS | _LOCATION) | {"links": _LINKS},
            **_problems(set(KINDS) - {"unknown-path", "method-not-allowed"}),
        },
    }


def _show_run() -> dict[str, Any]:
    kinds = {
        "unauthenticated",
        "forbidden",
        "unknown-workflow",
        "unknown-run",
        "internal-error",
        "airflow-error",
        "output-unusable",
        "airflow-unavailable",
        "overloaded",
    }
    return {
        "operationId": "showRun",
        "summary": "Show a run",
        "description": "Tells the state of a run, its output once it has succeeded, and why it failed if it did.",
        "parameters": [{"$ref": "#/components/parameters/dag_id"}, {"$ref": "#/components/parameters/run_id"}],
        "responses": {"200": _response("The run as it is now", "Run"), **_problems(kinds)},
    }


def _probe(summary: str, operation_id: str, status: str, *, problems: tuple[str, ...]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"const": status}},
        "additionalProperties": False,
    }
    content = {"application/json": {"schema": schema}}
    return {
        "operationId": operation_id,
        "summary": summary,
        "security": [],
        "responses": {"200": {"description": f"It is {status}", "content": content}, **_problems(set(problems))},
    }


def _document(summary: str, operation_id: str, media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": operation_id,
        "summary": summary,
        "security": [],
        "responses": {"200": {"description": summary, "content": {media_type: {"schema": schema}}}},
    }


def _parameter(name: str, where: str, description: str, schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "in": where, "description": description, "schema": schema, **more}


def _response(
    description: str, schema: str, *, headers: dict[str, Any] | None = None, example: Any = None
) -> dict[str, Any]:
    media: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    if example is not None:
        media["example"] = example
    response: dict[str, Any] = {"description": description, "content": {"application/json": media}}
    if headers:
        response["headers"] = headers
    return response


def _problems(kinds: set[str]) -> dict[str, Any]:
    """Return one response for each status code that these kinds of problems have."""
    by_status: dict[HTTPStatus, list[str]] = {}
    for kind in KINDS:
        if kind in kinds:
            by_status.setdefault(KINDS[kind].status, []).append(kind)
    responses = {}
    for status, names in sorted(by_status.items()):
        schema = {
            "allOf": [{"$ref": "#/components/schemas/Problem"}],
            "properties": {"type": {"enum": [type_uri(name) for name in names]}, "status": {"const": int(status)}},
        }
        response: dict[str, Any] = {
            "description": "; or: ".join(KINDS[name].title for name in names),
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
        if status is HTTPStatus.UNAUTHORIZED:
            challenge = {"description": "How to authenticate", "required": True, "schema": _STRING}
            response["headers"] = {"WWW-Authenticate": challenge}
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            response["headers"] = _RETRY_AFTER
        responses[str(int(status))] = response
    return responses


def _schemas() -> dict[str, Any]:
    run = {"dag_id": _STRING, "run_id": _STRING, "state": {"type": "string", "enum": _STATES}}
    failed = {"type": ["array", "null"], "items": {"$ref": "#/components/schemas/FailedTask"}}
    return {
        "Call": _object({"input": {"description": "Any JSON value; null as well"}}, required=["input"]),
        "Output": _object({"output": {"description": "Any JSON value; null as well"}}, required=["output"]),
        "Accepted": _object(
            {**run, "location": {"type": "string", "description": "Path to ask for the run"}},
            required=["dag_id", "run_id", "state", "location"],
        ),
        "Run": _object(
            {
                **run,
                "start_date": _NULLABLE_TIME,
                "end_date": _NULLABLE_TIME,
                "output": {"description": "What the workflow returned; only there if it succeeded"},
                "detail": {"type": "string", "description": "Why the run failed; only there if it did"},
                "failed_tasks": failed,
            },
            required=["dag_id", "run_id", "state", "start_date", "end_date"],
        ),
        "FailedTask": _object(
            {
                "task_id": _STRING,
                "map_index": {"type": "integer", "minimum": -1, "description": "-1 for a task that is not mapped"},
                "state": {"type": ["string", "null"], "enum": ["failed", "upstream_failed"]},
                "tries": {"type": "integer", "minimum": 0},
                "error": {"type": ["string", "null"], "description": "Last error line of its log"},
            },
            required=["task_id", "map_index", "state", "tries", "error"],
        ),
        "Problem": {
            "type": "object",
            "description": "A problem document (RFC 9457)",
            "required": ["type", "title", "status", "detail"],
            "properties": {
                "type": {"type": "string", "format": "uri"},
                "title": _STRING,
                "status": {"type": "integer", "minimum": 400, "maximum": 599},
                "detail": {"type": "string", "description": "What happened to which thing, and what to do about it"},
                "dag_id": _STRING,
                "run_id": _STRING,
                "state": run["state"],
                "location": {"type": "string", "description": "Path to ask for the run"},
                "failed_tasks": failed,
                "max_body_bytes": {"type": "integer"},
            },
        },
    }


def _object(properties: dict[str, Any], *, required: list[str]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}
