"""The outermost process of an instance: whatever happens to the supervisor, it leaves nothing behind.

It does little, so that there is little to go wrong: it holds the state folder's lock, is the subreaper of everything
below it, starts the supervisor, and when that has ended, for whatever reason, ends all that is left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from airflow_knative.local.linux import become_subreaper, child_setup, children, descendants, kill
from airflow_knative.local.lock import GUARD, Lock
from airflow_knative.local.paths import StatePaths

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EXIT_LOCKED", "guard", "main"]

EXIT_LOCKED: Final = 75
"""Exit code when another guard holds the lock (sysexits.h, EX_TEMPFAIL)."""
_GRACE: Final = 5.0


def guard(paths: StatePaths, run: Callable[[], int]) -> int:
    """Run a function in a child, then end every process that is left below this one.

    Returns:
        What the function returned, 128 plus the signal's number if one ended it, or `EXIT_LOCKED`.
    """
    lock = Lock(paths.lock, GUARD)
    if not lock.acquire():
        return EXIT_LOCKED
    become_subreaper()
    setup = child_setup(signal.SIGTERM)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            setup()
            code = run()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: kill(child, signal.SIGTERM))
    code = _wait_for(child)
    _end_the_rest()
    return code


def _wait_for(child: int) -> int:
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _end_the_rest() -> None:
    """First ask, then insist; orphans of what ends come here, so none gets away."""
    me = os.getpid()
    for pid in children(me):
        kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE
    while _reap() and time.monotonic() < deadline:
        time.sleep(0.05)
    while _reap():
        for pid in descendants(me):
            kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _reap() -> bool:
    """Wait for all that has ended; say whether any child is left."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass
        return True
    return False


def main() -> int:
    """Entry point of `python -m airflow_knative.local.guard STATE`."""
    paths = StatePaths(Path(sys.argv[1]))

    def run() -> int:
        # Imported after the fork: the guard itself stays small.
        from airflow_knative.local.supervisor import run_supervisor  # noqa: PLC0415

        return run_supervisor(paths)

    return guard(paths, run)


if __name__ == "__main__":
    sys.exit(main())
