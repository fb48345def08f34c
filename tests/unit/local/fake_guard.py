"""The guard and the supervisor as they are, with parts that only sleep and leave orphans."""

from __future__ import annotations

import sys
from typing import Any

from airflow_knative.local import supervisor
from airflow_knative.local.child import Child, Part
from airflow_knative.local.guard import main

# A part with a child in the same session and one in a session of its own that ignores SIGTERM.
TREE = """
import os, signal, sys, time
if sys.argv[1] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
for own_session in (False, True):
    if os.fork() == 0:
        if own_session:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(60)
print("tree stands", flush=True)
while True:
    time.sleep(60)
"""


class FakeBringUp:
    def __init__(self, *, parts: Any, progress: Any, children: Any, **_: Any) -> None:
        self._parts, self._progress, self._children = parts, progress, children

    async def run(self) -> None:
        with self._progress.step("parts"):
            for name, kind in (("scheduler", "plain"), ("activator", "stubborn"), ("gateway", "plain")):
                part = Part(
                    name,
                    [sys.executable, "-I", "-c", TREE, kind],
                    self._parts.worker_environment,
                    self._parts.paths.log(name),
                    self._parts.paths.run,
                    stop_timeout=1.0,
                )
                self._children[name] = Child(part)
                self._children[name].start()
        if (self._parts.settings.workflows / "fail").exists():
            raise supervisor.LocalError("no luck today")

    def started(self) -> dict[str, float]:
        return {}


supervisor.BringUp = FakeBringUp
sys.exit(main())
