"""What Linux offers to own processes for sure: subreapers, parent-death signals, pidfds."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from airflow_knative.local.errors import LocalError

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable

__all__ = [
    "Account",
    "become_subreaper",
    "child_setup",
    "children",
    "descendants",
    "kill",
    "set_death_signal",
    "unprivileged_account",
]

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_KEEPCAPS: Final = 8
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_RAISE: Final = 2
_CAP_DAC_OVERRIDE: Final = 1
_CAPABILITY_VERSION_3: Final = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


@dataclass(frozen=True)
class Account:
    """A user to run a program as."""

    name: str
    uid: int
    gid: int


def _prctl(option: int, *arguments: int) -> None:
    padded = (*arguments, 0, 0, 0, 0)[:4]
    if _libc.prctl(option, *(ctypes.c_ulong(value) for value in padded)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def become_subreaper() -> None:
    """Make this process the parent of every orphan among its descendants (prctl(2), PR_SET_CHILD_SUBREAPER).

    Raises:
        OSError: The kernel refuses.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def unprivileged_account() -> Account | None:
    """The account for programs that refuse to run as root, or None where this process is an ordinary user.

    Raises:
        LocalError: This is root and the machine has no `nobody`.
    """
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise LocalError(
            "PostgreSQL refuses to run as root and this machine has no user 'nobody' to run it as; "
            "run this command as an ordinary user"
        ) from None
    return Account("nobody", entry.pw_uid, entry.pw_gid)


def _drop_to(account: Account) -> None:
    """Leave root for `account`, keeping the right to reach files inside root's private folders.

    PostgreSQL checks its user, not its capabilities. With CAP_DAC_OVERRIDE it reaches its folder below a state folder
    of mode 0700 (and programs installed below /root), so no folder has to be opened up for it.
    """
    _prctl(_PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)
    mask = 1 << _CAP_DAC_OVERRIDE
    data = (_CapData * 2)(_CapData(mask, mask, mask), _CapData(0, 0, 0))
    if _libc.capset(ctypes.byref(_CapHeader(_CAPABILITY_VERSION_3, 0)), data) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"capset: {os.strerror(number)}")
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE)


def child_setup(death_signal: signal.Signals, account: Account | None = None) -> Callable[[], None]:
    """What a child does between fork and exec so that it cannot outlive this process.

    The signal comes when the *thread* that forks ends, so fork in the main thread only.

    Args:
        death_signal: What the child gets when its parent dies.
        account: The user to become first.
    """
    parent = os.getpid()

    def setup() -> None:
        if account is not None:
            _drop_to(account)
        # After the change of user, which clears it (prctl(2)).
        set_death_signal(death_signal, parent)

    return setup


def set_death_signal(number: signal.Signals, parent: int) -> None:
    """Have this process signalled when its parent dies (prctl(2), PR_SET_PDEATHSIG); end it if it has died already.

    Args:
        number: The signal.
        parent: Pid of the parent that is meant.
    """
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(1)


def children(pid: int) -> list[int]:
    """The direct children of a process, zombies included; none if it is gone."""
    try:
        listing = [(task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except FileNotFoundError:
        # Gone, or a kernel without CONFIG_PROC_CHILDREN.
        with contextlib.suppress(psutil.Error):
            return [child.pid for child in psutil.Process(pid).children()]
        return []
    except ProcessLookupError:
        return []
    return [int(entry) for line in listing for entry in line.split()]


def descendants(pid: int) -> list[int]:
    """All processes below a process, parents before children."""
    found: list[int] = []
    waiting = children(pid)
    while waiting:
        current = waiting.pop(0)
        found.append(current)
        waiting.extend(children(current))
    return found


def kill(pid: int, number: signal.Signals) -> None:
    """Signal a child that is not yet waited for (so that its number cannot have been given away)."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
