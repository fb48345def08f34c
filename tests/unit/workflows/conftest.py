from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

FOLDER = Path(__file__).parents[3] / "workflows"
BENCHMARKS = Path(__file__).parents[3] / "benchmarks" / "dags"


# Importing Airflow makes this folder, and the test modules import it.
_home = tempfile.TemporaryDirectory(prefix="airflow-knative-tests-")
os.environ.setdefault("AIRFLOW_HOME", _home.name)


@pytest.fixture(scope="session")
def workflow() -> Callable[[str], ModuleType]:
    """Import one file of workflows/, or of the benchmarks' own."""

    def load(name: str) -> ModuleType:
        folder = {"benchmark": BENCHMARKS, "avg_kubernetes": BENCHMARKS / "kubernetes"}.get(name, FOLDER)
        spec = importlib.util.spec_from_file_location(f"example_{name}", folder / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module

    return load
