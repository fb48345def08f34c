"""What was measured, before and after it is summed up."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

__all__ = ["Cell", "Log", "median_of_each", "percentile", "summary"]


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which a share (0 to 1) of sorted values lies: the nearest one, none made up."""
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def median_of_each(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each key over all rows; a row without a key counts as 0."""
    found = list(rows)
    names = dict.fromkeys(name for row in found for name in row)
    return {name: round(statistics.median(row.get(name, 0.0) for row in found), 1) for name in names}


@dataclass
class Cell:
    """One scenario on one variant in one round.

    Attributes:
        scenario: Its name.
        variant: Its name.
        round: From 1.
        milliseconds: What the caller waited, a value a run.
        cpu_ms: Processor time of all processes of the instance, a run.
        peak_mb: The most memory that the instance had, in runs that were not timed; 0 if nobody looked.
        stages: Where the time of some runs went, summed up over a run's tasks.
        extra: What only this scenario has.
    """

    scenario: str
    variant: str
    round: int
    milliseconds: list[float]
    cpu_ms: float = 0.0
    peak_mb: float = 0.0
    stages: list[dict[str, float]] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells it from the other ones."""
        return self.scenario, self.variant, self.round


class Log:
    """A file of cells, a line each: what a run that was broken off has measured already."""

    def __init__(self, path: Path) -> None:
        """Keep them in `path`."""
        self._path = path
        self.cells: list[Cell] = []

    @classmethod
    def resume(cls, path: Path) -> Self:
        """Go on with what the file holds."""
        log = cls(path)
        if path.exists():
            log.cells = [Cell(**json.loads(line)) for line in path.read_text().splitlines() if line]
        return log

    def discard(self) -> None:
        """Begin anew."""
        self.cells = []
        self._path.unlink(missing_ok=True)

    def add(self, cell: Cell) -> None:
        """Keep one more."""
        self.cells.append(cell)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(cell)) + "\n")

    def has(self, key: tuple[str, str, int]) -> bool:
        """Whether a cell is there."""
        return any(cell.key == key for cell in self.cells)


def summary(cells: Sequence[Cell]) -> dict[str, Any]:
    """Return the figures of one scenario on one variant, from all its rounds."""
    ordered = sorted(value for cell in cells for value in cell.milliseconds)
    figures: dict[str, Any] = {
        "n": len(ordered),
        "p50_ms": round(statistics.median(ordered), 1),
        "p95_ms": round(percentile(ordered, 0.95), 1),
        "min_ms": round(ordered[0], 1),
        "max_ms": round(ordered[-1], 1),
        # Half of all values lie within it.
        "spread_ms": round(percentile(ordered, 0.75) - percentile(ordered, 0.25), 1),
        "cpu_ms": round(statistics.median(cell.cpu_ms for cell in cells), 1),
    }
    if peak := max(cell.peak_mb for cell in cells):
        figures["peak_mb"] = round(peak, 1)
    if stages := [row for cell in cells for row in cell.stages]:
        figures["stages_ms"] = median_of_each(stages)
    for cell in cells:
        figures |= cell.extra
    return figures
