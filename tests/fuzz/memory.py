"""How much memory a process holds."""

from __future__ import annotations

import gc

import psutil

MIB = 1024 * 1024


def resident(pid: int | None = None) -> int:
    """Return the resident bytes of a process and its children; of this one without children if `pid` is None."""
    if pid is None:
        gc.collect()
        return int(psutil.Process().memory_info().rss)
    process = psutil.Process(pid)
    return sum(one.memory_info().rss for one in [process, *process.children(recursive=True)])
