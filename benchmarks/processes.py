"""What processes use, read from /proc."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["PeakMemory", "cpu_ms", "memory_mb", "tree"]

_KIB_IN_MB: Final = 1000 * 1000 / 1024
_PERIOD: Final = 0.25


def tree(roots: Iterable[int]) -> Iterator[psutil.Process]:
    """Yield each root that is there and everything below it."""
    for pid in roots:
        try:
            root = psutil.Process(pid)
            yield root
            yield from root.children(recursive=True)
        except psutil.NoSuchProcess:
            continue


def cpu_ms(roots: Iterable[int]) -> float:
    """Return the processor time, user and system, that they and their ended children have used."""
    total = 0.0
    for process in tree(roots):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total * 1000


def memory_mb(pids: Iterable[int]) -> float:
    """Return the proportional set size of these processes, so that a page that several share counts once."""
    return sum(_pss_kib(pid) for pid in pids) / _KIB_IN_MB


def _pss_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


class PeakMemory:
    """Looks again and again while something runs. It costs processor time, so nothing is timed meanwhile."""

    def __init__(self, roots: Iterable[int]) -> None:
        """Look at these processes and all below them."""
        self.megabytes = 0.0
        self._roots = tuple(roots)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """End; `megabytes` is the most that was seen."""
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            self.megabytes = max(self.megabytes, memory_mb([process.pid for process in tree(self._roots)]))
            if self._stop.wait(_PERIOD):
                return
