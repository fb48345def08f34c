"""The gateway's calls that the commands make."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote

import httpx

from airflow_knative.errors import AirflowKnativeError

if TYPE_CHECKING:
    from types import TracebackType

    from airflow_knative.cli.connection import Connection

__all__ = ["Answer", "Gateway", "GatewayUnreachableError"]

_CONNECT_SECONDS: Final = 5


class GatewayUnreachableError(AirflowKnativeError):
    """The gateway gave no answer."""


@dataclass(frozen=True)
class Answer:
    """What the gateway answered.

    Attributes:
        status: The HTTP status.
        text: The body as it came.
        headers: The headers.
    """

    status: int
    text: str
    headers: httpx.Headers

    @property
    def ok(self) -> bool:
        """Whether it is no error."""
        return self.status < HTTPStatus.BAD_REQUEST

    @property
    def document(self) -> dict[str, Any]:
        """The body read as JSON; empty when it is no JSON object."""
        try:
            document = json.loads(self.text)
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}

    @property
    def run_id(self) -> str | None:
        """The run that it is about, if it says so."""
        run_id = self.document.get("run_id")
        return run_id if isinstance(run_id, str) else None

    @property
    def still_running(self) -> bool:
        """Whether it says that the wait ended before the run did."""
        return self.status == HTTPStatus.GATEWAY_TIMEOUT and self.run_id is not None

    @property
    def away(self) -> bool:
        """Whether it says that the gateway cannot wait now: it shuts down, is overloaded, or has no Airflow."""
        return self.status == HTTPStatus.SERVICE_UNAVAILABLE

    @property
    def shutting_down(self) -> bool:
        """Whether it says that the gateway waited until it had to end."""
        return self.away and str(self.document.get("type")).endswith(":shutting-down")


class Gateway:
    """A client of the gateway. Calls may take as long as a run takes."""

    def __init__(self, connection: Connection, *, transport: httpx.BaseTransport | None = None) -> None:
        if connection.gateway_url is None:
            raise GatewayUnreachableError("no URL of the gateway is known; give --gateway-url")
        self.url = connection.gateway_url
        self._client = httpx.Client(
            base_url=self.url,
            auth=(connection.user, connection.password),
            timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
            transport=transport,
        )

    def __enter__(self) -> Self:
        """Return itself; leaving closes the connections."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self._client.close()

    def start(self, dag_id: str, body: str, key: str) -> Answer:
        """Start a run and come back at once; 202 with the run's id."""
        return self._run(dag_id, body, {"Idempotency-Key": key, "Prefer": "respond-async"})

    def finish(self, dag_id: str, body: str, key: str, wait: int | None) -> Answer:
        """Start a run, or find the one that was started with this key, and wait for its end.

        Args:
            dag_id: The workflow.
            body: The JSON text of the request.
            key: The idempotency key.
            wait: Whole seconds to wait at most; the gateway's own limit holds too.
        """
        prefer = {} if wait is None else {"Prefer": f"wait={wait}"}
        return self._run(dag_id, body, {"Idempotency-Key": key, **prefer})

    def state(self, dag_id: str, run_id: str) -> str | None:
        """A run's state, None if the gateway does not tell."""
        answer = self._send("GET", f"/runs/{quote(dag_id, safe='')}/{quote(run_id, safe='')}")
        state = answer.document.get("state")
        return state if isinstance(state, str) else None

    def _run(self, dag_id: str, body: str, headers: dict[str, str]) -> Answer:
        headers = {"Content-Type": "application/json", **headers}
        return self._send("POST", f"/runWorkflow/{quote(dag_id, safe='')}", content=body, headers=headers)

    def _send(self, method: str, path: str, **arguments: Any) -> Answer:
        try:
            response = self._client.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise GatewayUnreachableError(
                f"the gateway at {self.url} cannot be reached ({error or type(error).__name__}); "
                "start it (`airflow-knative local up`) or give --gateway-url"
            ) from None
        return Answer(response.status_code, response.text, response.headers)
