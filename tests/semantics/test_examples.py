"""Airflow's own example DAGs: the same rows as with LocalExecutor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .deployment import EXAMPLES, tasks

if TYPE_CHECKING:
    from .deployment import Deployment

pytestmark = pytest.mark.timeout(1200)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.rpartition(".")[2])
def test_example(deployment: Deployment, example: str) -> None:
    dags = deployment.dags_of(example)
    assert dags
    for dag in dags:
        found = deployment.same(dag)
        assert set(tasks(found).values()) & {"success", "failed"}
