"""Faults under load: a scheduler dies while fifty tasks run; workers die while a thousand go through."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from tests.local.workers import eventually

from airflow_knative.local.parts import Parts
from airflow_knative.local.paths import StatePaths
from airflow_knative.local.secrets import Secrets
from airflow_knative.local.settings import LocalSettings

from . import parts
from .harness import SETTINGS, Field
from .ledger import judge, read
from .options import parser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["SCENARIOS"]

_FIFTY = 50
_LIMIT = 1200.0


def _started(ledger: Path) -> int:
    return sum(line.what == "start" for line in read(ledger))


def _outcome(field: Field, dag_id: str, run_id: str, ledger: Path) -> dict[str, Any]:
    ended = field.wait(dag_id, run_id, within=_LIMIT)
    field.settle()
    judgement = judge(field.stack, dag_id, run_id, ledger, ended=ended)
    state = field.stack.api(f"dags/{dag_id}/dagRuns/{run_id}")["state"]
    return {"state": state, "executed": _started(ledger), **asdict(judgement)}


def _fifty_run(field: Field, seconds: float, kill: Callable[[], None]) -> dict[str, Any]:
    run_id, ledger = field.start("fifty", count=_FIFTY, seconds=seconds)
    eventually(lambda: _started(ledger) == _FIFTY, within=_LIMIT)
    kill()
    return _outcome(field, "fifty", run_id, ledger)


def scheduler_killed(field: Field, _rng: random.Random) -> dict[str, Any]:
    """Kill the scheduler while fifty tasks run."""
    return _fifty_run(field, 30.0, parts.find(field.stack, "scheduler")[0].kill)


@contextmanager
def _second_scheduler(field: Field) -> Iterator[psutil.Process]:
    paths = StatePaths(field.stack.state)
    instance = Parts(paths, LocalSettings.load(paths.settings), Secrets.load(paths))
    part = instance.airflow("scheduler")
    with (field.folder / "second-scheduler.log").open("ab") as log:
        process = subprocess.Popen(
            part.command,
            env={**part.environment, **SETTINGS},
            cwd=part.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        eventually(lambda: _has_dispatcher(process.pid), within=180.0)
        time.sleep(5.0)  # it takes part from now on
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _has_dispatcher(pid: int) -> bool:
    return any("airflow_knative.executor.dispatcher" in one.cmdline() for one in psutil.Process(pid).children())


def one_of_two_schedulers_killed(field: Field, rng: random.Random) -> dict[str, Any]:
    """Kill one of two schedulers while fifty tasks run, now the one, now the other."""
    with _second_scheduler(field) as second:
        first = parts.find(field.stack, "scheduler")[0]
        return _fifty_run(field, 30.0, rng.choice([first, second]).kill)


def workers_killed(field: Field, rng: random.Random) -> dict[str, Any]:
    """Send a thousand tasks through, 32 at once, and kill a worker every ten to twenty seconds."""
    before = _memory(field)
    run_id, ledger = field.start("thousand", count=1000, seconds=0.2)
    kills = 0
    eventually(lambda: _started(ledger) > 0, within=_LIMIT)
    deadline = time.monotonic() + _LIMIT
    while not field.wait("thousand", run_id, within=rng.uniform(10.0, 20.0)) and time.monotonic() < deadline:
        for victim in parts.find(field.stack, "worker")[:1]:
            victim.kill()
            kills += 1
    outcome = _outcome(field, "thousand", run_id, ledger)
    return {**outcome, "kills": kills, "memory before, MB": before, "memory after, MB": _memory(field)}


def _memory(field: Field) -> dict[str, int]:
    """Resident memory of those that a thousand tasks go through, in MB."""
    return {
        part: parts.find(field.stack, part)[0].memory_info().rss >> 20
        for part in ("scheduler", "dispatcher", "gateway", "api-server")
    }


SCENARIOS = {
    "scheduler killed while 50 tasks run": scheduler_killed,
    "one of two schedulers killed while 50 tasks run": one_of_two_schedulers_killed,
    "1000 tasks, 32 at once, workers killed": workers_killed,
}


def main() -> int:
    """Run each scenario a number of times on one instance."""
    options = parser(__doc__, chosen="only", among=list(SCENARIOS), count=1).parse_args()
    options.report.mkdir(parents=True, exist_ok=True)
    rng = random.Random(options.seed)  # noqa: S311
    outcomes: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name, Field(Path(name)) as field:
        for scenario in [only for _ in range(options.count) for only in options.only]:
            with _logs_kept(field, options.report / scenario.replace(" ", "-")) as outcome:
                begun, load = time.monotonic(), round(os.getloadavg()[0], 1)
                outcome.update({"scenario": scenario, "seed": options.seed, **SCENARIOS[scenario](field, rng)})
                outcome.update({"load": load, "took": round(time.monotonic() - begun, 1)})
            outcomes.append(outcome)
            line = json.dumps(outcome) + "\n"
            sys.stdout.write(line)
            sys.stdout.flush()
            with (options.report / "scenarios.jsonl").open("a") as kept:
                kept.write(line)
    return 0 if all(_is_clean(one) for one in outcomes) else 1


@contextmanager
def _logs_kept(field: Field, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield an outcome to be filled in; unless it is a clean one then, keep the instance's logs in `folder`."""
    outcome: dict[str, Any] = {}
    try:
        yield outcome
    finally:
        if not (outcome and _is_clean(outcome)):
            shutil.copytree(field.stack.state / "logs", folder, dirs_exist_ok=True)


def _is_clean(outcome: dict[str, Any]) -> bool:
    return outcome["state"] == "success" and not any(outcome[what] for what in ("lost", "doubled", "false_success"))


if __name__ == "__main__":
    raise SystemExit(main())
