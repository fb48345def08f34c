# ruff: noqa: D103, INP001, S101 # tests, found by molecule in its own folder
"""A release of the previous chart is upgraded to this one while runs are in flight: none fails."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from walkthrough import NAMESPACE, RELEASE, REPOSITORY, Caller, Walkthrough, helm

from conftest import INVENTORY, Cluster, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

EARLIER = "earlier"
WORKFLOW = "compute_avg_distributed"
(PREVIOUS,) = (REPOSITORY / "tests" / "chart" / "previous").glob("*.tgz")


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    """What the release has that the play made, for the one workflow that is called."""
    found: dict[str, Any] = json.loads(helm(INVENTORY, NAMESPACE, "get", "values", RELEASE, "--output", "json"))
    found["workflows"] = [service for service in found["workflows"] if service["dagId"] == WORKFLOW]
    # Not known to it yet.
    found["workers"].pop("initialScale", None)
    return found


@pytest.fixture(scope="module")
def earlier(cluster: Cluster, values: dict[str, Any]) -> Iterator[Walkthrough]:
    options = ("--create-namespace", "--values", "-", "--wait", "--timeout", "9m")
    try:
        helm(INVENTORY, EARLIER, "install", RELEASE, str(PREVIOUS), *options, stdin=json.dumps(values))
        yield Walkthrough.of(cluster, INVENTORY, EARLIER)
    finally:
        cluster.kind("Namespace").delete(name=EARLIER)


def test_runs_in_flight_come_through(earlier: Walkthrough, values: dict[str, Any]) -> None:
    eventually(lambda: set(earlier.services().values()) == {"True"}, seconds=300)
    eventually(lambda: earlier.curl(WORKFLOW, [1, 2, 3, 4]) == '{"output":2.5}', seconds=300)
    before = earlier.helm("list", "--output", "json")
    (chart,) = {found["chart"] for found in json.loads(helm(INVENTORY, NAMESPACE, "list", "--output", "json"))}
    package = REPOSITORY / "build" / "airflow" / f"{chart}.tgz"
    options = ("--values", "-", "--wait", "--timeout", "9m")
    with Caller(earlier) as caller:
        helm(INVENTORY, EARLIER, "upgrade", RELEASE, str(package), *options, stdin=json.dumps(values))
        eventually(lambda: set(earlier.services().values()) == {"True"}, seconds=300)
    assert earlier.helm("list", "--output", "json") != before
    caller.expect('{"output":2.5}')
    print(f"{len(caller.answers)} calls")  # noqa: T201 # for the record
