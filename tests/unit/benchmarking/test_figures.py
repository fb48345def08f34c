from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.report import markdown, report
from benchmarks.rounds import blocks
from benchmarks.samples import Cell, Log, median_of_each, percentile, summary
from benchmarks.scenarios import SCENARIOS

if TYPE_CHECKING:
    from pathlib import Path

VARIANTS = ("knative", "local-default", "local-tuned", "celery")


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([7.0], 0.95, 7.0),
        ([1.0, 2.0, 3.0], 0.5, 2.0),
        ([float(n) for n in range(101)], 0.95, 95.0),
        ([1.0, 9.0], 1, 9.0),
    ],
)
def test_a_percentile_is_a_value_that_was_measured(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == expected


def test_a_stage_that_a_run_lacks_counts_as_none_of_its_time() -> None:
    assert median_of_each([{"task": 4.0}, {"task": 6.0, "cold_start": 9.0}, {"task": 5.0}]) == {
        "task": 5.0,
        "cold_start": 0.0,
    }


def test_figures_are_of_all_rounds_together() -> None:
    cells = [
        Cell("s", "knative", 1, [30.0, 10.0], cpu_ms=5.0, peak_mb=100.0, stages=[{"task": 1.0}]),
        Cell("s", "knative", 2, [20.0], cpu_ms=7.0, peak_mb=90.0, extra={"p99_ms": 3.0}),
    ]
    assert summary(cells) == {
        "n": 3,
        "p50_ms": 20.0,
        "p95_ms": 30.0,
        "min_ms": 10.0,
        "max_ms": 30.0,
        "spread_ms": 20.0,
        "cpu_ms": 6.0,
        "peak_mb": 100.0,
        "stages_ms": {"task": 1.0},
        "p99_ms": 3.0,
    }


def test_a_report_has_scenarios_of_variants_of_figures() -> None:
    cells = [Cell("a/warm", "knative", 1, [2.0]), Cell("a/warm", "celery", 1, [8.0])]
    told = report(cells, machine={"cpu_count": 2})
    assert told["machine"] == {"cpu_count": 2}
    for variant in ("knative", "celery"):
        assert {"n", "p50_ms", "p95_ms", "min_ms", "max_ms", "cpu_ms"} <= set(told["scenarios"]["a/warm"][variant])
    assert "| celery | 1 | 8 | 8 | 8 | 8 | 0 | 0 | 4.00 |" in markdown(told)


def test_what_was_measured_outlives_the_program(tmp_path: Path) -> None:
    cell = Cell("s", "knative", 1, [1.0], extra={"memory": [{"runs": 0}]})
    Log(tmp_path / "new" / "cells.jsonl").add(cell)
    found = Log.resume(tmp_path / "new" / "cells.jsonl")
    assert found.cells == [cell]
    assert found.has(("s", "knative", 1))
    assert not found.has(("s", "knative", 2))
    found.discard()
    assert Log.resume(tmp_path / "new" / "cells.jsonl").cells == []


def test_every_variant_has_its_turn_in_every_round_and_the_order_turns_round() -> None:
    scenario = SCENARIOS["compute_avg_distributed/warm"]
    order = [(number, variant) for number, variant, _, _ in blocks([scenario], 2, VARIANTS)]
    assert order == [(1, name) for name in VARIANTS] + [(2, name) for name in reversed(VARIANTS)]


def test_what_is_for_once_is_in_the_first_round_only() -> None:
    found = list(blocks([SCENARIOS["memory/1000-runs"]], 3, VARIANTS))
    assert [(number, variant) for number, variant, _, _ in found] == [(1, "knative")]
