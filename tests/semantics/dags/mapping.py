"""DAGs with dynamic task mapping."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import get_current_context, task, task_group
from airflow.sdk.exceptions import AirflowSkipException
from twins import twins


def _odd_only(number: int) -> int:
    if number % 2 == 0:
        raise AirflowSkipException
    return number * 10


def _greet(name: str, *, loud: bool = False) -> str:
    return name.upper() if loud else name


@twins()
def mapped(_: str) -> None:
    @task
    def numbers() -> list[int]:
        return [1, 2, 3]

    @task
    def named() -> dict[str, int]:
        return {"one": 1, "two": 2}

    @task
    def letters() -> list[str]:
        return ["x", "y"]

    @task
    def nothing() -> list[int]:
        return []

    @task
    def add(a: int, b: int = 0) -> int:
        return a + b

    @task(multiple_outputs=False)
    def show(item: Any) -> Any:
        return repr(item)

    @task
    def collect(values: Any) -> list[Any]:
        return list(values)

    several, two = numbers(), letters()
    collect(add.partial(b=10).expand(a=several))
    collect.override(task_id="cross")(add.override(task_id="cross_product").expand(a=several, b=[100, 200]))
    collect.override(task_id="rows")(
        add.override(task_id="by_row").expand_kwargs([{"a": 1}, {"a": 2, "b": 3}, {"a": 4, "b": 5}])
    )
    show.override(task_id="over_a_dict").expand(item=named())
    collect.override(task_id="of_nothing")(add.override(task_id="over_nothing").expand(a=nothing()))
    show.override(task_id="zipped").expand(item=several.zip(two, fillvalue=None))
    show.override(task_id="concatenated").expand(item=several.concat(two))
    show.override(task_id="transformed").expand(item=several.map(_odd_only))
    BashOperator.partial(task_id="bash", map_index_template="{{ task.env['WHO'] }}").expand(
        bash_command=["echo $WHO {{ ti.map_index }}"], env=[{"WHO": "ann"}, {"WHO": "bob"}]
    )
    PythonOperator.partial(task_id="kwargs", python_callable=_greet).expand(
        op_kwargs=[{"name": "x"}, {"name": "y", "loud": True}]
    )


@twins()
def mapped_trouble(_: str) -> None:
    @task(retries=1, retry_delay=timedelta(seconds=0.2), map_index_template="{{ label }}")
    def some_fail(number: int) -> int:
        context = get_current_context()
        context["label"] = f"number {number}"
        if number == 1 and context["ti"].try_number == 1:
            raise ValueError("once")
        if number == 2:
            raise ValueError("always")
        if number == 3:
            raise AirflowSkipException
        return number

    @task(trigger_rule="all_done")
    def survivors(values: Any) -> list[Any]:
        return list(values)

    survivors(some_fail.expand(number=[0, 1, 2, 3]))

    @task
    def no_list() -> int:
        return 5

    @task
    def never(number: int) -> int:
        return number

    never.expand(number=no_list())


@twins()
def mapped_groups(_: str) -> None:
    @task
    def words() -> list[str]:
        return ["a", "b", "c"]

    @task
    def upper(word: str) -> str:
        return word.upper()

    @task(retries=1, retry_delay=timedelta(seconds=0.2))
    def twice(word: str) -> str:
        if word == "B" and get_current_context()["ti"].try_number == 1:
            raise ValueError("once")
        return word * 2

    @task
    def join(values: Any) -> str:
        return ",".join(values)

    @task_group
    def each(word: str, sign: str) -> Any:
        return twice(upper(word))

    join(each.partial(sign="!").expand(word=words()))

    @task
    def letters(word: str) -> list[str]:
        return list(word * 2)

    @task
    def first(several: list[str]) -> str:
        return several[0]

    join.override(task_id="nested")(first.expand(several=letters.expand(word=words())))


# Last of all, so that the other DAGs need not wait for it.
@twins(max_active_tasks=64, default_args={"priority_weight": -1, "weight_rule": "absolute"})
def many(_: str) -> None:
    @task
    def numbers(params: dict[str, Any]) -> list[int]:
        return list(range(params["count"]))

    @task
    def square(number: int) -> int:
        return number * number

    @task
    def total(squares: Any) -> dict[str, int]:
        return {"count": len(squares), "sum": sum(squares), "last": squares[-1]}

    total(square.expand(number=numbers()))
