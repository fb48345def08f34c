"""What a DAG may say to the dispatcher, and what it is told about anything else."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from airflow_knative.executor.options import OptionError, read_options


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, {}),
        ({}, {}),
        ({"knative": None}, {}),
        ({"knative": {}}, {}),
        ({"knative": {"timeout": 30, "slots": 2, "secrets": {"s"}, "env": {1: object()}}}, {"timeout": 30}),
        ({"knative": {"timeout": 0.5}, "pod_override": object()}, {"timeout": 0.5}),
        (
            {"knative": {"variables": {"b", "a"}, "connections": ("c",)}},
            {"variables": ["a", "b"], "connections": ["c"]},
        ),
    ],
)
def test_what_the_dispatcher_goes_by_is_read_and_nothing_else(
    config: dict[str, Any] | None, expected: dict[str, Any]
) -> None:
    options = read_options(config)
    assert options == expected
    json.dumps(options)


@pytest.mark.parametrize(
    ("knative", "said"),
    [
        ("fast", "executor_config['knative'] of the task is 'fast'; allowed is a mapping"),
        ([], "executor_config['knative'] of the task is []; allowed is a mapping"),
        (
            {"timeout": "10m"},
            "executor_config['knative']['timeout'] of the task is '10m'; allowed is a number of seconds",
        ),
        ({"timeout": timedelta(1)}, "['timeout'] of the task is datetime.timedelta(days=1); allowed is a number"),
        ({"timeout": 0}, "['timeout'] of the task is 0; allowed is a number of seconds above 0"),
        ({"timeout": float("nan")}, "['timeout'] of the task is nan;"),
        ({"timeout": float("inf")}, "['timeout'] of the task is inf;"),
        ({"timeout": True}, "['timeout'] of the task is True;"),
        ({"timeout": None}, "['timeout'] of the task is None;"),
        ({"variables": "flag"}, "['variables'] of the task is 'flag'; allowed is a list of names"),
        ({"connections": ["c", 1]}, "['connections'] of the task is ['c', 1]; allowed is a list of names"),
        ({"connections": 1}, "['connections'] of the task is 1;"),
    ],
)
def test_a_value_that_means_nothing_is_named(knative: Any, said: str) -> None:
    with pytest.raises(OptionError) as caught:
        read_options({"knative": knative})
    assert said in str(caught.value)
    assert "Correct it in the DAG" in str(caught.value)


def test_a_large_value_is_not_shown_whole() -> None:
    with pytest.raises(OptionError) as caught:
        read_options({"knative": {"timeout": "x" * 100_000}})
    assert len(str(caught.value)) < 1000
