from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    Workflow = Callable[[str], ModuleType]


@pytest.mark.parametrize("name", ["avg", "avg_distributed"])
@pytest.mark.parametrize("value", [None, [], "1234", 5, {"a": 1}, [1, "2"], [1, None], [True], [[1]]])
def test_what_is_no_list_of_numbers(workflow: Workflow, name: str, value: Any) -> None:
    with pytest.raises(AirflowFailException, match=r"The input (is|has) .+; allowed is a list of at least one number"):
        workflow(name).checked_numbers(value)


@pytest.mark.parametrize("name", ["avg", "avg_distributed"])
@pytest.mark.parametrize("value", [[1], [1, 2.5, -3], [0.1] * 1000])
def test_lists_of_numbers(workflow: Workflow, name: str, value: Any) -> None:
    assert workflow(name).checked_numbers(value) == value


def test_the_element_that_is_wrong_is_named(workflow: Workflow) -> None:
    with pytest.raises(AirflowFailException, match="The input has 'x' at index 2"):
        workflow("avg").checked_numbers([1, 2, "x"])


@pytest.mark.parametrize("value", [None, {}, [], "text", {"1": "2"}, {"1": None}, {"1": True}, [1, []]])
def test_what_are_no_orders(workflow: Workflow, value: Any) -> None:
    for function in (workflow("etl").checked_orders, workflow("etl_mapped").checked_amounts):
        with pytest.raises(AirflowFailException, match="allowed is an object of order id to value"):
            function(value)


def test_orders_may_be_a_list(workflow: Workflow) -> None:
    assert workflow("etl").checked_orders([5, 6.5]) == {"0": 5, "1": 6.5}
    assert workflow("etl_mapped").checked_amounts({"x": 5, "y": 6.5}) == [5, 6.5]


@pytest.mark.parametrize(
    "value", [None, "1", 1.5, True, [], {}, {"value": "1"}, {"value": 1, "padding": -1}, {"value": 1, "more": 2}]
)
def test_what_a_benchmark_does_not_take(workflow: Workflow, value: Any) -> None:
    with pytest.raises(AirflowFailException, match="allowed is a whole number n, or an object"):
        workflow("benchmark").checked_item(value)


def test_what_a_benchmark_takes(workflow: Workflow) -> None:
    check = workflow("benchmark").checked_item
    assert check(7) == {"value": 7, "padding": ""}
    assert check({"value": 7, "padding": 3}) == {"value": 7, "padding": "xxx"}
