from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from .stack import BENCHMARKS, DAGS, WORKFLOWS, Stack

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One instance for all tests, with the example workflows and the tests' own."""
    folder = tmp_path_factory.mktemp("stack")
    workflows = folder / "workflows"
    workflows.mkdir()
    for source in (*WORKFLOWS.glob("*.py"), *BENCHMARKS.glob("*.py"), *DAGS.glob("*.py")):
        shutil.copy(source, workflows)
    with Stack(folder, workflows).running() as stack:
        yield stack
