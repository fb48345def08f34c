"""What `up` tells while it works."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

__all__ = ["Progress"]

State = Literal["waiting", "busy", "done", "failed"]


class Progress:
    """Steps and how far each is, for any number of followers."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._steps: dict[str, dict[str, Any]] = {}
        self._outcome: dict[str, Any] | None = None
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show a step as busy, then as done or failed, with its seconds."""
        began = time.monotonic()
        self._set(name, state="busy")
        try:
            yield
        except BaseException:
            self._set(name, state="failed", seconds=time.monotonic() - began)
            raise
        self._set(name, state="done", seconds=time.monotonic() - began)

    def finish(self, outcome: dict[str, Any]) -> None:
        """Say how it ended."""
        self._outcome = {**outcome, "seconds": time.monotonic() - self._began}
        self._notify()

    @property
    def outcome(self) -> dict[str, Any] | None:
        """How it ended, or None while it goes on."""
        return self._outcome

    def snapshot(self) -> dict[str, Any]:
        """All steps, and the outcome once there is one."""
        return {"steps": [{"name": name, **step} for name, step in self._steps.items()], "outcome": self._outcome}

    async def follow(self) -> AsyncIterator[dict[str, Any]]:
        """A snapshot now, one at each change, and the last one with the outcome."""
        while True:
            snapshot = self.snapshot()
            yield snapshot
            if snapshot["outcome"] is not None:
                return
            async with self._changed:
                if self.snapshot() == snapshot:
                    await self._changed.wait()

    def _set(self, name: str, **values: Any) -> None:
        self._steps[name] = {**self._steps.get(name, {}), **values}
        self._notify()

    def _notify(self) -> None:
        async def notify() -> None:
            async with self._changed:
                self._changed.notify_all()

        task = asyncio.get_running_loop().create_task(notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
