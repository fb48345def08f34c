"""Child processes that are owned for sure: no broad kills, no orphans, nothing outlives its owner."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from airflow_knative.local.linux import child_setup, children, kill

__all__ = ["OwnedProcess", "OrphanSweeper"]

_ORPHAN_GRACE: Final = 3.0
_KILL_WAIT: Final = 5.0


class OwnedProcess:
    """A child in a session of its own, with its output in a log file.

    The event loop must run in the main thread, which is where the parent-death signal hangs.
    """

    _live: dict[int, OwnedProcess] = {}  # noqa: RUF012 - the registry of this process

    def __init__(self, popen: subprocess.Popen[bytes], log: Path, log_start: int) -> None:
        self._popen = popen
        self._exited = asyncio.Event()
        self._pidfd = os.pidfd_open(popen.pid)
        self.log = log
        self.log_start = log_start
        self.started = time.time()
        self._live[popen.pid] = self
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
        text: str | None = None,
    ) -> OwnedProcess:
        """Start a program.

        Args:
            command: Program and arguments.
            environment: All of its variables.
            log: File that its output is appended to.
            folder: Its working folder.
            setup: What to do between fork and exec; by default it gets SIGTERM when this process dies.
            text: What it reads on standard input, nothing by default.

        Raises:
            OSError: The program cannot be started.
        """
        with contextlib.ExitStack() as stack:
            fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            stack.callback(os.close, fd)
            stdin = subprocess.DEVNULL if text is None else _memory_file(text)
            if text is not None:
                stack.callback(os.close, stdin)
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
        return cls(popen, log, start)

    @classmethod
    def live_pids(cls) -> set[int]:
        """The pids of all that have not been waited for."""
        return set(cls._live)

    @property
    def pid(self) -> int:
        """Its pid, which is its session's and process group's too."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, minus the signal's number if one ended it, or None while it runs."""
        return self._popen.returncode

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return not self._exited.is_set()

    async def wait(self) -> int:
        """Wait until it has ended."""
        await self._exited.wait()
        return int(self._popen.returncode)

    def send(self, number: signal.Signals) -> None:
        """Signal it, if it still runs."""
        if self.is_running:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    async def stop(self, *, first: signal.Signals = signal.SIGTERM, timeout: float) -> None:
        """Ask it to end, and after `timeout` seconds end its whole process group."""
        self.send(first)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._exited.wait(), timeout)
        if self.is_running:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            self.send(signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._exited.wait(), _KILL_WAIT)

    def _on_exit(self) -> None:
        if self._popen.poll() is None:
            return
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        del self._live[self.pid]
        self._exited.set()


def _memory_file(text: str) -> int:
    """A file that is nowhere on disk, holding a text to be read from its beginning."""
    fd = os.memfd_create("stdin", os.MFD_CLOEXEC)
    os.write(fd, text.encode())
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


class OrphanSweeper:
    """Ends the orphans that this process, a subreaper, has become the parent of.

    When a child dies, what it had started falls to this process. Every child that is not an `OwnedProcess` is such an
    orphan: it gets SIGTERM, and SIGKILL some seconds later.
    """

    def __init__(self, *, interval: float = 1.0) -> None:
        self._interval = interval
        self._asked: dict[int, float] = {}

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            self.sweep()
            await asyncio.sleep(self._interval)

    async def finish(self) -> None:
        """Sweep until no orphan is left."""
        while self.sweep():
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
