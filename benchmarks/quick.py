"""`compute_avg_distributed`, warm, through the gateway: this executor beside LocalExecutor, as it comes and tuned.

The variants take turns on one machine, one PostgreSQL and one set of DAGs; each turn starts an instance with another
executor on the same state folder, throws its first runs away, then measures. Writes JSON and prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import httpx
import psutil

DAG_ID = "compute_avg_distributed"
SCENARIO = f"{DAG_ID}/warm"
ROOT = Path(__file__).parents[1]
LOCAL_EXECUTOR = "airflow.executors.local_executor.LocalExecutor"
VARIANTS: dict[str, dict[str, str]] = {
    "knative": {},
    "local-default": {"AIRFLOW__CORE__EXECUTOR": LOCAL_EXECUTOR},
    "local-tuned": {
        "AIRFLOW__CORE__EXECUTOR": LOCAL_EXECUTOR,
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.05",
    },
}


@dataclass
class Samples:
    """What one variant took."""

    milliseconds: list[float] = field(default_factory=list)
    cpu_milliseconds: list[float] = field(default_factory=list)
    """Of all processes of the instance, a run; one value a turn."""

    def summary(self) -> dict[str, float]:
        """Return the figures of the report."""
        ordered = sorted(self.milliseconds)
        return {
            "n": len(ordered),
            "p50_ms": round(statistics.median(ordered), 1),
            "p95_ms": round(ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))], 1),
            "min_ms": round(ordered[0], 1),
            "max_ms": round(ordered[-1], 1),
            "cpu_ms": round(statistics.median(self.cpu_milliseconds), 1),
        }


class Instance:
    """A local instance with a variant's settings."""

    def __init__(self, state: Path, settings: dict[str, str]) -> None:
        """Keep data in `state`; `settings` are Airflow's, as environment variables."""
        self._state = state
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        self._environment = inherited | settings

    def __enter__(self) -> Self:
        """Start it."""
        self._command("up", "--workflows", str(ROOT / "workflows"), "--port-base", "0")
        status = json.loads(self._command("status", "--json"))
        self._supervisor = psutil.Process(status["pid"])
        self._gateway = httpx.Client(base_url=status["urls"]["gateway"], auth=("admin", "admin"), timeout=120.0)
        return self

    def __exit__(self, *_exc: object) -> None:
        """Stop it."""
        self._gateway.close()
        self._command("down")

    def run(self) -> float:
        """Run the workflow once; return what the caller waited, in milliseconds."""
        begun = time.perf_counter()
        response = self._gateway.post(f"/runWorkflow/{DAG_ID}", json={"input": [1, 2, 3, 4]})
        took = (time.perf_counter() - begun) * 1000
        if response.text != '{"output":2.5}':
            sys.exit(f"The run answered {response.status_code}: {response.text}")
        return took

    def cpu(self) -> float:
        """Return the CPU time that the instance has used, ended children included, in milliseconds."""
        total = 0.0
        for process in [self._supervisor, *self._supervisor.children(recursive=True)]:
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system + times.children_user + times.children_system
        return total * 1000

    def _command(self, verb: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "airflow_knative.cli", "local", verb, *arguments, "--state", str(self._state)],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"`local {verb}` failed:\n{done.stdout}{done.stderr}")
        return done.stdout


def measure(rounds: int, runs: int, warm_up: int, state: Path) -> dict[str, Samples]:
    """Let the variants take turns."""
    samples = {name: Samples() for name in VARIANTS}
    for turn in range(rounds):
        for name, settings in VARIANTS.items():
            print(f"round {turn + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
            with Instance(state, settings) as instance:
                for _ in range(warm_up):
                    instance.run()
                before = instance.cpu()
                samples[name].milliseconds += [instance.run() for _ in range(runs)]
                samples[name].cpu_milliseconds.append((instance.cpu() - before) / runs)
    return samples


def report(samples: dict[str, Samples]) -> dict[str, Any]:
    """Return the report in the shape that all benchmarks share."""
    return {
        "machine": {
            "cpu_count": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "load_average": os.getloadavg(),
            "python": platform.python_version(),
            "system": platform.platform(),
        },
        "versions": {name: version(name) for name in ("airflow-knative", "apache-airflow", "apache-airflow-task-sdk")},
        "scenarios": {SCENARIO: {name: taken.summary() for name, taken in samples.items()}},
    }


def table(scenario: dict[str, dict[str, float]]) -> str:
    """Return the figures as Markdown, with each variant's ratio to this executor."""
    base = scenario["knative"]["p50_ms"]
    lines = [
        "| variant | n | p50 ms | p95 ms | min ms | max ms | CPU ms a run | p50 to knative |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, figures in scenario.items():
        cells = [f"{figures[key]:g}" for key in ("n", "p50_ms", "p95_ms", "min_ms", "max_ms", "cpu_ms")]
        lines.append(f"| {name} | {' | '.join(cells)} | {figures['p50_ms'] / base:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2, help="turns of each variant (default 2)")
    parser.add_argument("--runs", type=int, default=12, help="measured runs a turn (default 12)")
    parser.add_argument("--warm-up", type=int, default=4, help="runs thrown away a turn (default 4)")
    parser.add_argument("--output", type=Path, default=ROOT / "build/bench/quick.json", help="the report's file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="airflow-knative-bench-") as folder:
        # Passable for the user that PostgreSQL runs as where it may not run as root.
        Path(folder).chmod(0o755)
        samples = measure(options.rounds, options.runs, options.warm_up, Path(folder) / "state")
    result = report(samples)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    print(table(result["scenarios"][SCENARIO]))
    print(f"\nThe report is {options.output}")


if __name__ == "__main__":
    main()
