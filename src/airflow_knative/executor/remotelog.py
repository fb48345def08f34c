"""Uploading the logs of tasks that ended, where Airflow's remote logging is on."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from airflow.executors.workloads import TaskInstance
from airflow.sdk.log import load_remote_log_handler

if TYPE_CHECKING:
    from airflow.sdk._shared.logging.remote import RemoteLogIO

__all__ = ["RemoteLogs"]

log = logging.getLogger(__name__)

_THREADS: Final = 4


class RemoteLogs:
    """Uploads beside the calls: a slow store holds no task back."""

    def __init__(self) -> None:
        """Take the handler that `[logging] remote_logging` and its companions describe; without one, do nothing."""
        self._handler: RemoteLogIO | None = load_remote_log_handler()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="remote-logs") if self._handler else None

    def upload(self, path: str | None, ti: dict[str, Any]) -> None:
        """Begin to upload the log at `path`, relative to the base log folder, of the workload's task instance."""
        if self._threads is not None and path:
            self._threads.submit(self._upload, path, ti)

    def close(self) -> None:
        """Wait for the uploads that have begun."""
        if self._threads is not None:
            self._threads.shutdown(wait=True)

    def _upload(self, path: str, ti: dict[str, Any]) -> None:
        if self._handler is None:
            return
        try:
            self._handler.upload(path, TaskInstance.model_validate(ti))  # type: ignore[arg-type] # as far as handlers ask
        except Exception:  # the log stays where it was written
            log.exception("The log %s could not be uploaded", path)
