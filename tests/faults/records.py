"""What came of faults, kept in a file of JSON lines, so that many can be tried over several sittings."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from .kinds import KINDS
from .ledger import Judgement

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["Fault", "append", "load", "missing", "table"]


@dataclass
class Fault:
    """One fault, and what came of it; times in seconds."""

    kind: str
    number: int
    """Which one of its kind, from 1."""
    seed: int
    line: int
    """It struck after this line of the ledger."""
    delay: float
    """And so much later."""
    hit: bool = False
    run: str = ""
    recovery: float = 0.0
    """From the strike to the end of the run."""
    judgement: Judgement = field(default_factory=Judgement)
    took: float = 0.0
    """From the start of its run until it was judged."""
    instances: int = 1
    """Broken at the same time on the same machine."""
    load: float = 0.0
    """The machine's load average over the minute before the strike."""
    may_retry: bool | None = None
    """Whether a task may be retried or fail because of it; as its kind says where it is one of `KINDS`."""

    @property
    def is_clean(self) -> bool:
        """Whether nothing happened that must not."""
        bad = self.judgement.lost or self.judgement.doubled or self.judgement.false_success
        may_retry = KINDS[self.kind].may_retry if self.may_retry is None else self.may_retry
        return not bad and (may_retry or not self.judgement.retried)

    def record(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {**asdict(self), "clean": self.is_clean}

    @classmethod
    def of(cls, record: dict[str, Any]) -> Fault:
        """Return what `record` made JSON of."""
        known = {name: value for name, value in record.items() if name != "clean"}
        return cls(**{**known, "judgement": Judgement(**record["judgement"])})


def load(path: Path) -> list[Fault]:
    """Return the faults of a file; none if there is no file."""
    if not path.exists():
        return []
    return [Fault.of(json.loads(line)) for line in path.read_text().splitlines()]


def append(path: Path, fault: Fault) -> None:
    """Add a fault to a file."""
    with path.open("a") as file:
        file.write(json.dumps(fault.record()) + "\n")


def missing(faults: Iterable[Fault], kinds: Iterable[str], count: int) -> list[tuple[str, int]]:
    """Return which faults are to be tried yet, in turns, until there are `count` of each kind: (kind, number)."""
    kinds, tried = list(kinds), {(fault.kind, fault.number) for fault in faults}
    every = [(kind, number) for number in range(1, count + 1) for kind in kinds]
    return [one for one in every if one not in tried]


_COUNTED: Final = ("lost", "doubled", "false_success", "retried", "overlapped")
_HEADS: Final = (
    *("Fault", "n", "hit", "lost", "doubled", "falsely successful", "retried", "overlapped"),
    *("median s", "worst s"),
)


def table(faults: list[Fault], kinds: Iterable[str] = KINDS) -> str:
    """Return the faults by kind, as a table in Markdown."""
    of_kind = {kind: [fault for fault in faults if fault.kind == kind] for kind in kinds}
    rows = [_row(kind, some) for kind, some in of_kind.items() if some]
    head = ["| " + " | ".join(_HEADS) + " |", "|---" * len(_HEADS) + "|"]
    return "\n".join([*head, *rows, _row("**all**", faults)]) + "\n"


def _row(name: str, faults: list[Fault]) -> str:
    times = [fault.recovery for fault in faults if fault.hit] or [0.0]
    counts = [sum(len(getattr(fault.judgement, what)) for fault in faults) for what in _COUNTED]
    hits = sum(fault.hit for fault in faults)
    cells = [name, len(faults), hits, *counts, f"{statistics.median(times):.1f}", f"{max(times):.1f}"]
    return "| " + " | ".join(str(cell) for cell in cells) + " |"
