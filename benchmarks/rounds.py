"""The order in which everything is measured on this machine."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from benchmarks.deployment import VARIANTS, LocalInstance
from benchmarks.gateway import RunError
from benchmarks.measure import measure
from benchmarks.scenarios import FLAVOURS, Flavour, Scenario
from benchmarks.workflows import write_workflows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks.samples import Cell, Log

__all__ = ["Block", "blocks", "measure_all", "measure_alone"]

Block = tuple[int, str, str, list[Scenario]]
"""Round, variant, flavour, and what is measured while that instance is up."""


def blocks(scenarios: Sequence[Scenario], rounds: int, variants: Sequence[str]) -> Iterator[Block]:
    """Yield what is up when. Every other round goes through the variants backwards."""
    for number in range(1, rounds + 1):
        for flavour in FLAVOURS:
            for variant in variants if number % 2 else reversed(variants):
                chosen = [
                    scenario
                    for scenario in scenarios
                    if scenario.flavour == flavour
                    and variant in scenario.variants
                    and not (scenario.is_once and number > 1)
                ]
                if chosen:
                    yield number, variant, flavour, chosen


def measure_all(
    scenarios: Sequence[Scenario], *, rounds: int, variants: Sequence[str], folder: Path, log: Log, seconds: float
) -> None:
    """Measure, block by block, what the log does not have yet."""
    begun = time.monotonic()
    plan = [
        (number, variant, flavour, missing)
        for number, variant, flavour, chosen in blocks(scenarios, rounds, variants)
        if (missing := [one for one in chosen if not log.has((one.name, variant, number))])
    ]
    for done, (number, variant, flavour, missing) in enumerate(plan, 1):
        _say(begun, f"block {done} of {len(plan)}: round {number}, {variant}, {flavour}")
        workflows = folder / "workflows" / flavour
        write_workflows(workflows, FLAVOURS[flavour])
        with LocalInstance(
            VARIANTS[variant],
            state=folder / "state",
            workflows=workflows,
            granularity=FLAVOURS[flavour].granularity,
        ) as instance:
            for scenario in missing:
                try:
                    cell = measure(scenario, instance, number, seconds=seconds)
                except RunError as error:
                    # No figure is better than one of runs that failed; the others are still worth having.
                    _say(begun, f"  {scenario.name}: FAILED, {error}")
                    continue
                log.add(cell)
                values = sorted(cell.milliseconds)
                middle = values[len(values) // 2]
                _say(begun, f"  {scenario.name}: {middle:.0f} ms, n {len(values)}, CPU {cell.cpu_ms:.0f} ms")


def measure_alone(scenario: Scenario, number: int, *, folder: Path) -> Cell:
    """Measure a scenario of the seed workflow in local mode, in an instance that is up for no longer than that."""
    workflows = folder / "workflows" / "alone"
    write_workflows(workflows, Flavour(services=0))
    with LocalInstance(VARIANTS["knative"], state=folder / "state", workflows=workflows) as instance:
        return measure(scenario, instance, number)


def _say(begun: float, text: str) -> None:
    minutes, seconds = divmod(int(time.monotonic() - begun), 60)
    print(f"{minutes:3}:{seconds:02}  {text}", file=sys.stderr, flush=True)
