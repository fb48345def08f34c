from __future__ import annotations

import json
import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from airflow_knative.services import ServicesError, load
from benchmarks import __main__ as command
from benchmarks.cluster import Cluster, measure_cluster, turns
from benchmarks.deployment import ROOT
from benchmarks.gateway import Run, RunError
from benchmarks.samples import Cell, Log
from benchmarks.scenarios import SCENARIOS, Scenario

if TYPE_CHECKING:
    from pathlib import Path

WARM = SCENARIOS["compute_avg_distributed/warm"]
BOTH = ("knative", "kubernetes")
TWIN = "compute_avg_distributed_kubernetes"


class Called:
    """A cluster that answers at once and notes what it was asked for."""

    def __init__(self, *, lacks: str = "") -> None:
        self.calls: list[tuple[str, int]] = []
        self.lacks = lacks
        self.airflow = None
        self.gateway = self

    def run_many(self, dag_id: str, data: Any, output: Any, *, count: int, at_once: int) -> list[Run]:
        assert (data, output, at_once) == ((1, 2, 3, 4), 2.5, 1)
        self.calls.append((dag_id, count))
        if dag_id == self.lacks:
            raise RunError(f"{dag_id} answered 404")
        return [Run(4000.0 if dag_id == TWIN else 100.0, "run")] * count

    def until_task_pods_ended(self) -> None:
        self.calls.append(("no pods", 0))


def in_local_mode(scenario: Scenario, number: int) -> Cell:
    return Cell(scenario.name, "knative", number, [80.0])


def measured(
    folder: Path, *, rounds: int = 2, log: Log | None = None, lacks: str = "", variants: tuple[str, ...] = BOTH
) -> tuple[Called, Log]:
    called, log = Called(lacks=lacks), log or Log(folder / "cells.jsonl")
    plan = turns([WARM], rounds, variants)
    measure_cluster(cast("Cluster", called), plan, local_mode=in_local_mode, kubernetes_runs=3, cold_runs=1, log=log)
    return called, log


def test_variants_take_turns_and_the_order_turns_round() -> None:
    order = [(number, variant) for number, _, variant in turns([WARM], 2, BOTH)]
    assert order == [(1, "knative"), (1, "kubernetes"), (2, "kubernetes"), (2, "knative")]


def test_local_mode_has_its_turns_too(tmp_path: Path) -> None:
    called, log = measured(tmp_path, variants=("knative", "local-mode"))
    assert called.calls == [("compute_avg_distributed", count) for count in (4, 12, 4, 12)]
    assert [(cell.variant, cell.round) for cell in log.cells] == [
        ("knative", 1),
        ("local-mode", 1),
        ("local-mode", 2),
        ("knative", 2),
    ]
    assert log.cells[1].milliseconds == [80.0]


def test_what_the_rival_or_a_cluster_cannot_show_is_left_out() -> None:
    names = [(scenario.name, variant) for _, scenario, variant in turns(list(SCENARIOS.values()), 1, BOTH)]
    assert [name for name, variant in names if variant == "kubernetes"] == [WARM.name]
    assert ("compute_avg_distributed/cold", "knative") in names
    assert not any(name.startswith(("memory/", "gateway/")) for name, _ in names)


def test_the_rival_runs_its_twin_as_often_as_asked_and_leaves_no_pods_behind(tmp_path: Path) -> None:
    called, log = measured(tmp_path)
    assert called.calls == [
        (WARM.dag_id, 4),
        (WARM.dag_id, WARM.runs),
        (TWIN, 1),
        (TWIN, 3),
        ("no pods", 0),
        (TWIN, 3),
        ("no pods", 0),
        (WARM.dag_id, 4),
        (WARM.dag_id, WARM.runs),
    ]
    counts = [(cell.variant, cell.round, len(cell.milliseconds)) for cell in log.cells]
    assert counts == [("knative", 1, 12), ("kubernetes", 1, 3), ("kubernetes", 2, 3), ("knative", 2, 12)]


def test_what_was_measured_already_is_not_measured_again(tmp_path: Path) -> None:
    log = Log(tmp_path / "cells.jsonl")
    log.add(Cell(WARM.name, "kubernetes", 1, [1.0]))
    called, _ = measured(tmp_path, rounds=1, log=log)
    assert {dag_id for dag_id, _ in called.calls} == {WARM.dag_id}


def test_a_release_without_the_rival_is_told_so_and_has_its_other_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, log = measured(tmp_path, lacks=TWIN)
    assert [(cell.variant, cell.round) for cell in log.cells] == [("knative", 1), ("knative", 2)]
    assert f"FAILED, {TWIN} answered 404" in capsys.readouterr().err


def test_the_report_has_the_ratio(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, log = measured(tmp_path)
    command._write(tmp_path / "cluster.json", log, {})
    figures = json.loads((tmp_path / "cluster.json").read_text())["scenarios"][WARM.name]
    assert list(figures) == ["knative", "kubernetes"]
    assert "| kubernetes | 6 | 4000 | 4000 | 4000 | 4000 | 0 | 0 | 40.00 |" in (tmp_path / "cluster.md").read_text()
    assert "40.00" in capsys.readouterr().out


def test_pods_of_tasks_that_failed_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.cluster._POLL", 0.0)
    monkeypatch.setattr("benchmarks.cluster._REST", 0.0)
    left = [["pod"], []]
    asked: list[dict[str, str]] = []

    def pods(namespace: str, **selectors: str) -> SimpleNamespace:
        asked.append({"namespace": namespace, **selectors})
        return SimpleNamespace(items=left.pop(0))

    cluster = Cluster.__new__(Cluster)
    cluster._namespace, cluster._pods = "flows", SimpleNamespace(list_namespaced_pod=pods)
    cluster.until_task_pods_ended()
    selectors = {"label_selector": "app.kubernetes.io/component=task-pod", "field_selector": "status.phase!=Failed"}
    assert asked == [{"namespace": "flows", **selectors}] * 2


def test_the_twin_gets_no_knative_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for source in ("workflows/avg_distributed.py", "benchmarks/dags/kubernetes/avg_kubernetes.py"):
        shutil.copy(ROOT / source, tmp_path)
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "airflow_knative.executor.KnativeExecutor,KubernetesExecutor")
    assert {spec.dag_id for spec in load(tmp_path)} == {WARM.dag_id}


def test_the_twin_is_refused_where_its_executor_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "benchmarks/dags/kubernetes/avg_kubernetes.py", tmp_path)
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "airflow_knative.executor.KnativeExecutor")
    with pytest.raises(ServicesError, match="KubernetesExecutor"):
        load(tmp_path)
