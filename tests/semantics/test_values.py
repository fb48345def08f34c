"""What tasks are told and what they tell: the same as with LocalExecutor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from tests.local.workers import eventually

from .deployment import EXECUTORS, tasks, xcoms

if TYPE_CHECKING:
    from .deployment import Deployment

pytestmark = pytest.mark.timeout(1200)


def test_xcoms_of_every_kind(deployment: Deployment) -> None:
    found = deployment.same("xcoms", "failed")
    assert tasks(found)["cannot_be_serialized"] == "failed"
    assert "returns_nothing" not in xcoms(found)
    assert "pushes_nothing" not in xcoms(found)
    assert xcoms(found)["overwrites"] == [2]
    assert xcoms(found)["reads"][2] == "Decimal('1.5')"


def test_values_too_large_for_a_request_and_for_the_database(deployment: Deployment) -> None:
    found = deployment.same("large_values")
    results = xcoms(found)
    assert [results[f"measure_{size}"] for size in (1_000, 150_000, 400_000)] == [1_000, 150_000, 400_000]
    assert results["measure_all"] == [1_000, 150_000, 400_000]
    assert len(results["make_150000"]) == 150_000
    # The XCom backend for object storage took it.
    assert results["make_400000"].startswith("file://")
    for executor in EXECUTORS:
        files = (deployment.folder / "xcoms" / f"large_values_on_{executor}").rglob("*")
        assert [path.stat().st_size for path in files if path.is_file()] == [400_002] * 2  # as JSON


def test_params_with_a_schema(deployment: Deployment) -> None:
    found = deployment.same("params")
    assert xcoms(found)["reads"]["number"] == 3
    assert xcoms(found)["renders"] == "6 x default"
    for wrong in ({"number": 99}, {"choice": "c"}, {"names": []}, {"when": "yesterday"}):
        for executor in EXECUTORS:
            body = {"logical_date": None, "conf": wrong}
            response = deployment.stack.airflow.post(f"/api/v2/dags/params_on_{executor}/dagRuns", json=body)
            assert response.status_code == httpx.codes.BAD_REQUEST, response.text


def test_templates(deployment: Deployment) -> None:
    found = deployment.same("templates", "failed")
    assert tasks(found)["undefined"] == "failed"
    text, nested, file, native = xcoms(found)["templated"]
    assert text.startswith("2026-01-01 20260101T000000 the_run 2026-01-01 00:00:00+00:00 ")
    assert text.endswith("2026-01-06 2026-01-01 00:00:00 hello hello")
    assert nested["list"][0] == "hello"
    assert file == "From a file: 2026-01-01 of templates"
    assert native == "[1, {'a': 'hello'}]"
    assert xcoms(found)["bash"] == "A cba 2026-01-01"


def test_secrets_are_hidden_in_rendered_fields_and_logs(deployment: Deployment) -> None:
    deployment.wait("templates")
    for executor in EXECUTORS:
        found = deployment.rows("templates", executor)
        assert "sesame" not in str(found["rendered"])
        logs = deployment.task_logs / f"dag_id=templates_on_{executor}" / "run_id=the_run" / "task_id=hides_secrets"
        text = (logs / "attempt=1.log").read_text()
        assert "said by the task: *** ***" in text
        assert "sesame" not in text


def test_native_templates(deployment: Deployment) -> None:
    found = deployment.same("native_templates")
    assert xcoms(found)["templated"][3] == [1, {"a": "hello"}]


def test_context(deployment: Deployment) -> None:
    found = xcoms(deployment.same("context"))["everything"]
    assert found["run"] == ["the_run", "manual", "2026-01-01 00:00:00+00:00", "hello", "DagRunState.RUNNING"]
    assert found["counts"] == [1, 1, "DagRunState.RUNNING"]


def test_variables_and_connections_of_every_secrets_backend(deployment: Deployment) -> None:
    found = deployment.same("settings", "failed")
    results = xcoms(found)
    assert results["variables"] == {
        "environment": "of the environment",
        "metastore": "hello",
        "json": {"a": [1]},
        "file": "of a file",
        "absent": "the default",
    }
    assert [one[1] for one in results["connections"]] == ["env.example", "db.example", "file.example"]
    assert results["writes"] == [{"by": "a task"}, "gone"]
    assert (tasks(found)["missing"], tasks(found)["no_connection"]) == ("failed", "failed")


def test_what_changes_while_a_task_reads_it(deployment: Deployment) -> None:
    # What a task asked for in the first run is sent along in the second.
    for number, run_id in enumerate(("first", "second"), start=1):
        deployment.trigger("changes", run_id=run_id, logical_date=f"2026-01-0{number}T00:00:00+00:00")
        assert deployment.wait("changes", run_id) == "success"
    found = deployment.compare("changes", logged=False)  # one twin may poke once more than the other
    assert [xcom["value"] for xcom in found["xcoms"] if xcom["task_id"] == "overwrites"] == [
        ["nothing", "first", ["kept"]],
        ["first", "second", ["kept"]],
    ]
    assert [xcom["value"] for xcom in found["xcoms"] if xcom["task_id"] == "reads_it"] == ["at last"] * 2


def test_assets_their_aliases_and_events(deployment: Deployment) -> None:
    found = deployment.same("produces")
    events = [(event["name"], event["source_task_id"], event["extra"]) for event in found["asset events"]]
    assert sorted(events, key=str) == [
        ("extra", "makes_both", {"rows": 3}),
        ("extra", "makes_by_alias", {"by": "alias"}),
        ("plain", "makes_both", {"from": "the context"}),
        ("plain", "makes_plain", {}),
    ]
    assert xcoms(found)["reads_events"] == [{"rows": 3}, {"by": "alias"}]


def test_a_dag_that_assets_trigger(deployment: Deployment) -> None:
    deployment.wait("produces")
    by_alias = [{"by": "alias"}, "makes_by_alias"]
    # An event that came by an alias is there for the asset and for the alias.
    expected = [by_alias, by_alias, [{"rows": 3}, "makes_both"]]
    for executor in EXECUTORS:

        def consumed(executor: str = executor) -> bool:
            found = deployment.rows("consumes", executor)
            # One run may take several events.
            read = [event for xcom in found["xcoms"] for event in xcom["value"]]
            return sorted(read, key=str) == sorted(expected, key=str)

        eventually(consumed, within=300.0)
