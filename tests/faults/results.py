"""Writes `results.md` from what the harness and the scenarios have recorded."""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from . import records
from .harness import SETTINGS
from .kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .records import Fault

__all__ = ["text"]

_PAGE: Final = Path(__file__).parent / "results.md"
_JUDGED: Final = ("lost", "doubled", "false_success", "retried")
_SCENARIO_HEADS: Final = (
    *("Scenario", "seed", "state", "executed", "lost", "doubled", "falsely successful", "retried", "kills"),
    *("memory before, MB", "after, MB", "took s", "load"),
)
_ORIGIN: Final = (
    "Written by `python -m tests.faults.results` from the records of `make faults`; see "
    "[the guarantees](../../docs/guarantees.md) for what is promised."
)
_WORDS: Final = (
    "*Hit* counts the faults that met what they were meant for. *Retried* counts task instances that were executed "
    "again because of the fault, which is allowed where it took their worker. *Overlapped* ones still went on when "
    "their next try had begun. Times are from the strike to the end of the run, of faults that hit."
)


def text(faults: Sequence[Fault], scenarios: Sequence[dict[str, Any]], *, processors: int | None) -> str:
    """Return the page.

    Args:
        faults: what the harness has recorded.
        scenarios: what `tests.faults.scenarios` has.
        processors: of the machine that both ran on.
    """
    return "\n\n".join(
        [
            "# Faults in local mode",
            _ORIGIN,
            _conditions(faults, processors),
            _WORDS,
            records.table(list(faults)).strip(),
            _speeds(faults),
            "## Under load",
            _scenarios(scenarios),
        ]
    )


def _conditions(faults: Sequence[Fault], processors: int | None) -> str:
    counts = Counter(fault.kind for fault in faults)
    of_each = [counts[kind] for kind in KINDS]
    n = str(min(of_each)) if min(of_each) == max(of_each) else f"{min(of_each)} to {max(of_each)}"
    seeds = ", ".join(sorted({str(fault.seed) for fault in faults}))
    loads = sorted(fault.load for fault in faults)
    settings = ", ".join(f"`{_option(name)}` {value} s" for name, value in sorted(SETTINGS.items()))
    return (
        f"**n = {n} of each of {len(KINDS)} kinds, {len(faults)} in all**, seed {seeds}, on {processors} processors "
        f"that other work shared: load average {loads[0]:g} to {loads[-1]:g}, median {statistics.median(loads):g}. "
        f"Settings: {settings}."
    )


def _option(name: str) -> str:
    return name.rpartition("__")[2].lower()


def _speeds(faults: Sequence[Fault]) -> str:
    """Return how many faults an hour there were, by how many instances were broken at the same time."""
    lines = ["| Instances at the same time | n | faults an hour | median s | load average |", "|---|---|---|---|---|"]
    for instances in sorted({fault.instances for fault in faults}):
        some = [fault for fault in faults if fault.instances == instances]
        an_hour = instances * 3600 / statistics.mean(fault.took for fault in some)
        recovery = statistics.median(fault.recovery for fault in some if fault.hit)
        load = statistics.median(fault.load for fault in some)
        lines.append(f"| {instances} | {len(some)} | {an_hour:.0f} | {recovery:.1f} | {load:.1f} |")
    return "\n".join(lines)


def _scenarios(outcomes: Sequence[dict[str, Any]]) -> str:
    lines = ["| " + " | ".join(_SCENARIO_HEADS) + " |", "|---" * len(_SCENARIO_HEADS) + "|"]
    for outcome in outcomes:
        cells = [
            outcome["scenario"],
            outcome["seed"],
            outcome["state"],
            outcome["executed"],
            *(len(outcome[what]) for what in _JUDGED),
            outcome.get("kills", ""),
            *(_memory(outcome.get(f"memory {when}, MB", {})) for when in ("before", "after")),
            outcome["took"],
            outcome["load"],
        ]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _memory(of_parts: dict[str, int]) -> str:
    return ", ".join(f"{part} {size}" for part, size in of_parts.items())


def main() -> None:
    """Write the page."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--report", type=Path, default=Path("build/faults"), help="folder with the records")
    report: Path = arguments.parse_args().report
    scenarios = report / "scenarios.jsonl"
    lines = scenarios.read_text().splitlines() if scenarios.exists() else []
    outcomes = [json.loads(line) for line in lines]
    faults = records.load(report / "records.jsonl")
    _PAGE.write_text(text(faults, outcomes, processors=os.cpu_count()) + "\n")


if __name__ == "__main__":
    main()
