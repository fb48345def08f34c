"""Error answers: problem documents as RFC 9457 describes them."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from starlette.responses import Response

from airflow_knative.errors import AirflowKnativeError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KINDS", "MEDIA_TYPE", "Kind", "ProblemError", "problem_response", "type_uri"]

MEDIA_TYPE: Final = "application/problem+json"


class Kind(NamedTuple):
    """A kind of problem: its status code and its title, which is the same for every occurrence."""

    status: HTTPStatus
    title: str


KINDS: Final[Mapping[str, Kind]] = {
    "malformed-request": Kind(HTTPStatus.BAD_REQUEST, "The request is malformed"),
    "input-refused": Kind(HTTPStatus.BAD_REQUEST, "Airflow refused to start a run with this input"),
    "unauthenticated": Kind(HTTPStatus.UNAUTHORIZED, "Airflow does not know this caller"),
    "forbidden": Kind(HTTPStatus.FORBIDDEN, "The caller may not do this"),
    "unknown-workflow": Kind(HTTPStatus.NOT_FOUND, "There is no such workflow"),
    "unknown-run": Kind(HTTPStatus.NOT_FOUND, "There is no such run"),
    "unknown-path": Kind(HTTPStatus.NOT_FOUND, "There is nothing at this path"),
    "method-not-allowed": Kind(HTTPStatus.METHOD_NOT_ALLOWED, "The path does not take this method"),
    "workflow-paused": Kind(HTTPStatus.CONFLICT, "The workflow is paused"),
    "workflow-broken": Kind(HTTPStatus.CONFLICT, "The workflow cannot be run as it is"),
    "body-too-large": Kind(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large"),
    "unsupported-media-type": Kind(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body is not JSON"),
    "run-failed": Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The run failed"),
    "idempotency-key-reused": Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The idempotency key belongs to another input"),
    "internal-error": Kind(HTTPStatus.INTERNAL_SERVER_ERROR, "The gateway has a defect"),
    "airflow-error": Kind(HTTPStatus.BAD_GATEWAY, "Airflow's answer cannot be used"),
    "output-unusable": Kind(HTTPStatus.BAD_GATEWAY, "The run succeeded, but its output cannot be passed on"),
    "airflow-unavailable": Kind(HTTPStatus.SERVICE_UNAVAILABLE, "Airflow does not answer"),
    "overloaded": Kind(HTTPStatus.SERVICE_UNAVAILABLE, "The gateway has as many calls as it takes"),
    "shutting-down": Kind(HTTPStatus.SERVICE_UNAVAILABLE, "The gateway is shutting down"),
    "wait-ended": Kind(HTTPStatus.GATEWAY_TIMEOUT, "The run has not ended yet"),
}


def type_uri(kind: str) -> str:
    """Return the URI that identifies a kind of problem, the `type` member of its documents."""
    return f"urn:airflow-knative:problem:{kind}"


class ProblemError(AirflowKnativeError):
    """A call cannot be answered as asked; becomes the answer.

    Args:
        kind: A key of `KINDS`.
        detail: What happened to which thing, what is allowed, and what to do about it.
        headers: Headers of the answer.
        members: Extension members of the document, such as `dag_id` and `run_id`.
    """

    def __init__(self, kind: str, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members

    @property
    def status(self) -> HTTPStatus:
        """The status code of the answer."""
        return KINDS[self.kind].status

    def document(self) -> dict[str, Any]:
        """Return the problem document."""
        status, title = KINDS[self.kind]
        return {
            "type": type_uri(self.kind),
            "title": title,
            "status": int(status),
            "detail": self.detail,
            **{name: value for name, value in self.members.items() if value is not None},
        }


def problem_response(problem: ProblemError) -> Response:
    """Render a problem as the answer to a call."""
    body = json.dumps(problem.document(), separators=(",", ":")).encode()
    return Response(body, problem.status, {"cache-control": "no-store", **problem.headers}, MEDIA_TYPE)
