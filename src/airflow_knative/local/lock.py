"""Who owns a state folder: POSIX record locks, which name their holder and end with it."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["GUARD", "SUPERVISOR", "Lock", "holder", "signal_holder"]

GUARD: Final = 0
"""Byte that the guard locks, from before anything starts until after everything has ended."""
SUPERVISOR: Final = 1
"""Byte that the supervisor locks while it lives."""

# struct flock of 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid.
_FLOCK: Final = "hhqqi4x"


class Lock:
    """One locked byte of the lock file, held until this process ends."""

    def __init__(self, path: Path, byte: int) -> None:
        self._byte = byte
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def acquire(self, *, timeout: float = 0.0) -> bool:
        """Take the lock, trying for `timeout` seconds; say whether that worked."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self._byte)
            except (BlockingIOError, PermissionError):
                if time.monotonic() >= deadline:
                    return False
                time.sleep(0.02)
            else:
                return True


def holder(path: Path, byte: int) -> int | None:
    """The pid of the process that holds a byte's lock, as the kernel knows it, or None."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        answer = fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0))
    finally:
        os.close(fd)
    kind, _, _, _, pid = struct.unpack(_FLOCK, answer)
    return None if kind == fcntl.F_UNLCK else int(pid)


def _pidfd_of_holder(path: Path, byte: int) -> int | None:
    """A pidfd of the holder: it names that very process even if the pid is given to another one later."""
    pid = holder(path, byte)
    if pid is None:
        return None
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    if holder(path, byte) != pid:
        os.close(fd)
        return None
    return fd


def signal_holder(path: Path, byte: int, number: signal.Signals) -> bool:
    """Signal the holder of a byte; say whether there was one."""
    fd = _pidfd_of_holder(path, byte)
    if fd is None:
        return False
    try:
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True
