"""Which tasks are taken to run for sure."""

from __future__ import annotations

import pytest

from airflow_knative.executor.prewarm_plan import Coming, Node, Progress, downstream, plan

ACTIVE = Progress(unfinished=1, is_active=True)
DONE = Progress(succeeded=True)
SKIPPED = Progress(skipped=True)
FAILED = Progress(failed=True)


def dag(*edges: str, rules: dict[str, str] | None = None, **kinds: str) -> dict[str, Node]:
    """Return the nodes of edges `a>b`; `branch="b"` and the like name tasks of that kind, parted by spaces."""
    pairs = [edge.split(">") for edge in edges]
    names = {name for pair in pairs for name in pair}

    def are(kind: str) -> set[str]:
        return set(kinds.get(kind, "").split())

    return {
        name: Node(
            name,
            upstream=frozenset(above for above, below in pairs if below == name),
            downstream=frozenset(below for above, below in pairs if above == name),
            trigger_rule=(rules or {}).get(name, "all_success"),
            decides=name in are("branch"),
            waits=name in are("sensor"),
            runs=name not in are("empty"),
        )
        for name in names
    }


def coming(
    nodes: dict[str, Node],
    progress: dict[str, Progress],
    *,
    depth: int = 9,
    took: dict[str, float] | None = None,
    now: float = 0.0,
) -> list[Coming]:
    return plan(nodes, progress, sorted(nodes), depth=depth, took=took or {}, now=now)


def names(nodes: dict[str, Node], progress: dict[str, Progress], *, depth: int = 9) -> list[str]:
    return [task.task_id for task in coming(nodes, progress, depth=depth)]


def test_all_that_follows_comes_the_nearest_first() -> None:
    found = coming(dag("a>c", "a>b", "b>d", "c>d"), {"a": ACTIVE})
    assert [(task.task_id, task.level) for task in found] == [("b", 1), ("c", 1), ("d", 2)]


def test_no_further_than_asked() -> None:
    assert names(dag("a>b", "b>c", "c>d"), {"a": ACTIVE}, depth=2) == ["b", "c"]


def test_what_is_done_or_about_to_begin_is_left_out() -> None:
    # b has all it waits for: its own request is as near as a nudge could be.
    assert names(dag("a>b", "b>c"), {"a": DONE}) == ["c"]
    assert names(dag("a>b", "b>c"), {"a": DONE, "b": ACTIVE}) == ["c"]


def test_nothing_comes_after_the_end() -> None:
    assert names(dag("a>b"), {"a": DONE, "b": DONE}) == []


@pytest.mark.parametrize("rule", ["all_success", "none_failed_min_one_success", "all_done", "always", "one_success"])
def test_nothing_behind_an_undecided_branch_comes(rule: str) -> None:
    nodes = dag("a>b", "b>left", "b>right", "left>join", "right>join", branch="b", rules={"join": rule})
    assert names(nodes, {"a": ACTIVE}) == ["b"]
    assert names(nodes, {"a": DONE, "b": ACTIVE}) == []


def test_only_the_taken_side_of_a_branch_comes() -> None:
    nodes = dag("b>left", "b>right", "left>l2", "right>r2", branch="b")
    assert names(nodes, {"b": DONE, "left": ACTIVE, "right": SKIPPED}) == ["l2"]


def test_a_join_comes_with_the_side_that_was_taken() -> None:
    edges = ("b>left", "b>right", "left>join", "right>join")
    progress = {"b": DONE, "left": ACTIVE, "right": SKIPPED}
    for rule, expected in {
        "all_success": [],
        "none_skipped": [],
        "none_failed_min_one_success": ["join"],
        "none_failed": ["join"],
        "all_done": ["join"],
    }.items():
        assert names(dag(*edges, branch="b", rules={"join": rule}), progress) == expected, rule


def test_the_skip_of_all_above_is_a_skip() -> None:
    nodes = dag("b>left", "left>join", "join>after", branch="b", rules={"join": "none_failed_min_one_success"})
    assert names(nodes, {"b": DONE, "left": SKIPPED}) == []


@pytest.mark.parametrize("rule", ["all_failed", "one_failed", "all_skipped"])
def test_tasks_for_failures_do_not_come(rule: str) -> None:
    assert names(dag("a>b", "b>c", rules={"b": rule}), {"a": ACTIVE}) == []


def test_what_a_failure_stops_does_not_come() -> None:
    nodes = dag("a>c", "b>c", "c>d")
    assert names(nodes, {"a": FAILED, "b": ACTIVE}) == []
    nodes = dag("a>c", "b>c", "c>d", rules={"c": "all_done"})
    assert names(nodes, {"a": FAILED, "b": ACTIVE}) == ["c", "d"]


def test_nothing_behind_a_sensor_or_a_task_that_waits_comes() -> None:
    assert names(dag("a>s", "s>b", sensor="s"), {"a": ACTIVE}) == ["s"]
    assert names(dag("a>b"), {"a": Progress(unfinished=1, is_waiting=True)}) == []


def test_a_task_without_a_worker_takes_no_step() -> None:
    nodes = dag("a>none", "none>b", empty="none")
    assert [(task.task_id, task.level) for task in coming(nodes, {"a": ACTIVE})] == [("b", 1)]


def test_a_mapped_task_comes_as_often_as_it_has_instances() -> None:
    found = coming(dag("a>m"), {"a": ACTIVE, "m": Progress(unfinished=12)})
    assert found == [Coming("m", 1, 0.0, 12)]


def test_when_it_comes_is_known_from_before() -> None:
    progress = {"a": Progress(unfinished=1, is_active=True, started=100.0)}
    found = coming(dag("a>b", "b>c"), progress, took={"a": 60.0, "b": 5.0}, now=120.0)
    assert [(task.task_id, task.eta) for task in found] == [("b", 40.0), ("c", 45.0)]


def test_a_task_that_takes_longer_than_ever_may_end_at_any_time() -> None:
    progress = {"a": Progress(unfinished=1, is_active=True, started=100.0)}
    assert coming(dag("a>b"), progress, took={"a": 1.0}, now=500.0)[0].eta == 0.0


def test_a_dag_may_be_deeper_than_the_stack() -> None:
    edges = [f"t{number}>t{number + 1}" for number in range(5000)]
    assert len(names(dag(*edges), {"t0": ACTIVE}, depth=9999)) == 5000


def test_an_unknown_task_above_is_nothing_to_count_on() -> None:
    assert plan({"b": Node("b", upstream=frozenset({"gone"}))}, {}, ["b", "gone"], depth=3, took={}, now=0.0) == []


def test_downstream_is_in_steps() -> None:
    nodes = dag("a>b", "a>c", "b>d", "c>d", "d>e")
    assert downstream(nodes, "a", 1) == ["b", "c"]
    assert downstream(nodes, "a", 2) == ["b", "c", "d"]
    assert downstream(nodes, "nothing", 2) == []
