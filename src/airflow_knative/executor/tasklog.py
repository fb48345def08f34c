"""A task instance's log: the standard file that Airflow's UI and API read, written while the task runs."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from airflow.sdk.log import init_log_file

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["TaskLog"]

log = logging.getLogger(__name__)


class TaskLog:
    """Appends JSON lines to a task instance's log file."""

    def __init__(self, path: str | None) -> None:
        """Open the file at `path`, relative to the base log folder; None writes nothing."""
        self._file: BinaryIO | None = None
        try:
            if path:
                self._file = init_log_file(path).open("ab", buffering=0)
        except OSError as error:
            self._give_up(error)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def lines(self, lines: list[str]) -> None:
        """Append lines as a worker sent them: each one JSON object, or plain text."""
        if self._file is not None and lines:
            try:
                self._file.write("".join(f"{line.rstrip()}\n" for line in lines).encode())
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """A disk that is full or gone costs the log, not the task."""
        log.error("A task's log cannot be written, and ends here: %s", error)
        if self._file is not None:
            self._file.close()
            self._file = None

    def event(self, level: str, event: str, *, logger: str = "airflow_knative.dispatcher", **fields: Any) -> None:
        """Append a line of the dispatcher's own."""
        line = {"timestamp": datetime.now(UTC).isoformat(), "level": level, "event": event, "logger": logger, **fields}
        self.lines([json.dumps(line)])
