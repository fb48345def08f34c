from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_knative.local.instance import Instance
from airflow_knative.local.leftovers import find_leftovers
from airflow_knative.local.lock import GUARD, SUPERVISOR, holder
from airflow_knative.local.paths import StatePaths
from airflow_knative.local.ports import free_ports
from airflow_knative.local.secrets import Secrets
from airflow_knative.local.settings import LocalSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FAKE_GUARD = Path(__file__).with_name("fake_guard.py")


def until(condition: Callable[[], Any]) -> Any:
    """Wait until a condition holds; the test's own time-out is the limit."""
    while not (value := condition()):
        time.sleep(0.02)
    return value


class FakeInstance(Instance):
    """The real guard and supervisor over parts that only sleep."""

    def __init__(self, root: Path) -> None:
        super().__init__(StatePaths(root / "state"), guard=(sys.executable, str(FAKE_GUARD)))
        self.workflows = root / "workflows"
        self.workflows.mkdir()
        gateway, api, activator = free_ports(3)
        self.wanted = LocalSettings(
            workflows=self.workflows, gateway_port=gateway, api_port=api, activator_port=activator
        )

    def up(self) -> dict[str, Any]:
        self.start(self.wanted, user=None, password=None)
        return list(self.progress())[-1]["outcome"]

    @property
    def guard_pid(self) -> int | None:
        return holder(self.paths.lock, GUARD)

    @property
    def supervisor_pid(self) -> int | None:
        return holder(self.paths.lock, SUPERVISOR)

    def processes(self) -> list[int]:
        """All processes that carry the instance's mark."""
        return find_leftovers(Secrets.load(self.paths).instance) if self.paths.secrets.exists() else []

    def part(self, name: str) -> dict[str, Any]:
        return next(part for part in self.status()["parts"] if part["part"] == name)


@pytest.fixture
def instance() -> Iterator[FakeInstance]:
    # A short path: Unix sockets lie in it.
    root = Path(tempfile.mkdtemp(prefix="akl-"))
    made = FakeInstance(root)
    yield made
    made.stop(timeout=20)
    if made._started is not None:
        made._started.wait()
    shutil.rmtree(root)
