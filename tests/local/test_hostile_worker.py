"""A worker that writes what is not its own, against a whole instance."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from airflow_knative.wire import Finished, Stages, Started, Write, encode_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .stack import Stack

pytestmark = pytest.mark.timeout(300)


class HostileWorker:
    """Answers every request with success, and with one write beside it."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.write: tuple[str, str, Any] = ("", "", None)
        worker = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["content-length"])))
                worker.requests.append(request)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(worker.answer(request["ti"]))

            def log_message(self, *_args: Any) -> None:
                """Be quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, ti: dict[str, Any]) -> bytes:
        method, path, body = self.write
        state = {"state": "success", "end_date": "2026-01-01T00:00:00Z", "task_outlets": [], "outlet_events": []}
        records = (
            Started(ti_id=ti["id"], try_number=ti["try_number"], worker="hostile", cold=False),
            Write(seq=0, method=method, path=path.format(**ti), body=body),  # type: ignore[arg-type]
            Write(seq=1, method="PATCH", path=f"/task-instances/{ti['id']}/state", body=state),
            Finished(state="success", exit_code=0, writes=2, stages=Stages(received=1.0)),
        )
        return b"".join(encode_record(record) for record in records)


@pytest.fixture
def hostile(stack: Stack) -> Iterator[HostileWorker]:
    """In place of the worker of `betrayed.victim`."""
    worker = HostileWorker()
    path = stack.state / "endpoints.json"
    original = path.read_text()
    endpoints = json.loads(original)
    for service in endpoints["services"]:
        if (service["dag_id"], service["task_id"]) == ("betrayed", "victim"):
            service["url"] = f"http://127.0.0.1:{worker.server.server_port}"
    _replace(path, json.dumps(endpoints))
    yield worker
    _replace(path, original)
    worker.server.shutdown()
    worker.server.server_close()


def _replace(path: Any, text: str) -> None:
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/xcoms/{dag_id}/{run_id}/innocent/return_value", "forged"),
        ("POST", "/xcoms/compute_avg/{run_id}/{task_id}/return_value", "forged"),
        ("POST", "/xcoms/{dag_id}/another-run/{task_id}/return_value", "forged"),
        ("PATCH", "/task-instances/01a20000-0000-7000-8000-000000000000/state", {"state": "failed"}),
        ("PUT", "/variables/forged", {"value": "forged"}),
    ],
)
def test_a_foreign_write_is_refused_and_fails_the_task_with_that_reason(
    stack: Stack, hostile: HostileWorker, method: str, path: str, body: Any
) -> None:
    hostile.write = (method, path, body)
    run_id = stack.start("betrayed")
    assert stack.wait_for("betrayed", run_id, "success", "failed") == "failed"
    ti = stack.task("betrayed", run_id, "victim")
    assert (ti["state"], ti["try_number"]) == ("failed", 2)  # by its own retries
    assert [request["ti"]["try_number"] for request in hostile.requests] == [1, 2]
    for try_number in (1, 2):
        assert "does not belong to task 'victim'" in stack.log("betrayed", run_id, "victim", try_number)
    entries = f"dags/betrayed/dagRuns/{run_id}/taskInstances"
    assert stack.api(f"{entries}/innocent/xcomEntries/return_value")["value"] == "kept"
    assert stack.api(f"{entries}/victim/xcomEntries")["xcom_entries"] == []
    assert stack.airflow.get("/api/v2/variables/forged").status_code == 404
