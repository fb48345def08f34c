"""The records of faults: what is still to be tried, and what the table makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import records
from .kinds import KINDS
from .ledger import Judgement
from .records import Fault

if TYPE_CHECKING:
    from pathlib import Path

KILLED, CUT = "worker killed", "connections cut in mid-stream"


def fault(kind: str, number: int, *, recovery: float = 1.0, **judged: list[str]) -> Fault:
    judgement = Judgement(**judged)
    return Fault(kind, number, seed=1, line=3, delay=0.5, hit=True, recovery=recovery, judgement=judgement)


def test_a_file_gives_back_what_was_added(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    assert records.load(path) == []
    added = [fault(KILLED, 1, retried=["each[0] was executed 2 times"]), fault(CUT, 1)]
    for one in added:
        records.append(path, one)
    assert records.load(path) == added


def test_what_is_recorded_is_not_tried_again() -> None:
    todo = records.missing([fault(KILLED, 2), fault(CUT, 1)], [KILLED, CUT], 2)
    assert todo == [(KILLED, 1), (CUT, 2)]


def test_a_retry_is_clean_only_where_a_worker_may_be_lost() -> None:
    assert KINDS[KILLED].may_retry
    assert fault(KILLED, 1, retried=["x"]).is_clean
    assert not fault(CUT, 1, retried=["x"]).is_clean
    assert not fault(KILLED, 1, lost=["x"]).is_clean


def test_the_table_counts_by_kind_and_over_all() -> None:
    text = records.table(
        [fault(KILLED, 1, recovery=2.0), fault(KILLED, 2, recovery=6.0, doubled=["x"]), fault(CUT, 1, recovery=1.0)]
    )
    assert f"| {KILLED} | 2 | 2 | 0 | 1 | 0 | 0 | 0 | 4.0 | 6.0 |" in text
    assert f"| {CUT} | 1 | 1 | 0 | 0 | 0 | 0 | 0 | 1.0 | 1.0 |" in text
    assert "| **all** | 3 | 3 | 0 | 1 | 0 | 0 | 0 | 2.0 | 6.0 |" in text
