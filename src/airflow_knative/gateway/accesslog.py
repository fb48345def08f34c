"""One line of JSON for each call."""

from __future__ import annotations

import json
import logging
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["AccessLog", "CallRecord", "JsonFormatter", "configure_logging", "record_of"]

_KEY: Final = "airflow_knative.call"
_FIELDS: Final = "fields"
_PROBES: Final = frozenset({"/healthz", "/readyz"})

_log = logging.getLogger("airflow_knative.gateway.access")


@dataclass(slots=True)
class CallRecord:
    """What is known of a call when it ends. Neither the caller's name nor anything they sent is in it."""

    dag_id: str | None = None
    run_id: str | None = None
    status: int = 0


def record_of(connection: HTTPConnection) -> CallRecord:
    """Return the record of a call, for the one who answers it to fill in."""
    record = connection.scope.get(_KEY)
    return record if isinstance(record, CallRecord) else CallRecord()


class AccessLog:
    """Logs each call when it has been answered; health probes at level debug."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one call (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = scope[_KEY] = CallRecord()
        began = time.perf_counter()

        async def note_status(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note_status)
        finally:
            path = scope["path"]
            level = logging.DEBUG if path in _PROBES else logging.INFO
            if _log.isEnabledFor(level):
                fields = {
                    "method": scope["method"],
                    # The ids are logged as they were checked, not as somebody sent them.
                    "path": path if path in _PROBES else "/" + path.lstrip("/").split("/", 1)[0][:32],
                    "dag_id": record.dag_id,
                    "run_id": record.run_id,
                    "status": record.status or 500,
                    "ms": round((time.perf_counter() - began) * 1000, 1),
                }
                _log.log(level, "call", extra={_FIELDS: fields})


class JsonFormatter(logging.Formatter):
    """Writes log records as lines of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps({name: value for name, value in line.items() if value is not None})


def configure_logging(level: str) -> None:
    """Log to standard output, as lines of JSON, from this level on."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # At debug level these log headers and bodies, which carry credentials.
    for name in ("aiohttp", "asyncio", "httptools"):
        logging.getLogger(name).setLevel(logging.WARNING)
