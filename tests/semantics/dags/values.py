"""What tasks are told, and what they tell."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import (
    Asset,
    AssetAlias,
    BaseHook,
    BaseOperator,
    Metadata,
    Param,
    Variable,
    get_current_context,
    task,
)
from twins import twins

ODD_KEY = "odd key/with a slash&ü"


@twins()
def xcoms(_: str) -> None:
    @task(multiple_outputs=True)
    def several() -> dict[str, Any]:
        ti = get_current_context()["ti"]
        ti.xcom_push(key=ODD_KEY, value={"nested": [1, None, "ü\u2028"]})
        return {
            "when": datetime(2026, 1, 1, tzinfo=UTC),
            "day": date(2026, 1, 2),
            "exact": Decimal("1.50"),
            "pair": (1, 2),
            "set": {3},
            "big": 2**62,
            "float": 1e-300,
            "none": None,
            "state": 1,
        }

    @task
    def reads() -> list[str]:
        ti = get_current_context()["ti"]
        keys = ["when", "day", "exact", "pair", "set", "big", "float", "none", "state", ODD_KEY, "absent"]
        return [repr(ti.xcom_pull(task_ids="several", key=key)) for key in keys]

    @task
    def reads_from_several() -> Any:
        ti = get_current_context()["ti"]
        return [list(ti.xcom_pull(task_ids=["several", "reads"], key=key)) for key in ("return_value", "day")], repr(
            ti.xcom_pull(task_ids="absent", default="the default")
        )

    @task
    def returns_nothing() -> None:
        pass

    @task(do_xcom_push=False)
    def pushes_nothing() -> int:
        return 1

    @task
    def cannot_be_serialized() -> Any:
        return object()

    @task
    def overwrites() -> list[Any]:
        ti = get_current_context()["ti"]
        ti.xcom_push(key="same", value=1)
        ti.xcom_push(key="same", value=2)
        return [ti.xcom_pull(task_ids="overwrites", key="same")]

    several() >> reads() >> reads_from_several()
    returns_nothing()
    pushes_nothing()
    cannot_be_serialized()
    overwrites()


@twins()
def large_values(_: str) -> None:
    @task
    def make(size: int) -> str:
        return "x" * size

    @task
    def measure(text: str) -> int:
        return len(text)

    @task
    def measure_all(texts: Any) -> list[int]:
        return [len(text) for text in texts]

    # Within a request, beyond what travels in one, and beyond what stays in the database.
    sizes = [1_000, 150_000, 400_000]
    for size in sizes:
        measure.override(task_id=f"measure_{size}")(make.override(task_id=f"make_{size}")(size))
    measure_all(make.expand(size=sizes))


@twins(
    params={
        "number": Param(3, type="integer", minimum=1, maximum=9),
        "choice": Param("a", enum=["a", "b"]),
        "names": Param(["x"], type="array", items={"type": "string"}, minItems=1),
        "when": Param("2026-01-01", type="string", format="date"),
        "maybe": Param(None, type=["null", "string"]),
        "plain": 7,
    },
)
def params(_: str) -> None:
    @task
    def reads(params: dict[str, Any]) -> dict[str, Any]:
        return dict(params)

    BashOperator(
        task_id="renders",
        bash_command="echo {{ params.number * 2 }} {{ params.names | join('-') }} {{ params.own }}",
        params={"own": Param("default", type="string")},
    )
    reads()


class Templated(BaseOperator):
    """Has fields of every kind to render."""

    template_fields = ("text", "nested", "file", "native")
    template_ext = (".txt",)

    def __init__(self, *, text: str, nested: Any, file: str, native: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.text, self.nested, self.file, self.native = text, nested, file, native

    def execute(self, context: Any) -> list[Any]:
        return [self.text, self.nested, self.file, self.native]


FIELDS: dict[str, Any] = {
    "text": "{{ ds }} {{ ts_nodash }} {{ run_id }} {{ logical_date }} {{ data_interval_start }} "
    "{{ data_interval_end }} {{ dag.dag_id }} {{ task.task_id }} {{ ti.try_number }} {{ ti.map_index }} "
    "{{ task_instance_key_str }} "
    "{{ macros.ds_add(ds, 5) }} {{ macros.datetime(2026, 1, 1) }} {{ params.word }} {{ dag_run.conf.word }}",
    "nested": {"list": ["{{ var.value.plain }}", ("{{ var.json.settings.a[0] }}", 1)], "{{ ds }}": "{{ 1 + 1 }}"},
    "file": "template.txt",
    "native": "{{ [1, {'a': params.word}] }}",
}


def _hides(*secrets: str) -> int:
    print("said by the task:", *secrets)  # noqa: T201
    return len(secrets)


@twins(
    params={"word": "default"},
    user_defined_macros=lambda _: {"shout": str.upper},
    user_defined_filters=lambda _: {"backwards": lambda text: text[::-1]},
    template_searchpath=lambda _: [__file__.rsplit("/", 1)[0] + "/templates"],
)
def templates(_: str) -> None:
    Templated(task_id="templated", **FIELDS)
    Templated(task_id="undefined", **{**FIELDS, "text": "{{ no.such.thing }}"})
    BashOperator(
        task_id="bash",
        bash_command="echo {{ shout('a') }} {{ 'abc' | backwards }} $WHEN",
        env={"WHEN": "{{ ds }}"},
        append_env=True,
    )
    PythonOperator(
        task_id="python",
        python_callable=lambda *args, **kwargs: [*args, kwargs["b"]],
        op_args=["{{ var.value.plain }}", "{{ conn.warehouse.host }}"],
        op_kwargs={"b": "{{ conn.get('absent', 'no connection') }}"},
    )
    PythonOperator(
        task_id="hides_secrets",
        python_callable=_hides,
        op_args=["{{ var.value.secret_word }}", "{{ conn.warehouse.password }}"],
    )


@twins(render_template_as_native_obj=True, params={"word": "default"})
def native_templates(_: str) -> None:
    Templated(task_id="templated", **{**FIELDS, "file": "plain"})


@twins(params={"p": 1}, tags=["a", "b"])
def context(_: str) -> None:
    @task
    def first() -> str:
        return "first"

    @task(inlets=[Asset("context_in")], outlets=[Asset("context_out")], retries=1)
    def everything(value: str) -> dict[str, Any]:
        now = get_current_context()
        ti, run = now["ti"], now["dag_run"]
        names = ("ds", "ds_nodash", "ts", "ts_nodash", "ts_nodash_with_tz", "run_id", "task_instance_key_str")
        return {
            "keys": sorted(now),
            **{name: str(now[name]) for name in names},
            "dates": [str(now[name]) for name in ("logical_date", "data_interval_start", "data_interval_end")],
            "previous": [str(now[name]) for name in ("prev_data_interval_start_success", "prev_start_date_success")],
            "params": dict(now["params"]),
            "dag": [now["dag"].dag_id, sorted(now["dag"].tags), now["dag"].doc_md],
            "task": [now["task"].task_id, sorted(now["task"].upstream_task_ids), now["task"].retries],
            "ti": [ti.task_id, ti.run_id, ti.try_number, ti.max_tries, ti.map_index, str(ti.state)],
            "run": [run.run_id, run.run_type, str(run.logical_date), run.conf.get("word"), str(run.state)],
            "inlets": [str(now["inlets"]), str(now["outlets"])],
            "asset events": str(now.get("triggering_asset_events")),
            "states": ti.get_task_states(now["dag"].dag_id, task_ids=["first"], run_ids=[run.run_id]),
            "counts": [
                ti.get_ti_count(now["dag"].dag_id, task_ids=["first"], run_ids=[run.run_id]),
                ti.get_dr_count(now["dag"].dag_id, run_ids=[run.run_id]),
                str(ti.get_dagrun_state(now["dag"].dag_id, run.run_id)),
            ],
            "previous run": str(ti.get_previous_dagrun()),
            "first reschedule": str(ti.get_first_reschedule_date(now)),
        }

    everything(first())


@twins()
def settings(name: str) -> None:
    @task
    def variables() -> dict[str, Any]:
        return {
            "environment": Variable.get("from_environment"),
            "metastore": Variable.get("plain"),
            "json": Variable.get("settings", deserialize_json=True),
            "file": Variable.get("from_file"),
            "absent": Variable.get("absent", default="the default"),
        }

    @task
    def missing() -> str:
        return str(Variable.get("absent"))

    @task
    def connections() -> list[Any]:
        found = [BaseHook.get_connection(name) for name in ("env_connection", "warehouse", "file_connection")]
        return [[one.conn_type, one.host, one.login, one.schema, one.port, one.extra_dejson] for one in found]

    @task
    def no_connection() -> str:
        return str(BaseHook.get_connection("absent"))

    @task
    def writes() -> list[Any]:
        Variable.set(f"written_on_{name}", {"by": "a task"}, serialize_json=True, description="by a test")
        found = [Variable.get(f"written_on_{name}", deserialize_json=True)]
        Variable.delete(f"written_on_{name}")
        return [*found, Variable.get(f"written_on_{name}", default="gone")]

    variables()
    missing()
    connections()
    no_connection()
    writes()


@twins()
def changes(name: str) -> None:
    flag, kept = f"flag_on_{name}", f"kept_on_{name}"

    @task
    def lowers() -> None:
        Variable.delete(flag)

    @task
    def raises() -> None:
        time.sleep(3)
        Variable.set(flag, "up")

    @task.sensor(poke_interval=0.5, timeout=120)
    def sees_it_raised() -> bool:
        return bool(Variable.get(flag, default="down") == "up")

    @task
    def overwrites() -> list[Any]:
        found = [Variable.get(kept, default="nothing")]
        Variable.set(kept, get_current_context()["run_id"])
        return [*found, Variable.get(kept), list(Variable.keys(prefix=kept))]

    @task
    def at_once() -> None:
        pass

    @task
    def pushes_late() -> None:
        time.sleep(3)
        get_current_context()["ti"].xcom_push("late", "at last")

    @task(trigger_rule="one_success")
    def reads_it() -> Any:
        ti, until, found = get_current_context()["ti"], time.monotonic() + 120, None
        while found is None and time.monotonic() < until:
            time.sleep(0.5)
            found = ti.xcom_pull(task_ids="pushes_late", key="late")
        return found

    lowers() >> [raises(), sees_it_raised()] >> overwrites()
    [at_once(), pushes_late()] >> reads_it()


@twins()
def produces(name: str) -> None:
    plain, extra = Asset(f"plain_on_{name}"), Asset(f"extra_on_{name}", uri=f"x-test://extra_on_{name}/path")

    @task(outlets=[plain])
    def makes_plain() -> None:
        pass

    @task(outlets=[plain, extra])
    def makes_both() -> Any:
        get_current_context()["outlet_events"][plain].extra = {"from": "the context"}
        yield Metadata(extra, {"rows": 3})

    @task(outlets=[AssetAlias(f"alias_on_{name}")])
    def makes_by_alias() -> None:
        events = get_current_context()["outlet_events"]
        events[AssetAlias(f"alias_on_{name}")].add(extra, extra={"by": "alias"})

    @task(outlets=[plain])
    def fails() -> None:
        raise ValueError("on purpose")

    @task(inlets=[extra], trigger_rule="all_done")
    def reads_events() -> list[Any]:
        return [event.extra for event in get_current_context()["inlet_events"][extra]]

    makes_plain() >> makes_both() >> makes_by_alias() >> fails() >> reads_events()


@twins(schedule=lambda name: Asset(f"extra_on_{name}", uri=f"x-test://extra_on_{name}/path"), max_active_runs=1)
def consumes(_: str) -> None:
    @task
    def reads() -> list[Any]:
        return [
            [event.extra, event.source_task_id]
            for events in get_current_context()["triggering_asset_events"].values()
            for event in events
        ]

    reads()
