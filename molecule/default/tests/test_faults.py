# ruff: noqa: D103, INP001, S101 # tests, found by molecule in its own folder
"""Whatever dies in the cluster: nothing is lost, done twice, or successful without having been done.

AIRFLOW_KNATIVE_FAULTS is how many of each kind there shall be; what came of them is kept in build/faults/cluster.jsonl,
and as a table in cluster.md.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from tests.faults import records
from walkthrough import REPOSITORY, Walkthrough

from conftest import INVENTORY, Cluster
from faults import KINDS, Field

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNT = int(os.environ.get("AIRFLOW_KNATIVE_FAULTS", "1"))
REPORT = REPOSITORY / "build" / "faults"
SEED = 1
_HEAD = f"""# Faults on a cluster

Written by the scenario `default` of molecule: one node, everything in it with the chart's settings, seed {SEED}.
*Retried* counts task instances that were executed again because of the fault, which is allowed where it took their
worker. Times are from the strike to the end of the run. Faults in local mode are on [the other page](results.md).

"""


@pytest.fixture(scope="module")
def field(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    walkthrough = Walkthrough.of(cluster, INVENTORY)
    folder = tmp_path_factory.mktemp("faults")
    workflows = folder / "workflows"
    shutil.copytree(REPOSITORY / "workflows", workflows, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "tests" / "faults" / "dags" / "ledgered.py", workflows)
    deployed = walkthrough.deploy(workflows)
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / "cluster.jsonl").unlink(missing_ok=True)
    with Field(walkthrough, folder) as made:
        assert made.run("warm")["output"] == 100  # noqa: PLR2004 # what the workflow returns
        yield made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", range(1, COUNT + 1))
def test_nothing_is_lost_or_doubled_or_falsely_successful(field: Field, kind: str, number: int) -> None:
    fault = field.strike(kind, number, SEED)
    records.append(REPORT / "cluster.jsonl", fault)
    (REPORT / "cluster.md").write_text(_HEAD + records.table(records.load(REPORT / "cluster.jsonl"), KINDS))
    assert fault.is_clean, fault
