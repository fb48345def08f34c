"""Real workers, called as a dispatcher calls them, without any Airflow around."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx

from airflow_knative.wire import (
    TASK_PATH,
    ExecutionApi,
    Fence,
    Finished,
    Inputs,
    Record,
    Signer,
    TaskRequest,
    Write,
    XComValue,
    decode_record,
)
from airflow_knative.wire.keys import generate, load_private

if TYPE_CHECKING:
    from collections.abc import Iterator

API_VERSION = "2026-06-30"
RUN_ID = "manual__2026-01-01T00:00:00+00:00"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def eventually(condition: Any, *, within: float = 30.0) -> Any:
    """Return the first truthy result of `condition`."""
    deadline = time.monotonic() + within
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return result


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Worker:
    """A worker process, and requests to it."""

    def __init__(self, folder: Path, dag_file: Path, dag_id: str, *, slots: int = 1, grace: float = 20.0) -> None:
        self.folder = folder
        self.port = free_port()
        private, public = folder / "private.pem", folder / "public.pem"
        if not private.exists():
            generate(private, public)
        self.signer = Signer(load_private(private))
        self.dag_id, self.dag_file = dag_id, dag_file
        self.log = folder / f"worker-{self.port}.log"
        environment = {
            name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "VIRTUAL_ENV"}
        } | {
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dag_file.parent),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "PORT": str(self.port),
            "K_SERVICE": "service",
            "AIRFLOW_KNATIVE_WORKER_HOST": "127.0.0.1",
            "AIRFLOW_KNATIVE_WORKER_DAG_FILE": dag_file.name,
            "AIRFLOW_KNATIVE_WORKER_DAG_ID": dag_id,
            "AIRFLOW_KNATIVE_WORKER_SLOTS": str(slots),
            "AIRFLOW_KNATIVE_WORKER_GRACE": str(grace),
            "AIRFLOW_KNATIVE_WORKER_PUBLIC_KEY": str(public),
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "airflow_knative.worker"], env=environment, stdout=log, stderr=log
            )
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60.0)

    def __enter__(self) -> Self:
        eventually(self._listens)
        return self

    def __exit__(self, *_exc: object) -> None:
        self.http.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def _listens(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def request(self, task_id: str, *, conf: Any = None, api_url: str | None = None, **changes: Any) -> TaskRequest:
        """Return a request for a task of the worker's DAG."""
        return TaskRequest(
            turn=str(uuid.uuid4()),
            ti={
                "id": str(uuid.uuid4()),
                "dag_id": self.dag_id,
                "task_id": task_id,
                "run_id": RUN_ID,
                "try_number": 1,
                "map_index": changes.pop("map_index", -1),
                "dag_version_id": str(uuid.uuid4()),
            },
            dag_rel_path=self.dag_file.name,
            bundle_name="dags-folder",
            context={
                "dag_run": {
                    "dag_id": self.dag_id,
                    "run_id": RUN_ID,
                    "logical_date": None,
                    "data_interval_start": None,
                    "data_interval_end": None,
                    "run_after": "2026-01-01T00:00:00Z",
                    "start_date": "2026-01-01T00:00:00Z",
                    "end_date": None,
                    "partition_key": None,
                    "clear_number": 0,
                    "run_type": "manual",
                    "state": "running",
                    "conf": conf or {},
                    "consumed_asset_events": [],
                },
                "task_reschedule_count": 0,
                "max_tries": 0,
                "should_retry": False,
            },
            api_version=API_VERSION,
            execution_api=ExecutionApi(url=api_url or "http://127.0.0.1:9/execution/", token="task-token"),
            fence=Fence(hostname="scheduler", pid=77),
            **changes,
        )

    def headers(self, request: TaskRequest, body: bytes) -> dict[str, str]:
        ti_id, try_number = request.key
        token = self.signer.sign(audience="service", ti_id=ti_id, try_number=try_number, body=body)
        return {"authorization": f"Bearer {token}", "content-type": "application/json"}

    def stream(self, request: TaskRequest) -> Any:
        """Send a request; a context manager as httpx's `stream`."""
        body = request.model_dump_json().encode()
        return self.http.stream("POST", TASK_PATH, content=body, headers=self.headers(request, body))

    def run(self, request: TaskRequest) -> list[Record]:
        """Send a request and return its records."""
        with self.stream(request) as response:
            assert response.status_code == 200, response.read()
            return list(records(response))


def records(response: httpx.Response) -> Iterator[Record]:
    for line in response.iter_lines():
        yield decode_record(line.encode())


def state_of(answer: list[Record]) -> str | None:
    """Return the state that the answer's writes set."""
    states = [record.body["state"] for record in answer if isinstance(record, Write) and record.path.endswith("/state")]
    return str(states[-1]) if states else None


def finished(answer: list[Record]) -> Finished:
    assert isinstance(answer[-1], Finished)
    return answer[-1]


def xcoms_of(request: TaskRequest, answer: list[Record]) -> list[XComValue]:
    """Return the XComs that the answer's writes set."""
    return [
        XComValue(
            task_id=str(request.ti["task_id"]),
            key=record.path.rsplit("/", 1)[1],
            map_index=int(record.query.get("map_index", -1)),
            value=record.body,
        )
        for record in answer
        if isinstance(record, Write) and record.path.startswith("/xcoms/") and record.method == "POST"
    ]


def known(xcoms: list[XComValue], *tasks: str) -> Inputs:
    return Inputs(tasks=sorted({*tasks, *(xcom.task_id for xcom in xcoms)}), xcoms=xcoms)


__all__ = [
    "RUN_ID",
    "Worker",
    "eventually",
    "finished",
    "free_port",
    "is_running",
    "known",
    "records",
    "state_of",
    "xcoms_of",
]
