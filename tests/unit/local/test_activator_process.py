"""The activator as a process of its own: what becomes of workers when it or they are killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_knative.local.catalog import Service, save_services
from airflow_knative.local.environment import MARK
from airflow_knative.local.leftovers import find_leftovers
from airflow_knative.local.paths import StatePaths
from airflow_knative.local.ports import free_ports
from airflow_knative.local.settings import LocalSettings

from .conftest import until

if TYPE_CHECKING:
    from collections.abc import Iterator

FAKE = Path(__file__).with_name("fake_activator.py")


class Running:
    def __init__(self, root: Path) -> None:
        self.paths = StatePaths(root / "state")
        self.paths.create()
        gateway, api, self.port = free_ports(3)
        settings = LocalSettings(workflows=root, gateway_port=gateway, api_port=api, activator_port=self.port)
        settings.save(self.paths.settings)
        save_services(self.paths.services, [Service(name="svc", revision="1", dag_id="d", task_id="t", file="d.py")])
        self.mark = os.urandom(8).hex()
        self.process = subprocess.Popen(
            [sys.executable, str(FAKE), str(self.paths.root)],
            env={"PATH": os.environ["PATH"], MARK: self.mark},
            stderr=subprocess.DEVNULL,
        )
        until(self.paths.activator.exists)

    def ask(self, path: str = "/any") -> int:
        """The pid of the worker that answers."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data=b"x", headers={"Host": "svc.airflow.local"}
        )
        with urllib.request.urlopen(request) as response:  # noqa: S310
            return int(json.loads(response.read())["pid"])

    def workers(self) -> set[int]:
        return set(find_leftovers(self.mark)) - {self.process.pid}


@pytest.fixture
def running() -> Iterator[Running]:
    root = Path(tempfile.mkdtemp(prefix="akl-"))
    made = Running(root)
    yield made
    made.process.kill()
    made.process.wait()
    until(lambda: not made.workers())
    shutil.rmtree(root)


def test_a_killed_activator_takes_its_workers_along(running: Running) -> None:
    pid = running.ask()
    assert running.workers() == {pid}
    running.process.kill()
    running.process.wait()
    until(lambda: not running.workers())


def test_a_stopped_activator_leaves_nothing(running: Running) -> None:
    running.ask()
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait() == 0
    assert running.workers() == set()
    assert not running.paths.activator.exists()


def test_a_killed_worker_is_replaced_by_the_next_request(running: Running) -> None:
    first = running.ask()
    os.kill(first, signal.SIGKILL)
    # Until it is reaped: one that is dying still accepts connections, and has lost its environment before.
    until(lambda: not Path(f"/proc/{first}").exists())
    second = running.ask()
    assert second != first
    assert running.workers() == {second}


def test_what_a_killed_worker_leaves_is_ended(running: Running) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        running.ask("/leave-child")
    caught.value.close()
    assert caught.value.code == 502
    until(lambda: not running.workers())
