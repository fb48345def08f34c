"""Measuring one scenario on an instance that is up."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final
from urllib.request import urlopen

from airflow_knative.cli.timeline.collect import collect
from airflow_knative.local.ports import free_port
from benchmarks import alone
from benchmarks.samples import Cell
from benchmarks.scenarios import SEED

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_knative.cli.airflow import AirflowApi
    from benchmarks.deployment import LocalInstance
    from benchmarks.gateway import Run
    from benchmarks.scenarios import Scenario

__all__ = ["CELL_SECONDS", "measure", "stages_of"]

CELL_SECONDS: Final = 8.0
"""About how long the timed runs of a scenario may take in one round."""
_WARM_UP: Final = 4
_STAGED: Final = 3
_MEMORY_STEP: Final = 100
# Its start is found as the activator finds a worker's: by asking every 20 ms.
_EMPTY_SERVER: Final = """
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"ok")
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""


def measure(scenario: Scenario, instance: LocalInstance, number: int, *, seconds: float = CELL_SECONDS) -> Cell:
    """Measure a scenario in round `number`."""
    kinds: dict[str, Callable[[Scenario, LocalInstance, Cell, float], None]] = {
        "warm": _warm,
        "cold": _cold,
        "empty": _empty,
        "memory": _memory,
        "gateway": _gateway,
    }
    cell = Cell(scenario.name, instance.variant.name, number, [])
    kinds[scenario.kind](scenario, instance, cell, seconds)
    return cell


def stages_of(airflow: AirflowApi, dag_id: str, runs: list[Run]) -> list[dict[str, float]]:
    """Return the stages of the last of these runs, each summed up over the run's tasks."""
    rows = []
    for run in runs[-_STAGED:]:
        told = collect(airflow, dag_id, run.run_id).as_json()
        rows.append({**told["stages_ms"], "scheduler": told["scheduler_ms"], "total": told["total_ms"]})
    return rows


def _warm(scenario: Scenario, instance: LocalInstance, cell: Cell, seconds: float) -> None:
    def runs(count: int) -> list[Run]:
        return instance.gateway.run_many(
            scenario.dag_id, scenario.data, scenario.output, count=count, at_once=scenario.at_once
        )

    if instance.variant.name == "knative":
        # The workers of each workflow are its own, and more of them start while many runs go on at once. A rival is
        # warm after the first of all scenarios.
        runs(_WARM_UP * scenario.at_once)
    begun = time.monotonic()
    runs(1)
    count = scenario.runs
    if scenario.at_once == 1:
        count = max(scenario.least, min(count, int(seconds / (time.monotonic() - begun))))
    before = instance.cpu_ms()
    done = runs(count)
    cell.cpu_ms = (instance.cpu_ms() - before) / count
    cell.milliseconds = [run.milliseconds for run in done]
    cell.stages = stages_of(instance.airflow, scenario.dag_id, done)
    if scenario.has_memory:
        with instance.peak_memory() as peak:
            runs(1)
        cell.peak_mb = peak.megabytes


def _cold(scenario: Scenario, instance: LocalInstance, cell: Cell, _seconds: float) -> None:
    # What is not a worker has been at work for a while when a workflow wakes up.
    for _ in range(3):
        instance.gateway.run(SEED, scenario.data, scenario.output)
    spent = 0.0
    for number in range(scenario.runs):
        instance.to_zero()
        time.sleep(0.5)
        dag_id = f"{SEED}_{number}"
        before = instance.cpu_ms()
        run = instance.gateway.run(dag_id, scenario.data, scenario.output)
        spent += instance.cpu_ms() - before
        cell.milliseconds.append(run.milliseconds)
        cell.stages += stages_of(instance.airflow, dag_id, [run])
    cell.cpu_ms = spent / scenario.runs


def _empty(scenario: Scenario, _instance: LocalInstance, cell: Cell, _seconds: float) -> None:
    for _ in range(scenario.runs):
        port = free_port()
        begun = time.perf_counter()
        server = subprocess.Popen([sys.executable, "-c", _EMPTY_SERVER, str(port)])
        try:
            while not _answers(port):
                time.sleep(0.02)
            cell.milliseconds.append((time.perf_counter() - begun) * 1000)
        finally:
            server.kill()
            server.wait()


def _answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/", timeout=1) as answer:
            return bool(answer.status == 200)  # noqa: PLR2004
    except OSError:
        return False


def _memory(scenario: Scenario, instance: LocalInstance, cell: Cell, _seconds: float) -> None:
    def once(_number: int) -> float:
        return instance.gateway.run(scenario.dag_id, scenario.data, scenario.output).milliseconds

    course = []
    before = instance.cpu_ms()
    with ThreadPoolExecutor(scenario.at_once) as pool:
        list(pool.map(once, range(_MEMORY_STEP)))  # what is there from the first runs on is no growth
        course.append({"runs": 0, **instance.scheduler_memory()})
        while len(cell.milliseconds) < scenario.runs:
            cell.milliseconds += pool.map(once, range(_MEMORY_STEP))
            course.append({"runs": len(cell.milliseconds), **instance.scheduler_memory()})
            print(f"    {course[-1]}", file=sys.stderr, flush=True)
    cell.cpu_ms = (instance.cpu_ms() - before) / (scenario.runs + _MEMORY_STEP)
    cell.extra = {"memory": [{name: round(value, 1) for name, value in row.items()} for row in course]}


def _gateway(scenario: Scenario, _instance: LocalInstance, cell: Cell, _seconds: float) -> None:
    shares, cell.cpu_ms, cell.extra = alone.measure(calls=scenario.runs, at_once=scenario.at_once)
    cell.milliseconds = shares
