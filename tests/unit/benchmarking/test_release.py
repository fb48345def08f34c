from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from benchmarks.gateway import Run
from benchmarks.release import Release, measure

if TYPE_CHECKING:
    from benchmarks.cluster import Cluster

OWN = [
    {"dagId": "compute_avg_distributed", "taskId": "extract", "name": "extract"},
    {"dagId": "another", "taskId": "one", "name": "one"},
]


@dataclass(frozen=True)
class Helm(Release):
    """A release that is upgraded at once."""

    made: list[dict[str, Any]] = field(default_factory=lambda: [{"workflows": OWN, "images": {}}])

    def values(self) -> dict[str, Any]:
        return self.made[-1]

    def upgrade(self, values: dict[str, Any]) -> float:
        self.made.append(values)
        return 2.0


class Called:
    """A cluster that is as the release says, and answers at once."""

    def __init__(self, release: Helm, *, fails: bool = False) -> None:
        self.release = release
        self.fails = fails
        self.airflow = None
        self.gateway = self

    def services(self) -> tuple[int, int]:
        count = len(self.release.made[-1]["workflows"])
        if self.fails and count > len(OWN):
            raise KeyboardInterrupt
        return count, count

    def run_many(self, dag_id: str, _data: Any, _output: Any, *, count: int, at_once: int) -> list[Run]:
        assert (dag_id, at_once) == ("compute_avg_distributed", 1)
        return [Run(400.0, "run")] * count


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Helm:
    monkeypatch.setattr("benchmarks.release._REST", 0.0)
    return Helm(Path("helm"), Path("chart"), kubeconfig=None, namespace="airflow", name="airflow")


def test_services_come_and_go_and_the_release_is_as_before(release: Helm) -> None:
    cells = list(measure(cast("Cluster", Called(release)), release, services=3))
    assert release.made[-1] == release.made[0]
    assert [len(values["workflows"]) for values in release.made] == [2, 5, 5, 5, 2]
    added, same, changed = release.made[1:4]
    assert added == same != changed
    assert added["images"] == {}
    assert {one["taskId"] for one in added["workflows"][2:]} == {"copy_1", "copy_2", "copy_3"}
    figures = {cell.scenario: cell.milliseconds[0] for cell in cells}
    assert figures["helm-upgrade/3-added"] == 2000.0
    assert [(cell.scenario, cell.round) for cell in cells if cell.scenario.startswith("services/")] == [
        ("services/2", 1),
        ("services/5", 1),
        ("services/2", 2),
    ]


def test_a_release_that_was_broken_off_is_as_before(release: Helm) -> None:
    with pytest.raises(KeyboardInterrupt):
        list(measure(cast("Cluster", Called(release, fails=True)), release, services=3))
    assert release.made[-1] == release.made[0]
    assert len(release.made) == 3


def test_without_the_seed_workflow_there_is_nothing_to_copy(release: Helm) -> None:
    release.made[0]["workflows"] = OWN[1:]
    with pytest.raises(SystemExit, match="has no workflow 'compute_avg_distributed'"):
        next(measure(cast("Cluster", Called(release)), release, services=3))
