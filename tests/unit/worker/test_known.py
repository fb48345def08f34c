from __future__ import annotations

import time
from typing import Any

import pytest

from airflow_knative.wire import Inputs, Write, XComValue
from airflow_knative.worker.known import MISS, KnownReads

from .requests import make_request

RUN = "manual__2026-01-01T00:00:00+00:00"


def _value(key: str, value: Any, map_index: int = -1, task_id: str = "up") -> XComValue:
    return XComValue(task_id=task_id, key=key, map_index=map_index, value=value)


@pytest.fixture
def known() -> KnownReads:
    inputs = Inputs(
        tasks=["t", "up"],
        xcoms=[_value("return_value", {"a": 1}), _value("nothing", None)]
        + [_value("mapped", 10 * index, index) for index in (2, 0, 1)]
        + [_value("slice", "odd name")],
        omitted=[("up", "huge")],
        variables={"there": "v", "absent": None},
        connections={"db": {"conn_id": "db", "conn_type": "postgres"}, "none": None},
    )
    return KnownReads(make_request(inputs=inputs))


def _status(answer: Any) -> Any:
    return answer if answer is MISS else answer[0]


def _path(key: str, task_id: str = "up", run: str = RUN, dag_id: str = "d") -> str:
    return f"/xcoms/{dag_id}/{run}/{task_id}/{key}"


def test_a_value_that_was_sent(known: KnownReads) -> None:
    assert known.answer("GET", _path("return_value"), {}) == (200, {"key": "return_value", "value": {"a": 1}}, {})


def test_a_value_that_is_null_is_not_missing(known: KnownReads) -> None:
    assert known.answer("GET", _path("nothing"), {}) == (200, {"key": "nothing", "value": None}, {})


def test_a_value_that_is_known_not_to_exist(known: KnownReads) -> None:
    assert _status(known.answer("GET", _path("other"), {})) == 404
    assert _status(known.answer("GET", _path("return_value"), {"map_index": "3"})) == 404


@pytest.mark.parametrize(
    ("path", "query"),
    [
        (_path("return_value", task_id="elsewhere"), {}),
        (_path("return_value", run="other"), {}),
        (_path("return_value", dag_id="other"), {}),
        (_path("huge"), {}),
        (_path("huge/item/0"), {}),
        (_path("huge/slice"), {}),
        (_path("return_value"), {"include_prior_dates": "true"}),
        (_path("return_value"), {"offset": "0"}),
        ("/variables/unknown", {}),
        ("/connections/unknown", {}),
        ("/assets/by-name", {"name": "a"}),
    ],
)
def test_what_was_not_sent_is_a_miss(known: KnownReads, path: str, query: dict[str, str]) -> None:
    assert known.answer("GET", path, query) is MISS


@pytest.mark.parametrize("offset", [0, 1, 2, -1, -3])
def test_items_count_in_map_order(known: KnownReads, offset: int) -> None:
    assert known.answer("GET", _path(f"mapped/item/{offset}"), {}) == (200, [0, 10, 20][offset], {})


@pytest.mark.parametrize("offset", [3, -4])
def test_an_item_beyond_the_end_is_not_found(known: KnownReads, offset: int) -> None:
    assert _status(known.answer("GET", _path(f"mapped/item/{offset}"), {})) == 404


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [0, 10, 20]),
        ({"start": "1"}, [10, 20]),
        ({"stop": "-1"}, [0, 10]),
        ({"step": "-1"}, [20, 10, 0]),
        ({"start": "-2", "stop": "3", "step": "1"}, [10, 20]),
        ({"step": "0"}, [0, 10, 20]),
    ],
)
def test_slices(known: KnownReads, query: dict[str, str], expected: list[int]) -> None:
    assert known.answer("GET", _path("mapped/slice"), query) == (200, expected, {})


