from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from airflow_knative.services.model import KnativeOptions, ServicesError, ServiceSpec, parse_options, quantity

WHERE = "dag 'd', task 't'"


def problems(**raw: Any) -> tuple[str, ...]:
    with pytest.raises(ServicesError) as caught:
        parse_options(raw, where=WHERE)
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1", "1"),
        ("500m", "0.5"),
        ("1.5Gi", "1610612736"),
        ("1k", "1000"),
        (".5", "0.5"),
        ("1e3", "1000"),
        ("2E", "2000000000000000000"),
        ("100n", "0.0000001"),
        ("1Ki", "1024"),
        ("5E-1", "0.5"),
    ],
)
def test_quantities(text: str, amount: str) -> None:
    assert quantity(text) == Decimal(amount)


@pytest.mark.parametrize("text", ["", "1 Gi", "-1", "1GB", "abc", "1.", "1K", "0x10"])
def test_quantities_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="Kubernetes quantity"):
        quantity(text)


def test_defaults() -> None:
    options = KnativeOptions()
    assert (options.slots, options.min_scale, options.max_scale) == (1, 0, 10)
    assert (options.window, options.timeout) == (60, 600)
    assert not options.model_fields_set


def test_everything_at_once() -> None:
    options = parse_options(
        {
            "slots": 2,
            "min_scale": 0,
            "max_scale": 3,
            "window": 30,
            "timeout": 900,
            "resources": {"requests": {"cpu": 1, "memory": "256Mi"}, "limits": {"cpu": 1.5, "nvidia.com/gpu": 1}},
            "image": "registry.example:5000/team/worker:1.2",
            "env": {"MODE": "fast"},
            "secrets": ("s3-login",),
            "node_selector": {"kubernetes.io/arch": "amd64"},
        },
        where=WHERE,
    )
    assert options.resources["requests"] == {"cpu": "1", "memory": "256Mi"}
    assert options.resources["limits"]["cpu"] == "1.5"
    assert options.secrets == ["s3-login"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("slots", 0),
        ("slots", 1001),
        ("slots", "2"),
        ("slots", True),
        ("slots", 1.5),
        ("min_scale", -1),
        ("max_scale", 0),
        ("window", 5),
        ("window", 3601),
        ("timeout", 0),
        ("timeout", "10m"),
        ("image", "Not An Image"),
        ("env", {"A-B": "x"}),
        ("env", {"PORT": "1"}),
        ("env", {"K_SERVICE": "x"}),
        ("env", {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "x"}),
        ("env", {"AIRFLOW_KNATIVE_WORKER_SLOTS": "9"}),
        ("env", {"A": 1}),
        ("env", ["A=1"]),
        ("secrets", "one"),
        ("secrets", ["Not_A_Name"]),
        ("node_selector", {"a b": "c"}),
        ("node_selector", {"a": "c d"}),
        ("resources", {"cpu": "1"}),
        ("resources", {"requests": {"cpu": "lots"}}),
        ("resources", {"requests": {"cpus": "1"}}),
        ("resources", {"requests": {"cpu": "2"}, "limits": {"cpu": "1500m"}}),
        ("resources", {"requests": "1"}),
        ("resources", "big"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(key: str, value: Any) -> None:
    (problem,) = problems(**{key: value})
    assert problem.startswith(f"{WHERE}: executor_config['knative']['{key}']")
    assert "; allowed: " in problem
    if not isinstance(value, dict | list):
        assert repr(value) in problem


def test_unknown_key() -> None:
    (problem,) = problems(concurrency=2)
    assert "['concurrency'] is 2, an unknown key" in problem
    assert "slots" in problem


def test_scale_range_counts_the_default() -> None:
    (problem,) = problems(min_scale=11)
    assert "min_scale 11 is above max_scale 10 (the default)" in problem


def test_all_problems_at_once() -> None:
    assert len(problems(slots=0, window=1, nonsense=None)) == 3


def test_knative_must_be_a_mapping() -> None:
    with pytest.raises(ServicesError, match=r"executor_config\['knative'\] is 'x'; allowed: a mapping"):
        parse_options("x", where=WHERE)


def test_a_spec_knows_what_the_dag_set() -> None:
    spec = ServiceSpec(name="n", dag_id="d", task_id="t", file="f.py", slots=1)
    assert spec.options == {"slots": 1}


def test_a_spec_cannot_be_changed() -> None:
    spec = ServiceSpec(name="n", dag_id="d", task_id="t", file="f.py")
    with pytest.raises(ValidationError):
        spec.slots = 2  # type: ignore[misc]


def test_what_is_sent_along_is_checked_and_no_part_of_a_service() -> None:
    options = parse_options({"window": 20, "variables": ["a"], "connections": ["b"]}, where=WHERE)
    spec = ServiceSpec(name="s", dag_id="d", file="d.py", **options.model_dump(exclude_unset=True))
    assert spec.options == {"window": 20}
    with pytest.raises(ServicesError, match="a list of keys of Airflow's Variables"):
        parse_options({"variables": "a"}, where=WHERE)
