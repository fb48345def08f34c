"""Child processes that are owned for sure: no broad kills, no orphans, nothing outlives its owner."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Final

from airflow_knative.local.linux import child_setup, children, kill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["OrphanSweeper", "OwnedProcess"]

_ORPHAN_GRACE: Final = 2.0
_KILL_WAIT: Final = 5.0


class OwnedProcess:
    """A child in a session of its own, with its output in a log file.

    The event loop must run in the main thread, which is where the parent-death signal hangs.
    """

    _live: dict[int, OwnedProcess] = {}  # noqa: RUF012 - the registry of this process

    def __init__(self, pid: int, log: Path, log_start: int, popen: subprocess.Popen[bytes] | None = None) -> None:
        self._popen = popen
        self._exited = asyncio.Event()
        self._pidfd = os.pidfd_open(pid)
        self.pid = pid
        """Its pid, which is its session's and process group's too."""
        self.returncode: int | None = None
        """Its exit code, minus the signal's number if one ended it, or None while it runs."""
        self.log = log
        self.log_start = log_start
        self.started = time.time()
        self._live[pid] = self
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_exit)

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        folder: Path,
        setup: Callable[[], None] | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> OwnedProcess:
        """Start a program.

        Args:
            command: Program and arguments.
            environment: All of its variables.
            log: File that its output is appended to.
            folder: Its working folder.
            setup: What to do between fork and exec; by default it gets SIGTERM when this process dies.
            stdin: File descriptor of its standard input, nothing by default.

        Raises:
            OSError: The program cannot be started.
        """
        with contextlib.ExitStack() as stack:
            fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            stack.callback(os.close, fd)
            start = os.fstat(fd).st_size
            popen = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=folder,
                stdin=stdin,
                stdout=fd,
                stderr=fd,
                start_new_session=True,
                # Safe: this process has one thread, and the hook makes system calls only.
                preexec_fn=setup or child_setup(signal.SIGTERM),  # noqa: PLW1509
            )
        return cls(popen.pid, log, start, popen)

    @classmethod
    def adopt(cls, pid: int, log: Path) -> OwnedProcess:
        """Own a child that another process has started and left to this one, a subreaper."""
        return cls(pid, log, log.stat().st_size)

    @classmethod
    def live_pids(cls) -> set[int]:
        """The pids of all that have not been waited for."""
        return set(cls._live)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return not self._exited.is_set()

    async def wait(self) -> int:
        """Wait until it has ended."""
        await self._exited.wait()
        return int(self.returncode or 0)

    def send(self, number: signal.Signals) -> None:
        """Signal it, if it still runs."""
        if self.is_running:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    async def stop(self, *, first: signal.Signals = signal.SIGTERM, within: float) -> None:
        """Ask it to end, and after `within` seconds end its whole process group."""
        self.send(first)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._exited.wait(), within)
        if self.is_running:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            self.send(signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._exited.wait(), _KILL_WAIT)

    def _on_exit(self) -> None:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            return
        self.returncode = os.waitstatus_to_exitcode(status)
        if self._popen is not None:
            self._popen.returncode = self.returncode
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        del self._live[self.pid]
        self._exited.set()


class OrphanSweeper:
    """Ends the orphans that this process, a subreaper, has become the parent of.

    When a child dies, what it had started falls to this process. Every child that is not an `OwnedProcess` is such an
    orphan: it gets SIGTERM, and SIGKILL some seconds later.
    """

    _pauses = 0

    def __init__(self, *, interval: float = 1.0) -> None:
        self._interval = interval
        self._asked: dict[int, float] = {}

    @classmethod
    @contextlib.contextmanager
    def paused(cls) -> Iterator[None]:
        """Leave orphans alone for a while: there will be some to adopt."""
        cls._pauses += 1
        try:
            yield
        finally:
            cls._pauses -= 1

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            if not self._pauses:
                self.sweep()
            await asyncio.sleep(self._interval)

    async def finish(self) -> None:
        """Sweep until no orphan is left."""
        while self.sweep():  # noqa: ASYNC110 - the kernel does not tell of orphans
            await asyncio.sleep(0.05)

    def sweep(self) -> int:
        """Look once; say how many orphans there still are."""
        now = time.monotonic()
        orphans = set(children(os.getpid())) - OwnedProcess.live_pids()
        left = 0
        for pid in orphans:
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0] == pid:
                    self._asked.pop(pid, None)
                    continue
            left += 1
            asked = self._asked.setdefault(pid, now)
            if asked == now:
                kill(pid, signal.SIGTERM)
            elif now - asked > _ORPHAN_GRACE:
                kill(pid, signal.SIGKILL)
        for pid in set(self._asked) - orphans:
            del self._asked[pid]
        return left
