"""Processes that outlive the one that started them, and are found again by name."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testnodes.errors import NodeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["STATE", "Background"]

STATE = Path("/run/airflow-knative-nodes")
_STOP = 30.0


class Background:
    """One such process; ``said`` is whatever its starter wants to find again with it."""

    def __init__(self, name: str) -> None:
        self._state = STATE / f"{name}.json"
        self.log = STATE / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None  # when it is a child of this process

    @property
    def said(self) -> dict[str, Any] | None:
        """What was kept when it was started; None when it was not, or has been stopped."""
        try:
            found: dict[str, Any] = json.loads(self._state.read_text())
        except FileNotFoundError:
            return None
        return found

    def start(
        self, command: Sequence[str], keep: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        """Start it in a session of its own, so that no terminal's signals reach it.

        Raises:
            NodeError: there is no such program.
        """
        STATE.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    env={**os.environ, **(env or {})},
                )
            except OSError as error:
                raise NodeError(f"cannot start {command[0]}: {error}") from error
        self._state.write_text(json.dumps({**(keep or {}), "pid": self._process.pid}))

    def gone(self) -> bool:
        """Whether it has ended (or was never started)."""
        said = self.said
        if said is None:
            return True
        if self._process is not None:
            return self._process.poll() is not None
        try:
            state = Path(f"/proc/{said['pid']}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        return state == "Z"

    def last_lines(self) -> str:
        """The end of what it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-10:]) if self.log.exists() else ""

    def stop(self) -> None:
        """End it and forget it; harmless when it is not there."""
        said = self.said
        if said is None:
            return
        if not self.gone():
            os.kill(said["pid"], signal.SIGTERM)
            end = time.monotonic() + _STOP
            while not self.gone():
                if time.monotonic() > end:
                    os.kill(said["pid"], signal.SIGKILL)
                    break
                time.sleep(0.05)
        self._state.unlink(missing_ok=True)
        self.log.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # others are still there
            STATE.rmdir()
