"""What Linux offers so that no process outlives its parent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from pathlib import Path
from typing import Final

import psutil

__all__ = ["adopt_orphans", "die_with_parent", "kill_children"]

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_PR_SET_CHILD_SUBREAPER: Final = 36


_LIBC: Final = ctypes.CDLL(None, use_errno=True)  # once, before the forks


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent, the process `parent`, ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of every orphan below this process, so that it can be found and ended."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def kill_children(*, keep: set[int]) -> list[int]:
    """Kill every child of this process but those in `keep`, and what they leave behind; return their pids."""
    killed: list[int] = []
    while strays := [pid for pid in _children() if pid not in keep]:
        for pid in strays:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        killed += strays
    return killed


def _children() -> list[int]:
    try:
        # One short read, where psutil would look at every process of the machine (proc_pid_children(5)).
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [child.pid for child in psutil.Process().children()]
