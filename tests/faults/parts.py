"""The processes of a local instance, found by what they are."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import psutil

from airflow_knative.local.control import call
from airflow_knative.local.paths import StatePaths

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.local.stack import Stack

__all__ = ["PARTS", "find", "status", "with_children"]


def status(stack: Stack) -> dict[str, Any]:
    """Return what the instance's supervisor says."""
    return call(StatePaths(stack.state).control, "status", timeout=60.0)


def find(stack: Stack, part: str) -> list[psutil.Process]:
    """Return the processes that are this part: of workers, only busy ones if there are any."""
    said = status(stack)
    with contextlib.suppress(psutil.NoSuchProcess):
        if part == "dispatcher":
            below = psutil.Process(said["pid"]).children(recursive=True)
            return [one for one in below if "airflow_knative.executor.dispatcher" in one.cmdline()]
        if part in _OF_WORKERS:
            workers = [one for service in said["services"] for one in service["workers"] if one["pid"]]
            busy = [one for one in workers if one["in_use"]] or workers
            return [found for one in busy for found in _OF_WORKERS[part](psutil.Process(one["pid"]))]
        return [psutil.Process(one["pid"]) for one in said["parts"] if one["part"] == part and one.get("pid")]
    return []


def with_children(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and all below it."""
    return [process, *process.children(recursive=True)]


def _forks(main: psutil.Process) -> list[psutil.Process]:
    return sorted(main.children(), key=lambda one: (one.create_time(), one.pid))


# The main process forks the front before it imports the DAG, and slots after it; a slot forks its task process.
_OF_WORKERS: dict[str, Callable[[psutil.Process], list[psutil.Process]]] = {
    "worker": lambda main: [main],
    "worker front": lambda main: _forks(main)[:1],
    "worker slot": lambda main: _forks(main)[1:],
    "task process": lambda main: [task for slot in _forks(main)[1:] for task in slot.children()],
}
PARTS = ("scheduler", "dispatcher", "activator", "api-server", "triggerer", "database", *_OF_WORKERS)
