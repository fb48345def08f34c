"""The judgement of runs, by a ledger and what an Airflow says that is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest

from .ledger import Judgement, judge

if TYPE_CHECKING:
    from pathlib import Path

    from .ledger import Instance


class Said:
    """Says what it is given of one task instance: its state, the level of its log's last line, its XCom."""

    def __init__(self, task: str, state: str, *, level: str = "info", value: Any = None) -> None:
        self._ti = {"task_id": task, "map_index": -1, "try_number": 1, "state": state}
        self._level, self._value = level, value
        self.gateway = self.airflow = self

    def api(self, path: str) -> dict[str, Any]:
        if "/logs/" in path:
            return {"content": [{"level": "info", "event": "began"}, {"level": self._level, "event": "ended"}]}
        return {"task_instances": [self._ti]}

    def get(self, path: str, **_options: Any) -> httpx.Response:
        return httpx.Response(200, json={"value": self._value} if "xcomEntries" in path else {"state": "failed"})


def judged(said: Said, path: Path, *lines: str, ended: bool = True) -> Judgement:
    path.write_text("".join(f"{line} 77 {at}\n" for at, line in enumerate(lines)))
    return judge(cast("Instance", said), "ledgered", "run", path, ended=ended)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


def test_what_was_done_once_is_fine(path: Path) -> None:
    said = Said("stubborn", "success", value="done")
    assert judged(said, path, "start stubborn -1 1", "end stubborn -1 1") == Judgement()


@pytest.mark.parametrize("level", ["error", "critical"])
def test_a_failure_has_its_reason_in_the_log(path: Path, level: str) -> None:
    assert not judged(Said("once", "failed", level=level), path, "start once -1 1").lost
    assert "without a reason" in judged(Said("once", "failed"), path, "start once -1 1").lost[0]


def test_what_is_not_in_the_ledger_was_no_success(path: Path) -> None:
    found = judged(Said("stubborn", "success", value="done"), path, "start stubborn -1 1")
    assert found.false_success == ["stubborn[-1] try 1: success, not in the ledger"]


def test_a_result_that_is_not_there_is_lost(path: Path) -> None:
    found = judged(Said("stubborn", "success"), path, "start stubborn -1 1", "end stubborn -1 1")
    assert len(found.lost) == 1
    assert "XCom" in found.lost[0]


def test_the_same_try_begun_twice_is_doubled(path: Path) -> None:
    said = Said("stubborn", "success", value="done")
    found = judged(said, path, "start stubborn -1 1", "start stubborn -1 1", "end stubborn -1 1")
    assert found.doubled == ["start stubborn[-1] try 1, 2 times"]


def test_a_run_without_an_end_is_lost(path: Path) -> None:
    found = judged(Said("once", "running"), path, "start once -1 1", ended=False)
    assert found.lost == ["the run did not end", "once[-1] try 1: running"]
