from __future__ import annotations

import itertools

import pytest

from airflow_knative.cli.timeline.model import Attempt, Run, Stage

MOMENTS = {
    "queued": 1.1,
    "dispatched": 1.15,
    "running": 1.2,
    "sent": 1.25,
    "received": 1.5,
    "started": 1.6,
    "finished": 2.0,
    "ended": 2.1,
    "applied": 2.2,
}


def attempt(**more: object) -> Attempt:
    given: dict[str, object] = {
        "task_id": "t",
        "state": "success",
        "scheduled": 1.0,
        "queued": 1.05,
        "start": 1.2,
        "end": 2.15,
        "stages": MOMENTS,
        "cold": True,
    }
    return Attempt(**(given | more))  # type: ignore[arg-type]


def run(*attempts: Attempt, **more: object) -> Run:
    given: dict[str, object] = {
        "dag_id": "d",
        "run_id": "r",
        "state": "success",
        "queued": 0.0,
        "start": 0.5,
        "end": 3.0,
        "attempts": attempts,
        "now": 9.0,
    }
    return Run(**(given | more))  # type: ignore[arg-type]


def test_stages_follow_each_other() -> None:
    segments = attempt().segments(9.0)
    assert segments == [
        (Stage.WAITING, 1.0, 1.1),
        (Stage.DISPATCH, 1.1, 1.25),
        (Stage.COLD_START, 1.25, 1.5),
        (Stage.PREPARE, 1.5, 1.6),
        (Stage.TASK, 1.6, 2.0),
        (Stage.ANSWER, 2.0, 2.1),
        (Stage.APPLY, 2.1, 2.2),
    ]


def test_a_warm_worker_is_no_cold_start() -> None:
    stages = {segment.stage for segment in attempt(cold=False).segments(9.0)}
    assert Stage.TRANSIT in stages
    assert Stage.COLD_START not in stages


def test_a_task_that_failed_early_ends_where_airflow_says() -> None:
    early = attempt(state="failed", stages={"queued": 1.1, "dispatched": 1.15}, end=1.4)
    assert early.segments(9.0) == [(Stage.WAITING, 1.0, 1.1), (Stage.DISPATCH, 1.1, 1.4)]


def test_without_timings_airflows_own_moments_are_shown() -> None:
    assert attempt(stages={}).segments(9.0) == [
        (Stage.WAITING, 1.0, 1.05),
        (Stage.DISPATCH, 1.05, 1.2),
        (Stage.OPAQUE, 1.2, 2.15),
    ]


def test_what_goes_on_lasts_until_now() -> None:
    going = attempt(state="running", stages={}, end=None)
    assert going.segments(9.0)[-1] == (Stage.OPAQUE, 1.2, 9.0)
    queued = attempt(state="queued", stages={}, start=None, end=None)
    assert queued.segments(9.0)[-1] == (Stage.DISPATCH, 1.05, 9.0)


def test_clocks_that_differ_make_no_stage_negative() -> None:
    segments = attempt(stages=MOMENTS | {"received": 0.2, "started": 0.3, "finished": 5.0}).segments(9.0)
    for before, after in itertools.pairwise(segments):
        assert before.begin <= before.end == after.begin <= after.end


@pytest.mark.parametrize("state", ["skipped", "upstream_failed", None])
def test_a_task_that_never_began_has_no_stages(state: str | None) -> None:
    assert Attempt("t", state=state).segments(9.0) == []
    assert Attempt("t", state=state, start=2.0, end=2.0).segments(9.0) == []


def test_names() -> None:
    assert attempt().name == "t"
    assert attempt(map_index=3, try_number=2).name == "t [3] try 2"
    assert attempt(map_index=0, label="north").name == "t [north]"


def test_gaps_are_what_no_task_covers() -> None:
    first = attempt()
    overlapping = attempt(scheduled=2.0, stages={}, queued=2.1, start=2.2, end=2.5)
    assert run(first, overlapping).gaps() == [(0.0, 1.0), (2.5, 3.0)]
    assert run().gaps() == [(0.0, 3.0)]


def test_gaps_end_with_the_run() -> None:
    assert run(attempt(), end=2.2).gaps() == [(0.0, 1.0)]
    assert run(attempt(), end=0.4).gaps() == [(0.0, 0.4)]


def test_a_run_that_goes_on() -> None:
    going = run(end=None, state="running")
    assert going.total == 9.0
    assert going.gaps() == [(0.0, 9.0)]


def test_the_timeline_reaches_as_far_as_its_last_stage() -> None:
    assert run(attempt(), end=2.15).until == 2.2


def test_sums() -> None:
    sums = run(attempt(), attempt(cold=False)).sums()
    assert sums[Stage.TASK] == pytest.approx(0.8)
    assert sums[Stage.COLD_START] == pytest.approx(0.25)
    assert Stage.OPAQUE not in sums


def test_json() -> None:
    document = run(attempt()).as_json()
    assert document["total_ms"] == 3000
    assert document["scheduler_ms"] == 1800
    assert document["stages_ms"]["task"] == 400
    (task,) = document["tasks"]
    assert task["moments_ms"]["sent"] == 1250
    assert task["stages"][0] == {"stage": "waiting", "begin_ms": 1000, "end_ms": 1100}
    assert task["cold"] is True


def test_a_start_ahead_lies_beside_the_stages_and_ends_with_the_request_at_the_latest() -> None:
    assert attempt(prewarm=(0.2, 0.9)).prewarming() == (Stage.PREWARM, 0.2, 0.9)
    assert attempt(prewarm=(0.2, 7.0)).prewarming() == (Stage.PREWARM, 0.2, 1.5)
    assert attempt(prewarm=(0.2, None)).prewarming() == (Stage.PREWARM, 0.2, 1.5)
    assert attempt().prewarming() is None
    assert attempt(prewarm=(0.2, 0.9)).segments(9.0) == attempt().segments(9.0)


def test_a_worker_was_ahead_only_if_it_was_ready_before_the_request() -> None:
    assert attempt(prewarm=(0.2, 0.9)).was_prewarmed
    assert not attempt(prewarm=(0.2, 1.7)).was_prewarmed
    assert not attempt(prewarm=(0.2, None)).was_prewarmed
    assert not attempt().was_prewarmed


def test_a_start_ahead_counts_in_the_sums_and_stands_in_the_json() -> None:
    drawn = run(attempt(prewarm=(0.2, 0.9)), attempt())
    assert drawn.sums()[Stage.PREWARM] == pytest.approx(0.7)
    assert [task["prewarm_ms"] for task in drawn.as_json()["tasks"]] == [[200.0, 900.0], None]
