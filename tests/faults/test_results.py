"""The page of results: what it says comes from the records."""

from __future__ import annotations

from . import results
from .kinds import KINDS
from .ledger import Judgement
from .records import Fault

KILLED = "worker killed"


def fault(number: int, *, kind: str = KILLED, instances: int = 1, took: float = 36.0, load: float = 2.0) -> Fault:
    hit = Fault(kind, number, seed=1, line=3, delay=0.5, hit=True, recovery=4.0, instances=instances)
    hit.took, hit.load = took, load
    return hit


def test_it_says_how_many_of_each_kind_there_are() -> None:
    every = [fault(1, kind=kind) for kind in KINDS]
    assert f"n = 1 of each of {len(KINDS)} kinds, {len(KINDS)} in all" in results.text(every, [], processors=2)
    assert "n = 1 to 2 of each" in results.text([*every, fault(2, load=9.0)], [], processors=2)
    assert "n = 0 to 1 of each" in results.text([fault(1)], [], processors=2)


def test_speed_is_told_apart_by_the_number_of_instances() -> None:
    page = results.text([fault(1), fault(2, instances=3, took=54.0, load=8.0)], [], processors=2)
    assert "| 1 | 1 | 100 | 4.0 | 2.0 |" in page
    assert "| 3 | 1 | 200 | 4.0 | 8.0 |" in page


def test_what_went_wrong_is_on_it() -> None:
    bad = fault(1)
    bad.judgement = Judgement(doubled=["x"])
    outcome = {
        "scenario": "1000 tasks",
        "seed": 1,
        "state": "success",
        "executed": 1003,
        "kills": 5,
        "took": 90.0,
        "lost": [],
        "doubled": ["x", "y"],
        "false_success": [],
        "retried": ["z"],
        "load": 3.0,
        "memory before, MB": {"gateway": 70},
        "memory after, MB": {"gateway": 71},
    }
    page = results.text([bad], [outcome], processors=2)
    assert f"| {KILLED} | 1 | 1 | 0 | 1 | 0 |" in page
    assert "| 1000 tasks | 1 | success | 1003 | 0 | 2 | 0 | 1 | 5 | gateway 70 | gateway 71 | 90.0 | 3.0 |" in page