def test_counting(known: KnownReads) -> None:
    assert known.answer("HEAD", _path("mapped"), {}) == (200, None, {"Content-Range": "map_indexes 3"})
    assert known.answer("HEAD", _path("other"), {}) == (200, None, {"Content-Range": "map_indexes 0"})


def test_a_task_reads_what_it_wrote(known: KnownReads) -> None:
    known.remember(Write(seq=0, method="POST", path=_path("mine", "t"), body=[1]))
    assert known.answer("GET", _path("mine", "t"), {}) == (200, {"key": "mine", "value": [1]}, {})
    known.remember(Write(seq=1, method="DELETE", path=_path("mine", "t")))
    assert _status(known.answer("GET", _path("mine", "t"), {})) == 404


def test_a_task_reads_what_it_wrote_over_something_too_large() -> None:
    known = KnownReads(make_request(inputs=Inputs(tasks=["t"], omitted=[("t", "mine")])))
    assert known.answer("GET", _path("mine", "t"), {}) is MISS
    known.remember(Write(seq=0, method="POST", path=_path("mine", "t"), body=1))
    assert known.answer("GET", _path("mine", "t"), {}) == (200, {"key": "mine", "value": 1}, {})


def test_of_a_task_some_of_whose_instances_run_only_what_was_sent_is_known() -> None:
    known = KnownReads(make_request(inputs=Inputs(tasks=["t"], xcoms=[_value("k", "done", 1)])))
    for _ in range(2):  # it does not change
        assert known.answer("GET", _path("k"), {"map_index": "1"}) == (200, {"key": "k", "value": "done"}, {})
    assert known.answer("GET", _path("k"), {"map_index": "0"}) is MISS
    assert known.answer("GET", _path("other"), {}) is MISS
    assert known.answer("GET", _path("k/slice"), {}) is MISS
    assert known.answer("GET", _path("k/item/0"), {}) is MISS
    assert known.answer("HEAD", _path("k"), {}) is MISS


def test_of_a_mapped_task_an_instance_knows_only_itself() -> None:
    known = KnownReads(make_request(ti={"map_index": 2}, inputs=Inputs(tasks=["t"])))
    known.remember(Write(seq=0, method="POST", path=_path("k", "t"), query={"map_index": "2"}, body="mine"))
    assert known.answer("GET", _path("k", "t"), {"map_index": "2"}) == (200, {"key": "k", "value": "mine"}, {})
    assert _status(known.answer("GET", _path("other", "t"), {"map_index": "2"})) == 404
    assert known.answer("GET", _path("k", "t"), {"map_index": "1"}) is MISS
    assert known.answer("GET", _path("k/slice", "t"), {}) is MISS
    assert known.answer("HEAD", _path("k", "t"), {}) is MISS


def test_variables_and_connections(known: KnownReads) -> None:
    assert known.answer("GET", "/variables/there", {}) == (200, {"key": "there", "value": "v"}, {})
    assert _status(known.answer("GET", "/variables/absent", {})) == 404
    assert _status(known.answer("GET", "/connections/db", {})) == 200
    assert _status(known.answer("GET", "/connections/none", {})) == 404


@pytest.mark.parametrize("path", ["/variables/there", "/variables/absent", "/connections/db", "/connections/none"])
def test_only_the_first_read_of_what_may_change_is_known(known: KnownReads, path: str) -> None:
    assert known.answer("GET", path, {}) is not MISS
    assert known.answer("GET", path, {}) is MISS


@pytest.mark.parametrize("path", ["/variables/there", "/connections/db"])
def test_a_first_read_that_comes_late_asks(known: KnownReads, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    later = time.monotonic() + 11
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert known.answer("GET", path, {}) is MISS
    assert _status(known.answer("GET", _path("return_value"), {})) == 200


def test_the_list_of_variables_is_no_variable() -> None:
    known = KnownReads(make_request(inputs=Inputs(variables={"keys": None})))
    assert known.answer("GET", "/variables/keys", {"limit": "1000", "offset": "0"}) is MISS
