"""The kinds of faults, and what they may cost."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import psutil

from . import parts
from .proxy import TROUBLES

if TYPE_CHECKING:
    import random

    from tests.local.stack import Stack

    from .proxy import FaultProxy

__all__ = ["KINDS", "Kind"]

_PATIENCE: Final = 5.0  # seconds that the proxy waits for a request to trouble


@dataclass(frozen=True)
class Kind:
    """One kind of fault."""

    part: str
    action: str
    """kill, pause, or one of the proxy's troubles."""
    may_retry: bool
    """Whether a task may be retried or fail because of it; else everything is done once."""

    def strike(self, stack: Stack, proxy: FaultProxy, rng: random.Random) -> bool:
        """Do it, and heal it; whether it hit anything."""
        if self.part == "proxy":
            before = proxy.hits
            proxy.begin(self.action)
            deadline = time.monotonic() + _PATIENCE
            while proxy.hits == before and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(rng.uniform(0.5, 2.0))
            proxy.end()
            return proxy.hits > before
        try:
            victim = rng.choice(parts.find(stack, self.part))
            if self.action == "kill":
                victim.kill()
                return True
            # A container stops as a whole; of a worker's processes each one may.
            whole = [victim] if self.part.startswith(("worker ", "task ")) else parts.with_children(victim)
        except (psutil.NoSuchProcess, IndexError):
            return False
        _each(whole, "suspend")
        time.sleep(rng.uniform(1.0, 4.0))
        _each(whole, "resume")
        return True


def _each(processes: list[psutil.Process], verb: str) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            getattr(process, verb)()


_LOSES_A_WORKER: Final = frozenset({"activator", "worker", "worker front", "worker slot", "task process"})
# What breaks while a worker goes on costs nothing: it reports by itself. A request that may have got to a worker, and
# need not be claimed there, is never sent again: dropped before, it is a lost worker's.
_LOSES_A_REQUEST: Final = "drop"
KINDS: Final = {
    **{f"{part} killed": Kind(part, "kill", may_retry=part in _LOSES_A_WORKER) for part in parts.PARTS},
    **{f"{part} stopped for a while": Kind(part, "pause", may_retry=False) for part in parts.PARTS},
    **{name: Kind("proxy", trouble, may_retry=trouble == _LOSES_A_REQUEST) for name, trouble in TROUBLES.items()},
}
