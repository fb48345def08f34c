"""An instance as the command line sees it: starting its guard, asking its supervisor, ending it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from airflow_knative.local.control import call, follow
from airflow_knative.local.environment import tool_environment
from airflow_knative.local.errors import LocalError, NotRunningError
from airflow_knative.local.files import tail
from airflow_knative.local.guard import EXIT_LOCKED
from airflow_knative.local.leftovers import end_leftovers
from airflow_knative.local.linux import child_setup
from airflow_knative.local.lock import GUARD, SUPERVISOR, holder, signal_holder
from airflow_knative.local.ports import check_free
from airflow_knative.local.secrets import Secrets
from airflow_knative.local.settings import LocalSettings
from airflow_knative.wire.keys import generate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_knative.local.paths import StatePaths

__all__ = ["Instance"]

_START_TIMEOUT: Final = 20.0
_ERROR_LINES: Final = 15
_POLL: Final = 0.05
_LOG_LIMIT: Final = 10 * 1024 * 1024


class Instance:
    """What runs, or does not run, in a state folder."""

    def __init__(
        self, paths: StatePaths, *, guard: Sequence[str] = (sys.executable, "-m", "airflow_knative.local.guard")
    ) -> None:
        self.paths = paths
        self._guard = guard
        self._started: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether anything of it runs."""
        return holder(self.paths.lock, GUARD) is not None or holder(self.paths.lock, SUPERVISOR) is not None

    def settings(self) -> LocalSettings:
        """Those it runs with, or ran with last.

        Raises:
            LocalError: It never ran.
        """
        return LocalSettings.load(self.paths.settings)

    def start(self, settings: LocalSettings, *, user: str | None, password: str | None, attached: bool = False) -> None:
        """Start the guard, and with it all the rest, in the background.

        Args:
            settings: The settings.
            user: The administrator's name, None to leave it.
            password: The administrator's password, None to leave it.
            attached: Whether all of it is to end when this process does.

        Raises:
            PortTakenError: A port is taken; nothing has been started.
            LocalError: The state folder cannot be used.
        """
        self.paths.create()
        secrets = Secrets.load_or_make(self.paths, user=user, password=password)
        end_leftovers(secrets.instance)
        check_free(settings)
        if not (self.paths.private_key.exists() and self.paths.public_key.exists()):
            generate(self.paths.private_key, self.paths.public_key)
        settings.save(self.paths.settings)
        for log in self.paths.logs.glob("*.log"):
            if log.stat().st_size > _LOG_LIMIT:
                log.rename(log.with_suffix(".log.1"))
        with os.fdopen(os.open(self.paths.log("supervisor"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)) as output:
            self._started = guard = subprocess.Popen(
                [*self._guard, str(self.paths.root)],
                env=tool_environment(self.paths, secrets),
                cwd=self.paths.run,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                # This process has one thread, and the hook makes system calls only.
                preexec_fn=child_setup(signal.SIGTERM) if attached else None,  # noqa: PLW1509
            )
        self._await_supervisor(guard)

    def settle(self, *, timeout: float) -> None:
        """Wait for the end of an instance that is about to end: taken down elsewhere, or without its guard."""
        deadline = time.monotonic() + _START_TIMEOUT
        while self.is_running and time.monotonic() < deadline:
            if holder(self.paths.lock, GUARD) is None:
                break
            try:
                if not call(self.paths.control, "ping", timeout=_START_TIMEOUT)["stopping"]:
                    return
                break
            except NotRunningError:
                # It is just starting, or its guard is clearing up.
                time.sleep(_POLL)
        if self.is_running:
            self.stop(timeout=timeout)

    def progress(self) -> Iterator[dict[str, Any]]:
        """How far the start is: a snapshot at each change, the last one with the outcome.

        Raises:
            LocalError: The supervisor ended; the message has the end of its log.
        """
        try:
            yield from follow(self.paths.control, "progress")
        except NotRunningError as error:
            last = tail(self.paths.log("supervisor"), _ERROR_LINES)
            raise LocalError(f"the supervisor ended:\n{last}") from error

    def status(self) -> dict[str, Any]:
        """What the supervisor tells.

        Raises:
            NotRunningError: Nothing runs.
        """
        if not self.is_running:
            raise NotRunningError(f"nothing runs in {self.paths.root}; start it with `airflow-knative local up`")
        return call(self.paths.control, "status", timeout=30.0)

    def hurry(self) -> list[str]:
        """Have parts that died restarted at once; returns their names."""
        return list(call(self.paths.control, "hurry")["restarted"])

    def stop(self, *, timeout: float) -> bool:
        """End everything: ask, and after `timeout` seconds insist.

        Returns:
            Whether anything ran.

        Raises:
            LocalError: Something is still there after all.
        """
        ran = self.is_running
        if not signal_holder(self.paths.lock, GUARD, signal.SIGTERM):
            signal_holder(self.paths.lock, SUPERVISOR, signal.SIGTERM)
        if not self._await_end(timeout):
            # The guard ends all that is left as soon as the supervisor has gone.
            signal_holder(self.paths.lock, SUPERVISOR, signal.SIGKILL)
            if not self._await_end(15.0):
                signal_holder(self.paths.lock, GUARD, signal.SIGKILL)
                self._await_end(5.0)
        if self._started is not None:
            # This very process started it: it is this one's to wait for.
            self._started.poll()
        if self.paths.secrets.exists():
            ran = end_leftovers(Secrets.load(self.paths).instance) > 0 or ran
        if self.is_running:
            raise LocalError(
                f"process {holder(self.paths.lock, GUARD)} of {self.paths.root} does not end; end it by hand"
            )
        return ran

    def purge(self) -> None:
        """Remove the state folder."""
        if self.paths.root.exists() and not self.paths.is_state and any(self.paths.root.iterdir()):
            raise LocalError(f"{self.paths.root} is no state folder of `airflow-knative local`; it is left as it is")
        if self.paths.root.exists():
            shutil.rmtree(self.paths.root)

    def _await_supervisor(self, guard: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_TIMEOUT
        while time.monotonic() < deadline:
            # A guard that finds the folder locked leaves it to the one that came first.
            if guard.poll() not in {None, EXIT_LOCKED}:
                last = tail(self.paths.log("supervisor"), _ERROR_LINES)
                raise LocalError(f"the supervisor ended with {guard.returncode}:\n{last}")
            try:
                call(self.paths.control, "ping", timeout=_START_TIMEOUT)
            except NotRunningError:
                time.sleep(_POLL)
            else:
                return
        raise LocalError(f"the supervisor does not answer; its log is {self.paths.log('supervisor')}")

    def _await_end(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while self.is_running:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL)
        return True
