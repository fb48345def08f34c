"""Breaks one part of a whole local instance while a workflow runs, and holds Airflow's word against a ledger."""

from __future__ import annotations

import json
import os
import queue
import random
import shutil
import sys
import tempfile
import threading
import time
import traceback
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

import httpx
from tests.local.stack import QUICK, Stack
from tests.local.workers import eventually

from airflow_knative.local.paths import StatePaths

from . import parts, records
from .kinds import KINDS
from .ledger import judge, read
from .options import parser
from .proxy import FaultProxy
from .records import Fault

__all__ = ["SETTINGS", "Field"]

DAG = Path(__file__).parent / "dags" / "ledgered.py"
_LINES = 16  # of a ledger in which nothing went wrong, but for the last
_LIMIT = 600.0  # seconds until a run that has not ended counts as lost
# Recovery is mostly waiting for these. They stay beyond what a busy machine and `kinds` pause a part for: what is only
# slow must not be taken for lost.
SETTINGS: Final = {
    **QUICK,
    "AIRFLOW__KNATIVE__LOST_WORKER_TIMEOUT": "12",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "10",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "3",
}


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
        self._undo: ExitStack

    def __enter__(self) -> Self:
        """Start it, warm."""
        with ExitStack() as undo:
            undo.enter_context(self.stack.running(**SETTINGS))
            endpoints = StatePaths(self.stack.state).endpoints
            listed = json.loads(endpoints.read_text())
            self.proxy = undo.enter_context(FaultProxy(listed["services"][0]["url"]))
            for service in listed["services"]:
                service["url"] = self.proxy.url
            endpoints.write_text(json.dumps(listed))
            warm, _ = self.start("ledgered")
            assert self.wait("ledgered", warm)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_exc: object) -> None:
        """End it."""
        self._undo.close()

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

    def strike(self, kind: str, number: int, seed: int) -> Fault:
        """Run the workflow, break a part at a moment that `seed`, `kind` and `number` choose, and judge."""
        rng = random.Random(f"{seed} {kind} {number}")  # noqa: S311
        fault = Fault(kind, number, seed, line=rng.randint(1, _LINES), delay=round(rng.uniform(0.0, 0.8), 2))
        begun = time.monotonic()
        fault.run, ledger = self.start("ledgered")
        deadline = begun + 60
        while len(read(ledger)) < fault.line and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(fault.delay)
        fault.load = round(os.getloadavg()[0], 1)
        struck = time.monotonic()
        fault.hit = KINDS[kind].strike(self.stack, self.proxy, rng)
        ended = self.wait("ledgered", fault.run)
        fault.recovery = round(time.monotonic() - struck, 1)
        self.settle()
        fault.judgement = judge(self.stack, "ledgered", fault.run, ledger, ended=ended)
        fault.took = round(time.monotonic() - begun, 1)
        return fault


class _Series:
    """Faults that are still to be tried, on several instances at the same time."""

    def __init__(self, todo: list[tuple[str, int]], *, seed: int, report: Path, until: float) -> None:
        """Try `todo` until `time.monotonic()` is `until`, and add what comes of it to the folder `report`."""
        self._todo: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
        for one in todo:
            self._todo.put(one)
        self._seed, self._until, self._instances = seed, until, 1
        self._report = report
        self.path = report / "records.jsonl"
        self._lock = threading.Lock()

    def run(self, instances: int) -> None:
        """See it through."""
        self._instances = instances
        threads = [threading.Thread(target=self._on_one_instance_after_the_other) for _ in range(instances)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _on_one_instance_after_the_other(self) -> None:
        while not self._todo.empty() and time.monotonic() < self._until:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
                try:
                    with Field(Path(name)) as field:
                        self._on(field)
                except Exception:  # noqa: BLE001 - the fault it struck has been written down; others come after it
                    traceback.print_exc()

    def _on(self, field: Field) -> None:
        while time.monotonic() < self._until:
            try:
                kind, number = self._todo.get_nowait()
            except queue.Empty:
                return
            try:
                fault = field.strike(kind, number, self._seed)
            except Exception as error:
                fault = Fault(kind, number, self._seed, line=0, delay=0.0, hit=True)
                fault.judgement.lost.append(f"the instance did not come through: {error!r}")
                self._keep(field, fault)
                raise
            self._keep(field, fault)

    def _keep(self, field: Field, fault: Fault) -> None:
        fault.instances = self._instances
        with self._lock:
            records.append(self.path, fault)
            sys.stdout.write(json.dumps(fault.record()) + "\n")
            sys.stdout.flush()
            write_report(self._report, records.load(self.path))
        if not fault.is_clean:
            kept = self._report / f"{fault.kind} {fault.number}".replace(" ", "-")
            shutil.copytree(field.stack.state / "logs", kept, dirs_exist_ok=True)


def write_report(folder: Path, faults: list[Fault]) -> None:
    """Write down what came of the faults so far."""
    seeds = ", ".join(sorted({str(fault.seed) for fault in faults}))
    described: dict[str, Any] = {"seeds": seeds, "faults": [fault.record() for fault in faults]}
    (folder / "report.json").write_text(json.dumps(described, indent=1))
    (folder / "report.md").write_text(f"Seed {seeds}, n = {len(faults)}.\n\n{records.table(faults)}")


def main() -> int:
    """Break each kind of part until there is a number of records of each."""
    arguments = parser(__doc__, chosen="kinds", among=list(KINDS), count=20)
    arguments.add_argument("--instances", type=int, default=1, help="how many to break at the same time")
    arguments.add_argument("--minutes", type=float, default=float("inf"), help="begin with no fault after these")
    arguments.add_argument("--resume", action="store_true", help="count what the folder of the report has already")
    options = arguments.parse_args()
    options.report.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + options.minutes * 60
    if not options.resume:
        (options.report / "records.jsonl").unlink(missing_ok=True)
    todo = records.missing(records.load(options.report / "records.jsonl"), options.kinds, options.count)
    series = _Series(todo, seed=options.seed, report=options.report, until=until)
    series.run(options.instances)
    faults = records.load(series.path)
    sys.stdout.write(records.table(faults))
    return 0 if all(fault.is_clean for fault in faults) else 1


if __name__ == "__main__":
    raise SystemExit(main())
