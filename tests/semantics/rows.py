"""What a dag run leaves in Airflow's database and in its logs, without what differs from one run to the next."""

from __future__ import annotations

import itertools
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Of these columns only whether they are set is compared.
_TIMES = [
    "start_date",
    "end_date",
    "queued_dttm",
    "scheduled_dttm",
    "queued_at",
    "run_after",
    "timestamp",
    "responded_at",
    "trigger_timeout",
    "expires_at",
]
_INTERVAL = ("data_interval_start", "data_interval_end")
# These are other things than what a task did: keys, places, bookkeeping of the scheduler.
_IGNORED = [
    *("id", "ti_id", "task_instance_id", "dag_run_id", "dag_version_id", "created_dag_version_id", "log_template_id"),
    *("created_at", "updated_at", "last_heartbeat_at", "last_scheduling_decision", "duration", "reschedule_date"),
    *("hostname", "unixname", "pid", "executor", "external_executor_id", "context_carrier", "span_status"),
    *("creating_job_id", "scheduled_by_job_id", "queued_by_job_id", "trigger_id", "asset_id", "backfill_id"),
]
_QUERIES = {
    "runs": "SELECT to_jsonb(r) FROM dag_run r WHERE dag_id = %(dag_id)s",
    "tasks": (
        "SELECT to_jsonb(t) || jsonb_build_object('dag_version', v.version_number) FROM task_instance t "
        "LEFT JOIN dag_version v ON v.id = t.dag_version_id WHERE t.dag_id = %(dag_id)s"
    ),
    "earlier tries": "SELECT to_jsonb(t) FROM task_instance_history t WHERE dag_id = %(dag_id)s",
    "xcoms": "SELECT to_jsonb(x) FROM xcom x WHERE dag_id = %(dag_id)s",
    "rendered": "SELECT to_jsonb(f) FROM rendered_task_instance_fields f WHERE dag_id = %(dag_id)s",
    "mapped lengths": "SELECT to_jsonb(m) FROM task_map m WHERE dag_id = %(dag_id)s",
    "reschedules": (
        "SELECT to_jsonb(s) || jsonb_build_object('task_id', t.task_id) FROM task_reschedule s "
        "JOIN task_instance t ON t.id = s.ti_id WHERE t.dag_id = %(dag_id)s"
    ),
    "asset events": (
        "SELECT to_jsonb(e) || jsonb_build_object('name', a.name, 'uri', a.uri) FROM asset_event e "
        "JOIN asset a ON a.id = e.asset_id WHERE source_dag_id = %(dag_id)s"
    ),
    "questions": (
        "SELECT to_jsonb(h) || jsonb_build_object('task_id', t.task_id) FROM hitl_detail h "
        "JOIN task_instance t ON t.id = h.ti_id WHERE t.dag_id = %(dag_id)s"
    ),
    "task state": (
        "SELECT to_jsonb(s) FROM task_state_store s JOIN dag_run r ON r.id = s.dag_run_id WHERE r.dag_id = %(dag_id)s"
    ),
    "versions": "SELECT jsonb_build_object('number', version_number) FROM dag_version WHERE dag_id = %(dag_id)s",
}
# Where it runs: the folders of Airflow's own processes and of workers.
_HOME = re.compile(r"/state/(airflow|worker)\b")
_EXECUTOR = re.compile(r"_on_(knative|local)")
# Addresses, ids, traces and, where an object was printed, when something started.
_UNIQUE = re.compile(
    r" at 0x[0-9a-f]+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"
    r"|(?<=start_date=)datetime\.datetime\([^()]*\)|(?<= now: )[-0-9:.+ ]+"
)
# What a task's process says, but for how it came to its DAG.
_LOGGERS = re.compile(r"task(\..*)?|airflow\.task\b.*|unusual_prefix_.*")
_PIPES = {"task.stdout", "task.stderr"}
_STARTUP = "Worker startup parse complete"


def plain(value: Any) -> Any:
    """Return a JSON value in which twins have the same names, and times only tell whether they are set."""
    if isinstance(value, str):
        return _HOME.sub("/home", _UNIQUE.sub("", _EXECUTOR.sub("", value)))
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {plain(key): item is not None if key in _TIMES else plain(item) for key, item in value.items()}
    return value


def rows(connection: Any, dag_id: str) -> dict[str, list[dict[str, Any]]]:
    """Return a DAG's rows by kind, sorted, as a connection to Airflow's database finds them."""
    with connection.cursor() as cursor:
        found = {}
        for kind, query in _QUERIES.items():
            cursor.execute(query, {"dag_id": dag_id})
            found[kind] = sorted((_row(row) for (row,) in cursor), key=lambda row: json.dumps(_identity(row)))
    return found


def _row(row: dict[str, Any]) -> dict[str, Any]:
    if row.get("run_type") == "operator_triggered":  # without a date of its own, its interval is when that was
        row = row | {name: row[name] is not None for name in _INTERVAL}
    kept: dict[str, Any] = plain({key: value for key, value in row.items() if key not in _IGNORED})
    return kept


def _identity(row: dict[str, Any]) -> list[Any]:
    names = ("dag_id", "run_id", "task_id", "map_index", "try_number", "key")
    return [*(row.get(name) for name in names), json.dumps(row, sort_keys=True)]


def logs(folder: Path, dag_id: str) -> dict[str, list[str]]:
    """Return what each try of a DAG's tasks logged: by its file, level and text of each line."""
    base = folder / f"dag_id={dag_id}"
    found = {str(path.relative_to(base)): list(_lines(path)) for path in sorted(base.rglob("*.log"))}
    # A triggerer may have opened a file in which the trigger then had no time to say anything.
    return {name: lines for name, lines in found.items() if lines or ".trigger." not in name}


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a log, and those that say the same again and again once.

    What a task prints comes to its supervisor by other pipes than what it logs, so each has an order of its own.
    """
    lines = sorted(_all_lines(path), key=lambda line: line[0])
    return (f"{level}: {text}" for (_, level, text), _ in itertools.groupby(lines))


def _all_lines(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield where each line of a task comes from (nothing for what it logs), its level and its text."""
    for text in path.read_text().splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            yield "", "", plain(text)
            continue
        logger = str(line.get("logger"))
        if _LOGGERS.fullmatch(logger) and line["event"] != _STARTUP:
            yield logger if logger in _PIPES else "", line["level"], plain(line["event"])
