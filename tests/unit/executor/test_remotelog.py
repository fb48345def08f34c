from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from uuid import UUID

from airflow_knative.executor import remotelog
from airflow_knative.executor.remotelog import RemoteLogs

if TYPE_CHECKING:
    import pytest

TI: dict[str, Any] = {
    "id": "01a2032d-f1ad-75ae-8c56-e25e404fe0f7",
    "dag_version_id": "01a2032d-f1ad-75ae-8c56-e25e404fe0f8",
    "dag_id": "d",
    "task_id": "t",
    "run_id": "r",
    "try_number": 2,
    "map_index": -1,
    "pool_slots": 1,
    "queue": "default",
    "priority_weight": 1,
}


class Handler:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.uploaded: list[tuple[str, Any]] = []

    def upload(self, path: str, ti: Any) -> None:
        if self.error is not None:
            raise self.error
        self.uploaded.append((path, ti))


def _with(monkeypatch: pytest.MonkeyPatch, handler: Handler | None) -> RemoteLogs:
    monkeypatch.setattr(remotelog, "load_remote_log_handler", lambda: handler)
    return RemoteLogs()


def test_a_log_goes_to_the_handler_with_its_task_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = Handler()
    logs = _with(monkeypatch, handler)
    logs.upload("dag_id=d/run_id=r/task_id=t/attempt=2.log", TI)
    logs.close()
    ((path, ti),) = handler.uploaded
    assert path == "dag_id=d/run_id=r/task_id=t/attempt=2.log"
    assert (ti.id, ti.dag_id, ti.run_id, ti.try_number, ti.map_index) == (UUID(TI["id"]), "d", "r", 2, -1)


def test_a_store_that_fails_is_named_in_the_log_and_disturbs_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    logs = _with(monkeypatch, Handler(OSError("no such bucket")))
    with caplog.at_level(logging.ERROR):
        logs.upload("a.log", TI)
        logs.close()
    assert "a.log could not be uploaded" in caplog.text
    assert "no such bucket" in caplog.text


def test_without_remote_logging_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    logs = _with(monkeypatch, None)
    logs.upload("a.log", TI)
    logs.close()


def test_as_it_comes_remote_logging_is_off() -> None:
    assert RemoteLogs()._handler is None
