from __future__ import annotations

import pytest

from airflow_knative.services.merge import merge_options
from airflow_knative.services.model import KnativeOptions, ServicesError


def test_numbers_and_resources_take_the_largest() -> None:
    merged = merge_options(
        "d",
        {
            "a": KnativeOptions(slots=2, timeout=30, resources={"requests": {"memory": "1Gi", "cpu": "100m"}}),
            "b": KnativeOptions(slots=4, resources={"requests": {"memory": "512Mi"}, "limits": {"cpu": "1"}}),
            "c": KnativeOptions(window=10),
        },
    )
    assert (merged.slots, merged.timeout, merged.window) == (4, 30, 10)
    assert merged.resources == {"requests": {"memory": "1Gi", "cpu": "100m"}, "limits": {"cpu": "1"}}


def test_what_no_task_sets_stays_unset() -> None:
    merged = merge_options("d", {"a": KnativeOptions(slots=2), "b": KnativeOptions()})
    assert merged.model_fields_set == {"slots"}


def test_variables_and_secrets_are_united() -> None:
    merged = merge_options(
        "d",
        {
            "a": KnativeOptions(env={"A": "1", "B": "2"}, secrets=["y"]),
            "b": KnativeOptions(env={"B": "2", "C": "3"}, secrets=["x", "y"]),
        },
    )
    assert merged.env == {"A": "1", "B": "2", "C": "3"}
    assert merged.secrets == ["x", "y"]


def test_contradictions_name_both_tasks() -> None:
    tasks = {
        "a": KnativeOptions(image="one", env={"MODE": "x"}, node_selector={"disk": "ssd"}),
        "b": KnativeOptions(image="two", env={"MODE": "y"}, node_selector={"disk": "hdd"}),
        "c": KnativeOptions(image="one"),
    }
    with pytest.raises(ServicesError) as caught:
        merge_options("d", tasks)
    assert len(caught.value.problems) == 3
    for problem, key in zip(caught.value.problems, ("['env']['MODE']", "['image']", "['node_selector']"), strict=True):
        assert "dag 'd': tasks 'a' and 'b'" in problem
        assert key in problem


def test_a_merged_request_above_the_merged_limit_is_refused() -> None:
    tasks = {
        "a": KnativeOptions(resources={"requests": {"cpu": "2"}}),
        "b": KnativeOptions(resources={"limits": {"cpu": "1"}}),
    }
    with pytest.raises(ServicesError, match="the request of cpu, 2, is above its limit, 1"):
        merge_options("d", tasks)
