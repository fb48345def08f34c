"""Breaks one part of a whole local instance while a workflow runs, and holds Airflow's word against a ledger."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import httpx
from tests.local.stack import Stack
from tests.local.workers import eventually

from airflow_knative.local.paths import StatePaths

from . import parts
from .kinds import KINDS
from .ledger import Judgement, judge, read
from .proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Fault", "Field", "table"]

DAG = Path(__file__).parent / "dags" / "ledgered.py"
_LINES = 16  # of a ledger in which nothing went wrong, but for the last
_LIMIT = 600.0  # seconds until a run that has not ended counts as lost


@dataclass
class Fault:
    """One fault, and what came of it; times in seconds."""

    kind: str
    line: int
    """It struck after this line of the ledger."""
    delay: float
    """And so much later."""
    hit: bool = False
    run: str = ""
    recovery: float = 0.0
    """From the strike to the end of the run."""
    judgement: Judgement = field(default_factory=Judgement)

    @property
    def is_clean(self) -> bool:
        """Whether nothing happened that must not."""
        bad = self.judgement.lost or self.judgement.doubled or self.judgement.false_success
        return not bad and (KINDS[self.kind].may_retry or not self.judgement.retried)


class Field:
    """An instance with a proxy before its activator, on which one fault after the other is tried."""

    def __init__(self, folder: Path) -> None:
        """Keep everything in `folder`."""
        workflows = folder / "workflows"
        workflows.mkdir()
        shutil.copy(DAG, workflows)
        self.folder = folder
        self.stack = Stack(folder, workflows)
        self.proxy: FaultProxy

    def __enter__(self) -> Self:
        """Start it, warm."""
        try:
            self.stack.up()
            endpoints = StatePaths(self.stack.state).endpoints
            listed = json.loads(endpoints.read_text())
            self.proxy = FaultProxy(listed["services"][0]["url"]).__enter__()
            for service in listed["services"]:
                service["url"] = self.proxy.url
            endpoints.write_text(json.dumps(listed))
            warm, _ = self.start("ledgered")
            assert self.wait("ledgered", warm)
        except BaseException:
            self.stack.down()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        """End it."""
        self.proxy.__exit__()
        self.stack.down()

    def start(self, dag_id: str, **data: object) -> tuple[str, Path]:
        """Start a run; return its id and its ledger."""
        ledger = self.folder / f"{time.monotonic_ns()}.ledger"
        return self.stack.start(dag_id, {"ledger": str(ledger), **data}), ledger

    def wait(self, dag_id: str, run_id: str, within: float = _LIMIT) -> bool:
        """Wait for a run's end; whether it came."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            try:
                if self.stack.api(f"dags/{dag_id}/dagRuns/{run_id}")["state"] in {"success", "failed"}:
                    return True
            except httpx.HTTPError:
                pass  # the API server may be what was broken
            time.sleep(0.2)
        return False

    def settle(self) -> None:
        """Wait until every part is healthy again."""
        eventually(lambda: all(part["healthy"] for part in parts.status(self.stack)["parts"]), within=120.0)

    def strike(self, kind: str, rng: random.Random) -> Fault:
        """Run the workflow, break a part meanwhile, and judge."""
        fault = Fault(kind, rng.randint(1, _LINES), round(rng.uniform(0.0, 0.8), 2))
        fault.run, ledger = self.start("ledgered")
        deadline = time.monotonic() + 60
        while len(read(ledger)) < fault.line and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(fault.delay)
        struck = time.monotonic()
        fault.hit = KINDS[kind].strike(self.stack, self.proxy, rng)
        ended = self.wait("ledgered", fault.run)
        fault.recovery = round(time.monotonic() - struck, 1)
        self.settle()
        fault.judgement = judge(self.stack, "ledgered", fault.run, ledger, ended=ended)
        return fault


_COLUMNS = ("lost", "doubled", "false_success", "retried", "overlapped")


def table(faults: list[Fault]) -> str:
    """Return the report, as Markdown."""
    heads = [
        "Fault",
        "n",
        "hit",
        "lost",
        "doubled",
        "falsely successful",
        "retried",
        "overlapped",
        "median s",
        "worst s",
    ]
    rows = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for kind in dict.fromkeys(fault.kind for fault in faults):
        of = [fault for fault in faults if fault.kind == kind]
        times = [fault.recovery for fault in of if fault.hit] or [0.0]
        counts = [sum(len(getattr(fault.judgement, what)) for fault in of) for what in _COLUMNS]
        cells = [kind, len(of), sum(f.hit for f in of), *counts, f"{statistics.median(times):.1f}", max(times)]
        rows.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def report(faults: list[Fault], folder: Path, seed: int) -> None:
    """Write down what came of the faults so far."""
    (folder / "report.json").write_text(json.dumps({"seed": seed, "faults": [asdict(f) for f in faults]}, indent=1))
    (folder / "report.md").write_text(f"Seed {seed}, n = {len(faults)}.\n\n{table(faults)}")


def _in_turns(kinds: Iterable[str], count: int) -> list[str]:
    return [kind for _ in range(count) for kind in kinds]


def main() -> int:
    """Break each kind of part a number of times, in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND")
    parser.add_argument("--report", type=Path, default=Path("build/faults"))
    options = parser.parse_args()
    options.report.mkdir(parents=True, exist_ok=True)
    rng = random.Random(options.seed)  # noqa: S311
    faults: list[Fault] = []
    with tempfile.TemporaryDirectory() as name, Field(Path(name)) as field_:
        for kind in _in_turns(options.kinds, options.count):
            faults.append(field_.strike(kind, rng))
            said = {**asdict(faults[-1]), "clean": faults[-1].is_clean}
            sys.stdout.write(json.dumps(said) + "\n")
            sys.stdout.flush()
            if not faults[-1].is_clean:
                shutil.copytree(field_.stack.state / "logs", options.report / faults[-1].run, dirs_exist_ok=True)
            report(faults, options.report, options.seed)
    sys.stdout.write(table(faults))
    return 0 if all(fault.is_clean for fault in faults) else 1


if __name__ == "__main__":
    raise SystemExit(main())
