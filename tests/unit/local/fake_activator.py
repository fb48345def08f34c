"""The activator's process as it is, with the stand-in worker in the place of the real one."""

from __future__ import annotations

import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from airflow_knative.local.activator import worker

STANDIN = Path(__file__).parent / "activator" / "standin_worker.py"
original = worker.Worker.__init__


def with_standin(self: Any, service: Any, launch: Any) -> None:
    original(self, service, replace(launch, command=(sys.executable, "-I", str(STANDIN)), grace=1.0))


worker.Worker.__init__ = with_standin
runpy.run_module("airflow_knative.local.activator", run_name="__main__", alter_sys=False)
