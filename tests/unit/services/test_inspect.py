"""Loading imports Airflow in a process of its own, which takes seconds: few loads, many things checked in each."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from airflow_knative.services.inspect import load
from airflow_knative.services.model import ServicesError, ServiceSpec

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """
    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk import dag, task, task_group

    print("printed on import")

    @dag(default_args={"executor_config": {"knative": {"window": 20}}})
    def good():
        @task
        def plain(): ...

        @task(executor_config={"knative": {"slots": 3, "timeout": 900}})
        def tuned(number): ...

        @task_group
        def group():
            plain.override(task_id="inner")()

        start = EmptyOperator(task_id="start")
        called_back = EmptyOperator(task_id="called_back", on_success_callback=lambda context: None)
        elsewhere = plain.override(task_id="elsewhere", executor="LocalExecutor")()
        start >> plain() >> tuned.expand(number=[1, 2]) >> group() >> called_back >> elsewhere

    good()
"""
BAD = {
    "broken.py": """
        from airflow.sdk import DAG
        raise RuntimeError("no such luck")
    """,
    "twice_a.py": """
        from airflow.sdk import DAG
        with DAG("twice"): ...
    """,
    "twice_b.py": """
        from airflow.sdk import DAG
        with DAG("twice"): ...
    """,
    "same_file.py": """
        from airflow.sdk import DAG, task
        with DAG("double") as one: ...
        with DAG("double", tags=["other"]) as other:
            @task
            def late(): ...
            late()
    """,
    "wrong.py": """
        from airflow.sdk import dag, task

        @dag
        def wrong():
            @task(executor_config={"knative": {"slots": 0, "colour": "red"}})
            def settings(): ...

            @task(executor_config={"knative": {"timeout": 601}})
            def slow(): ...

            @task
            def a_b(): ...

            @task(task_id="a-b")
            def other(): ...

            settings() >> slow() >> a_b() >> other()

        wrong()
    """,
    "ignored.txt": "neither Python nor a DAG",
}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(dedent(text))


@pytest.fixture(autouse=True)
def _two_executors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "airflow_knative.executor.KnativeExecutor,LocalExecutor")
    monkeypatch.delenv("AIRFLOW_HOME", raising=False)


@pytest.fixture(scope="session")
def good_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dags")
    write(folder, {"sub/good.py": GOOD})
    return folder


def test_services_of_tasks(good_folder: Path) -> None:
    specs = {spec.task_id: spec for spec in load(good_folder)}
    # `start` never reaches an executor, and `elsewhere` reaches another one.
    assert set(specs) == {"plain", "tuned", "group.inner", "called_back"}
    assert specs["plain"] == ServiceSpec(
        name="airflow-worker-good-plain", dag_id="good", task_id="plain", file="sub/good.py", window=20
    )
    assert specs["plain"].options == {"window": 20}
    assert specs["tuned"].options == {"slots": 3, "timeout": 900}
    assert [spec.name for spec in specs.values()] == sorted(spec.name for spec in specs.values())


def test_one_service_per_dag(good_folder: Path) -> None:
    (spec,) = load(good_folder, "dag")
    assert (spec.name, spec.dag_id, spec.task_id) == ("airflow-worker-good", "good", None)
    assert spec.options == {"slots": 3, "timeout": 900, "window": 20}


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    write(tmp_path, BAD)
    with pytest.raises(ServicesError) as caught:
        load(tmp_path, max_timeout=600)
    text = str(caught.value)
    assert "file 'broken.py' cannot be imported: RuntimeError: no such luck" in text
    assert "'twice'" in text
    assert "twice_a.py" in text
    assert "twice_b.py" in text
    assert "the dag id 'double' occurs twice, in same_file.py" in text
    assert "dag 'wrong', task 'settings': executor_config['knative']['slots'] is 0" in text
    assert "dag 'wrong', task 'settings': executor_config['knative']['colour'] is 'red', an unknown key" in text
    assert "dag 'wrong', task 'slow': executor_config['knative']['timeout'] is 601; allowed: at most 600" in text
    assert "'airflow-worker-wrong-a-b' comes of dag 'wrong', task 'a-b' and of dag 'wrong', task 'a_b'" in text
    assert len(caught.value.problems) == 7


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ServicesError, match="is not a folder"):
        load(tmp_path / "missing")


def test_an_interpreter_without_airflow_is_told(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'airflow'\" >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(ServicesError, match=r"install airflow-knative\[worker\]"):
        load(tmp_path, python=str(python))


def test_a_crash_shows_what_was_said_last(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'Segmentation fault' >&2\nexit 139\n")
    python.chmod(0o755)
    with pytest.raises(ServicesError, match=r"(?s)exit code 139.*Segmentation fault"):
        load(tmp_path, python=str(python))
