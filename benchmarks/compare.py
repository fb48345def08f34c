"""A new report against a kept one.

Machines differ, and one machine differs from hour to hour, so milliseconds are not compared. What is compared is this
executor's ratio to a rival that was measured beside it: to LocalExecutor tuned, or to the scenario's other variants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["TOLERANCE", "Comparison", "compare"]

TOLERANCE: Final = 0.25
"""By how much a ratio may get worse: medians of the same code differ by up to a fifth from one run to the next."""
_OURS: Final = "knative"
_RIVALS: Final = ("local-tuned", "kubernetes", "celery", "local-default")


@dataclass(frozen=True)
class Comparison:
    """One figure of one scenario: how many times a rival's is this executor's, kept and new; less is better."""

    scenario: str
    rival: str
    figure: str
    kept: float
    new: float

    @property
    def change(self) -> float:
        """The new ratio to the kept one: 1.1 is a tenth worse."""
        return self.new / self.kept

    def is_worse(self, tolerance: float = TOLERANCE) -> bool:
        """Whether it got worse by more than is tolerated."""
        return self.change > 1 + tolerance


def compare(kept: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Comparison]:
    """Yield a comparison for each figure that both reports have, with the same rival beside it."""
    for scenario, variants in new["scenarios"].items():
        before = kept["scenarios"].get(scenario, {})
        rival = next((name for name in _RIVALS if name in variants and name in before), None)
        if rival is None or _OURS not in variants or _OURS not in before:
            continue
        for figure in ("p50_ms", "cpu_ms"):
            figures = [report[name].get(figure) for report in (before, variants) for name in (_OURS, rival)]
            if all(figures):
                mine, theirs, mine_now, theirs_now = figures
                yield Comparison(scenario, rival, figure, mine / theirs, mine_now / theirs_now)
