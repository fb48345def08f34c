from __future__ import annotations

from typing import Any

import pytest

from airflow_knative.gateway.payload import compact, input_text, plain, same_value

UTC_ZONE = {"__classname__": "builtins.tuple", "__version__": 1, "__data__": ["UTC", "pendulum.tz.timezone", 1, True]}


def wrap(name: str, data: Any) -> dict[str, Any]:
    return {"__classname__": name, "__version__": 2, "__data__": data}


@pytest.mark.parametrize(
    ("stored", "output"),
    [
        (wrap("builtins.tuple", [1, wrap("builtins.set", [2])]), [1, [2]]),
        ([{"a": wrap("decimal.Decimal", 1.5)}], [{"a": 1.5}]),
        (wrap("datetime.date", "2026-01-02"), "2026-01-02"),
        (wrap("datetime.timedelta", 90.0), 90.0),
        (wrap("datetime.datetime", {"timestamp": 1767323045.25, "tz": UTC_ZONE}), "2026-01-02T03:04:05.250000Z"),
        (wrap("datetime.datetime", {"timestamp": 1767323045.0, "tz": None}), "2026-01-02T03:04:05Z"),
        (wrap("my.Point", {"x": 1, "y": wrap("builtins.tuple", [2])}), {"x": 1, "y": [2]}),
        (wrap("my.Clock", {"timestamp": 5, "other": 1}), {"timestamp": 5, "other": 1}),
        ({"timestamp": 5, "tz": None}, {"timestamp": 5, "tz": None}),
        ("text", "text"),
        (None, None),
    ],
)
def test_wrapped_values_come_out_plain(stored: Any, output: Any) -> None:
    assert plain(stored) == output


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        (None, False, False),
        ("1", 1, False),
        ([1, 2], [2, 1], False),
        ([1], [1, 2], False),
        ({"a": 1, "b": [True]}, {"b": [True], "a": 1.0}, True),
        ({"a": [1]}, {"a": [True]}, False),
        ({"a": 1}, {"b": 1}, False),
        ({}, [], False),
    ],
)
def test_same_value(one: Any, other: Any, *, same: bool) -> None:
    assert same_value(one, other) is same
    assert same_value(other, one) is same


def test_compact_json() -> None:
    assert compact({"output": [2.5, "é", None]}) == '{"output":[2.5,"é",null]}'.encode()


def test_the_input_is_encoded_as_it_was_read() -> None:
    assert input_text(b' {"input": {"a" : [1.50, "\\u00e9"]}} ') == '{"a":[1.5,"é"]}'.encode()
