"""Which tasks run: the same as with LocalExecutor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .deployment import tasks, tries, xcoms

if TYPE_CHECKING:
    from .deployment import Deployment

pytestmark = pytest.mark.timeout(1200)


def test_trigger_rules(deployment: Deployment) -> None:
    states = tasks(deployment.same("trigger_rules", "failed"))
    assert len(states) == 4 + 7 * 12
    assert (states["all_success-good"], states["all_success-good-bad"]) == ("success", "upstream_failed")
    assert (states["one_failed-good"], states["one_failed-good-bad"]) == ("skipped", "success")
    assert (states["none_skipped-skipped"], states["all_done-bad-skipped"]) == ("skipped", "success")


def test_branching(deployment: Deployment) -> None:
    found = deployment.same("branches", "failed")
    states = tasks(found)
    assert (states["left"], states["right"]) == ("success", "skipped")
    assert (states["group.first"], states["group.second"], states["beside_the_group"]) == (
        "success",
        "success",
        "skipped",
    )
    assert states["not_this"] == "skipped"
    assert (states["to_nowhere"], states["neither_this"]) == ("failed", "upstream_failed")
    assert xcoms(found)["join"] == ["left"]


def test_short_circuit_and_latest_only(deployment: Deployment) -> None:
    states = tasks(deployment.same("short_circuits"))
    assert [states[f"regardless_{number}"] for number in range(3)] == ["skipped", "success", "success"]
    assert [states[f"next_{number}"] for number in range(3)] == ["skipped", "skipped", "success"]
    assert states["after_latest_only"] == "success"


def test_task_groups(deployment: Deployment) -> None:
    found = deployment.same("groups")
    assert xcoms(found)["total"] == (1 + 2) + (10 + 11)
    assert tries(found)["outer.again"] == 2


def test_dynamic_task_mapping(deployment: Deployment) -> None:
    found = deployment.same("mapped")
    results = xcoms(found)
    assert results["collect"] == [11, 12, 13]
    assert results["cross"] == [101, 201, 102, 202, 103, 203]
    assert results["rows"] == [1, 5, 9]
    assert tasks(found)["over_nothing"] == "skipped"
    assert results["zipped"] == ["(1, 'x')", "(2, 'y')", "(3, None)"]
    assert results["bash"] == ["ann 0", "bob 1"]
    names = [task["rendered_map_index"] for task in found["tasks"] if task["task_id"] == "bash"]
    assert names == ["ann", "bob"]


def test_trouble_with_mapped_tasks(deployment: Deployment) -> None:
    found = deployment.same("mapped_trouble", "failed")
    states = tasks(found)
    assert [states[f"some_fail[{index}]"] for index in range(4)] == ["success", "success", "failed", "skipped"]
    assert xcoms(found)["survivors"] == [0, 1]
    assert states["no_list"] == "failed"  # what is mapped over has to be a list


def test_mapped_task_groups_and_second_order_mapping(deployment: Deployment) -> None:
    found = deployment.same("mapped_groups")
    assert xcoms(found)["join"] == "AA,BB,CC"
    assert xcoms(found)["nested"] == "a,b,c"


def test_two_hundred_instances(deployment: Deployment) -> None:
    found = deployment.same("many")
    assert xcoms(found)["total"] == {"count": 200, "sum": sum(n * n for n in range(200)), "last": 199**2}
    assert {task["try_number"] for task in found["tasks"]} == {1}
