"""Processes of an instance that outlived both its guard and its supervisor."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Final

from airflow_knative.local.environment import MARK

__all__ = ["end_leftovers", "find_leftovers"]

_GRACE: Final = 3.0


def find_leftovers(instance: str) -> list[int]:
    """The pids of the processes that carry an instance's token in their environment."""
    wanted = f"{MARK}={instance}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def end_leftovers(instance: str) -> int:
    """End them: SIGTERM, then SIGKILL; returns how many there were.

    Only the secret token tells them, never a name, and each is held by a pidfd while it is looked at again.
    """
    found = find_leftovers(instance)
    _signal(found, instance, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE
    while (left := find_leftovers(instance)) and time.monotonic() < deadline:
        time.sleep(0.05)
    while left:
        _signal(left, instance, signal.SIGKILL)
        time.sleep(0.05)
        left = find_leftovers(instance)
    return len(found)


def _signal(pids: list[int], instance: str, number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            fd = os.pidfd_open(pid)
            try:
                environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                if f"{MARK}={instance}".encode() in environment:
                    signal.pidfd_send_signal(fd, number)
            finally:
                os.close(fd)
