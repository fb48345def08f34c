from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_knative.errors import AirflowKnativeError
from airflow_knative.executor.endpoints import FileEndpoints, NoEndpointError, open_endpoints

if TYPE_CHECKING:
    from pathlib import Path


def _write(path: Path, *services: dict[str, Any]) -> None:
    path.with_suffix(".new").write_text(json.dumps({"services": services}))
    path.with_suffix(".new").replace(path)


def _service(name: str, dag_id: str, task_id: str | None) -> dict[str, Any]:
    return {"dag_id": dag_id, "task_id": task_id, "name": name, "url": "http://127.0.0.1:1", "host": f"{name}.local"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "endpoints.json"
    _write(path, _service("one", "d", "t"), _service("whole", "d", None), _service("other", "e", "t"))
    return path


async def test_a_task_has_its_own_service_or_its_dags(path: Path) -> None:
    async with open_endpoints(path.as_uri()) as endpoints:
        assert endpoints.find("d", "t").name == "one"
        assert endpoints.find("d", "u").name == "whole"
        assert endpoints.find("d", "u").host == "whole.local"


def test_a_task_without_a_service_is_named(path: Path) -> None:
    with pytest.raises(NoEndpointError, match="task 'x' of DAG 'e'"):
        FileEndpoints(path).find("e", "x")


def test_what_is_only_looked_up_need_not_be_there(path: Path) -> None:
    endpoints = FileEndpoints(path)
    assert endpoints.known("d", "u") == endpoints.find("d", "u")
    assert endpoints.known("e", "x") is None
    path.unlink()
    assert endpoints.known("d", "t") is None


def test_a_changed_file_is_read_again(path: Path) -> None:
    endpoints = FileEndpoints(path)
    assert endpoints.find("e", "t").name == "other"
    _write(path, _service("new", "e", "t"))
    assert endpoints.find("e", "t").name == "new"
    with pytest.raises(NoEndpointError):
        endpoints.find("d", "t")


@pytest.mark.parametrize("text", ["", "[]", '{"services": [{"dag_id": "d"}]}'])
def test_a_broken_file_is_named(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(NoEndpointError, match=r"endpoints\.json .* cannot be read"):
        FileEndpoints(path).find("d", "t")


@pytest.mark.parametrize(
    "location",
    [
        *("endpoints.json", "http://x/endpoints.json", "file://host/endpoints.json"),
        *("kubernetes", "kubernetes://flows/path", "kubernetes:flows"),
    ],
)
async def test_an_unknown_form_is_refused(location: str) -> None:
    with pytest.raises(AirflowKnativeError, match=r"\[knative\] endpoints is .*; allowed are file:///"):
        async with open_endpoints(location):
            pass
