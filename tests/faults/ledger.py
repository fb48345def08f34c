"""What tasks did, by their own ledger, beside what Airflow says."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import httpx

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Instance", "Judgement", "Line", "judge", "read"]

_DONE = {"success", "failed", "upstream_failed", "skipped"}
_REASONS = ("error", "critical")
"""Levels at which a log says why its task failed."""
RETRIES = {"each": 3, "stubborn": 3, "one": 3}
"""Of the tasks that have any."""


class Instance(Protocol):
    """Airflow's API and its gateway, wherever they run."""

    gateway: httpx.Client
    airflow: httpx.Client

    def api(self, path: str) -> Any:
        """GET something from Airflow's API."""


class Line(NamedTuple):
    """One line of a ledger."""

    what: str
    task: str
    map_index: str
    tried: str
    pid: str
    at: str


@dataclass
class Judgement:
    """What is wrong with a run, if anything."""

    lost: list[str] = field(default_factory=list)
    """Ended without an end, without its result, or failed without a reason."""
    doubled: list[str] = field(default_factory=list)
    """Executed twice for the same try, or more often than its retries allow."""
    false_success: list[str] = field(default_factory=list)
    """Successful without having been executed to its end."""
    retried: list[str] = field(default_factory=list)
    """Executed again, or failed, because of the fault: allowed where the fault took a worker."""
    overlapped: list[str] = field(default_factory=list)
    """Went on while its next try had begun."""


def read(path: Path) -> list[Line]:
    """Return a ledger's lines."""
    return [Line(*line.split()) for line in path.read_text().splitlines()] if path.exists() else []


def judge(instance: Instance, dag_id: str, run_id: str, path: Path, *, ended: bool) -> Judgement:
    """Compare a run's ledger with its task instances, their XComs and the run's output."""
    found, lines = Judgement(), read(path)
    if not ended:
        found.lost.append("the run did not end")
    _judge_executions(lines, found)
    done = {line[1:4] for line in lines if line.what == "end"}
    base = f"dags/{dag_id}/dagRuns/{run_id}"
    for ti in _task_instances(instance, base):
        _judge_task_instance(instance, base, ti, done, found)
    answer = instance.gateway.get(f"/runs/{dag_id}/{run_id}").json()
    if answer.get("state") == "success" and dag_id == "ledgered" and answer.get("output") != 100:
        found.lost.append(f"the run's output: {answer}")
    return found


def _judge_executions(lines: list[Line], found: Judgement) -> None:
    for (what, task, index, tried), count in Counter(line[:4] for line in lines).items():
        if what != "end" and count > 1:
            found.doubled.append(f"{what} {task}[{index}] try {tried}, {count} times")
    starts: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for line in lines:
        if line.what == "start":
            starts[line.task, line.map_index].append(line)
    for (task, index), executed in starts.items():
        if len(executed) > 1 + RETRIES.get(task, 0):
            found.doubled.append(f"{task}[{index}] was executed {len(executed)} times")
        elif len(executed) > 1 + (task == "stubborn"):
            found.retried.append(f"{task}[{index}] was executed {len(executed)} times")
        for end in lines:
            if (end.what, end.task, end.map_index) == ("end", task, index) and any(
                float(start.at) < float(end.at) and int(start.tried) > int(end.tried) for start in executed
            ):
                found.overlapped.append(f"{task}[{index}] try {end.tried}")


def _task_instances(instance: Instance, base: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = instance.api(f"{base}/taskInstances?limit=100&offset={len(found)}")["task_instances"]
        found += page
        if len(page) < 100:
            return found


def _judge_task_instance(
    instance: Instance, base: str, ti: dict[str, Any], done: set[tuple[str, ...]], found: Judgement
) -> None:
    task, index, tried, state = ti["task_id"], ti["map_index"], ti["try_number"], ti["state"]
    said = f"{task}[{index}] try {tried}: {state}"
    if state not in _DONE:
        found.lost.append(said)
    elif state == "failed":
        found.retried.append(said)
        log = json.dumps(instance.api(f"{base}/taskInstances/{task}/logs/{tried}?map_index={index}"))
        if not any(f'"level": "{level}"' in log for level in _REASONS):
            found.lost.append(f"{said} without a reason in its log")
    elif state == "success" and task != "numbers":
        if (task, str(index), str(tried)) not in done:
            found.false_success.append(f"{said}, not in the ledger")
        expected = {
            "once": [1, 2, 3, 4],
            "each": (index + 1) * 10,
            "total": 100,
            "stubborn": "done",
            "deferred": "resumed",
            "one": index,
        }[task]
        entry = instance.airflow.get(
            f"/api/v2/{base}/taskInstances/{task}/xcomEntries/return_value", params={"map_index": index}
        )
        if entry.status_code != httpx.codes.OK or entry.json()["value"] != expected:
            found.lost.append(f"{said}, XCom: {entry.text}")
