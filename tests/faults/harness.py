"""Breaks one part of a whole local instance at a random time, and compares what tasks did with what Airflow says."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx
import psutil
from tests.local.stack import Stack

DAG = Path(__file__).parent / "dags" / "ledgered.py"
KINDS = {
    "scheduler killed": ("kill", "scheduler"),
    "dispatcher killed": ("kill", "dispatcher"),
    "dispatcher paused": ("pause", "dispatcher"),
    "activator killed": ("kill", "activator"),
    "api-server killed": ("kill", "api-server"),
    "database paused": ("pause", "database"),
}
_DONE = {"success", "failed", "upstream_failed", "skipped"}
_LIMIT = 180.0  # seconds until a run that has not ended counts as lost


@dataclass
class Fault:
    """One fault, and what came of it; times in seconds."""

    kind: str
    after: float
    hit: bool = False
    run: str = ""
    recovery: float = 0.0
    tries: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    false_success: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return self.hit and not (self.lost or self.doubled or self.false_success)


def _processes(stack: Stack, name: str) -> list[psutil.Process]:
    status = stack.status()
    if name == "dispatcher":
        children = psutil.Process(status["pid"]).children(recursive=True)
        return [child for child in children if "airflow_knative.executor.dispatcher" in child.cmdline()]
    return [psutil.Process(one["pid"]) for one in status["parts"] if one["part"] == name and one.get("pid")]


def _break(stack: Stack, action: str, name: str, rng: random.Random) -> bool:
    """Break a part; whether there was one to break."""
    try:
        process = rng.choice(_processes(stack, name))
        if action == "kill":
            process.kill()
            return True
        whole = [process, *process.children(recursive=True)]
    except (psutil.NoSuchProcess, IndexError):
        return False
    for one in whole:
        one.suspend()
    time.sleep(rng.uniform(1, 4))
    for one in whole:
        one.resume()
    return True


def _wait(stack: Stack, run_id: str) -> bool:
    deadline = time.monotonic() + _LIMIT
    while time.monotonic() < deadline:
        try:
            if stack.api(f"dags/ledgered/dagRuns/{run_id}")["state"] in {"success", "failed"}:
                return True
        except httpx.HTTPError:
            pass  # the API server may be what was broken
        time.sleep(0.2)
    return False


def _judge(stack: Stack, fault: Fault, ledger: Path, *, ended: bool) -> None:
    lines = [tuple(line.split()[:4]) for line in ledger.read_text().splitlines()] if ledger.exists() else []
    counts = Counter(lines)
    fault.doubled = [" ".join(line) for line, count in counts.items() if line[0] == "start" and count > 1]
    if not ended:
        fault.lost.append("the run did not end")
    base = f"dags/ledgered/dagRuns/{fault.run}/taskInstances"
    for ti in stack.api(base)["task_instances"]:
        name, number, tried = ti["task_id"], str(ti["map_index"]), str(ti["try_number"])
        said = f"{name} {number} try {tried}: {ti['state']}"
        fault.tries += ti["try_number"]
        if ti["state"] not in _DONE:
            fault.lost.append(said)
        elif ti["state"] == "failed":
            log = json.dumps(stack.api(f"{base}/{name}/logs/{tried}?map_index={number}"))
            if '"error"' not in log:
                fault.lost.append(f"{said} without a reason in its log")
        elif ti["state"] == "success":
            query = f"?map_index={number}"
            expected = [1, 2] if name == "once" else (int(number) + 1) * 10
            entry = stack.airflow.get(f"/api/v2/{base}/{name}/xcomEntries/return_value{query}")
            if ("end", name, number, tried) not in counts:
                fault.false_success.append(f"{said}, not in the ledger")
            elif entry.status_code != httpx.codes.OK or entry.json()["value"] != expected:
                fault.lost.append(f"{said}, XCom: {entry.text}")


def strike(stack: Stack, kind: str, rng: random.Random, folder: Path) -> Fault:
    """Run the workflow, break a part meanwhile, and judge."""
    fault = Fault(kind, round(rng.uniform(0.2, 4.0), 2))
    ledger = folder / f"{time.monotonic_ns()}.ledger"
    fault.run = stack.start("ledgered", str(ledger))
    time.sleep(fault.after)
    action, name = KINDS[kind]
    is_running = stack.api(f"dags/ledgered/dagRuns/{fault.run}")["state"] in {"queued", "running"}
    fault.hit = _break(stack, action, name, rng) and is_running
    broken = time.monotonic()
    ended = _wait(stack, fault.run)
    fault.recovery = round(time.monotonic() - broken, 1)
    _judge(stack, fault, ledger, ended=ended)
    return fault


def table(faults: list[Fault]) -> str:
    """The report, as Markdown."""
    rows = [
        "| Fault | n | hit | lost | doubled | falsely successful | median s to the run's end | worst |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind in dict.fromkeys(fault.kind for fault in faults):
        of = [fault for fault in faults if fault.kind == kind]
        times = [fault.recovery for fault in of]
        bad = [sum(len(getattr(fault, what)) for fault in of) for what in ("lost", "doubled", "false_success")]
        cells = [kind, len(of), sum(f.hit for f in of), *bad, f"{statistics.median(times):.1f}", max(times)]
        rows.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def main() -> int:
    """Break each kind of part a number of times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--report", type=Path, default=Path("build/faults"))
    options = parser.parse_args()
    options.report.mkdir(parents=True, exist_ok=True)
    rng = random.Random(options.seed)  # noqa: S311
    faults: list[Fault] = []
    with tempfile.TemporaryDirectory() as name:
        stack = make_stack(Path(name))
        try:
            stack.up()
            for kind in [kind for kind in options.kinds for _ in range(options.count)]:
                faults.append(strike(stack, kind, rng, Path(name)))
                sys.stdout.write(json.dumps(asdict(faults[-1])) + "\n")
                sys.stdout.flush()
                report = {"seed": options.seed, "faults": [asdict(fault) for fault in faults]}
                (options.report / "report.json").write_text(json.dumps(report, indent=2) + "\n")
                (options.report / "report.md").write_text(table(faults))
        finally:
            stack.down()
    sys.stdout.write(table(faults))
    return 0 if all(fault.is_clean for fault in faults) else 1


def make_stack(folder: Path) -> Stack:
    """An instance with the workflow that keeps a ledger; not started."""
    workflows = folder / "workflows"
    workflows.mkdir()
    shutil.copy(DAG, workflows)
    return Stack(folder, workflows)


if __name__ == "__main__":
    raise SystemExit(main())
