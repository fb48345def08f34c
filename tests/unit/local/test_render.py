from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING

import pytest

from airflow_knative.local.catalog import Service, endpoints, load_services, save_services, saved_key
from airflow_knative.local.errors import LocalError
from airflow_knative.local.render import services_of
from airflow_knative.local.watch import changes, fingerprint, relevant_files
from airflow_knative.services.model import ServiceSpec

if TYPE_CHECKING:
    from pathlib import Path


def spec(task: str, file: str = "a.py", **options: object) -> ServiceSpec:
    return ServiceSpec.model_validate(
        {"name": f"airflow-worker-{task}", "dag_id": "d", "task_id": task, "file": file, **options}
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "workflows"
    made.mkdir()
    for name in ("a.py", "b.py", "shared.py"):
        (made / name).write_text(name)
    return made


def revisions(folder: Path, **options: object) -> dict[str, str]:
    specs = [spec("one", **options), spec("two", "b.py")]
    return {service.task_id or "": service.revision for service in services_of(specs, folder)}


def test_the_same_files_make_the_same_revisions(folder: Path) -> None:
    before = revisions(folder)
    os.utime(folder / "a.py", (1, 1))
    assert revisions(folder) == before


def test_a_changed_dag_file_changes_only_its_own_services(folder: Path) -> None:
    before = revisions(folder)
    (folder / "a.py").write_text("changed")
    after = revisions(folder)
    assert after["one"] != before["one"]
    assert after["two"] == before["two"]


def test_a_changed_shared_file_changes_all(folder: Path) -> None:
    before = revisions(folder)
    (folder / "shared.py").write_text("changed")
    after = revisions(folder)
    assert not set(after.values()) & set(before.values())


def test_a_changed_setting_changes_its_service(folder: Path) -> None:
    assert revisions(folder)["one"] != revisions(folder, window=30)["one"]


def test_services_are_saved_with_the_key_that_they_were_made_from(tmp_path: Path) -> None:
    path = tmp_path / "services.json"
    assert (load_services(path), saved_key(path)) == ([], None)
    made = Service(name="s", revision="1", dag_id="d", task_id=None, file="d.py", secrets=("a",), env={"X": "1"})
    save_services(path, [made], key="k")
    assert (load_services(path), saved_key(path)) == ([made], "k")


def test_damaged_services_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "services.json").write_text('{"services": [{"what": 1}]}')
    with pytest.raises(LocalError, match=r"services\.json"):
        load_services(tmp_path / "services.json")


def test_endpoints_tell_the_executor_where_each_task_runs() -> None:
    made = Service(name="airflow-worker-d-t", revision="1", dag_id="d", task_id="t", file="d.py", timeout=30)
    assert json.loads(endpoints([made], "http://127.0.0.1:8086")) == {
        "services": [
            {
                "dag_id": "d",
                "task_id": "t",
                "name": "airflow-worker-d-t",
                "url": "http://127.0.0.1:8086",
                "host": "airflow-worker-d-t.airflow.local",
                "timeout": 30,
                "slots": 1,
                "max_scale": 10,
                "window": 60.0,
            }
        ]
    }


def test_caches_and_hidden_files_are_no_part_of_workflows(folder: Path) -> None:
    for name in ("__pycache__/a.pyc", ".git/config", "sub/c.py", "sub/data.yaml", "a.py~"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    assert set(relevant_files(folder)) == {"a.py", "b.py", "shared.py", "sub/c.py", "sub/data.yaml"}


@pytest.mark.asyncio
async def test_a_change_is_told_once_it_has_settled(folder: Path) -> None:
    watcher = changes(folder, fingerprint(folder), interval=0.02)
    told = asyncio.ensure_future(anext(watcher))
    await asyncio.sleep(0.1)
    assert not told.done()
    (folder / "new.py").write_text("x")
    await told
    (folder / "new.py").unlink()
    await anext(watcher)
    await watcher.aclose()
