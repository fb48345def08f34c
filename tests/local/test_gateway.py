"""Workflows as one HTTP call, on a whole instance."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from .workers import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from .stack import Stack

pytestmark = pytest.mark.timeout(300)

ORDERS = {"1001": 301.27, "1002": 433.21, "1003": 502.22}
EXAMPLES: list[tuple[str, Any, Any]] = [
    ("compute_avg", [1, 2, 3, 4], 2.5),
    ("compute_avg_distributed", [1, 2, 3, 4], 2.5),
    ("compute_avg_distributed", [10, -10, 0.5], 0.5 / 3),
    ("etl", ORDERS, None),
    ("etl_mapped", ORDERS, {"orders": 3, "total_order_value": 1236.7}),
    ("benchmark_w1_d3", 5, 6),
    ("benchmark_w4_d3", 5, 24),
]


@pytest.mark.parametrize(("dag_id", "data", "output"), EXAMPLES)
def test_examples(stack: Stack, dag_id: str, data: Any, output: Any) -> None:
    response = stack.run(dag_id, data)
    assert response.status_code == 200, response.text
    if output is not None:
        assert response.json() == {"output": output}
    else:
        assert response.json()["output"]


def test_the_answer_to_the_letter(stack: Stack) -> None:
    assert stack.run("compute_avg_distributed", [1, 2, 3, 4]).text == '{"output":2.5}'


def test_a_failed_run_names_its_tasks_and_why(stack: Stack) -> None:
    response = stack.run("compute_avg_distributed", "no numbers")
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    (failed,) = [task for task in response.json()["failed_tasks"] if task["state"] == "failed"]
    assert (failed["task_id"], failed["tries"]) == ("extract", 1)
    assert "no numbers" in failed["error"]


@pytest.mark.parametrize(
    ("path", "request_", "status"),
    [
        ("compute_avg", {"content": b"{"}, 400),
        ("compute_avg", {"json": {}}, 400),
        ("compute_avg", {"json": {"input": 1, "surplus": 2}}, 400),
        ("compute_avg", {"content": b'{"input":1}', "headers": {"content-type": "text/plain"}}, 415),
        ("compute_avg", {"json": {"input": 1}, "auth": ("admin", "wrong")}, 401),
        ("compute_avg", {"json": {"input": 1}, "auth": ("nobody", "wrong")}, 401),
        ("absent", {"json": {"input": 1}}, 404),
        ("../escape", {"json": {"input": 1}}, 404),
        ("compute_avg", {"json": {"input": "x" * 2_000_000}}, 413),
    ],
)
def test_bad_calls(stack: Stack, path: str, request_: dict[str, Any], status: int) -> None:
    headers = {"content-type": "application/json"} | request_.pop("headers", {})
    response = stack.gateway.post(f"/runWorkflow/{path}", headers=headers, **request_)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status


def test_a_call_without_credentials(stack: Stack) -> None:
    response = httpx.post(stack.gateway.base_url.join("/runWorkflow/compute_avg"), json={"input": 1})
    assert response.status_code == 401
    assert response.headers["www-authenticate"]


def test_an_asynchronous_call(stack: Stack) -> None:
    response = stack.gateway.post(
        "/runWorkflow/compute_avg", json={"input": [2, 4]}, headers={"prefer": "respond-async"}
    )
    assert response.status_code == 202
    location = response.headers["location"]
    answer = eventually(
        lambda: (found := stack.gateway.get(location).json())["state"] in {"success", "failed"} and found, within=90.0
    )
    assert (answer["state"], answer["output"]) == ("success", 3)


def test_the_same_key_runs_once(stack: Stack) -> None:
    headers = {"idempotency-key": "the-same"}
    first, second = (
        stack.gateway.post("/runWorkflow/compute_avg", json={"input": [1, 2]}, headers=headers) for _ in range(2)
    )
    assert (first.text, second.text) == ('{"output":1.5}', '{"output":1.5}')
    assert first.headers["airflow-run-id"] == second.headers["airflow-run-id"]
    other = stack.gateway.post("/runWorkflow/compute_avg", json={"input": [9]}, headers=headers)
    assert other.status_code == 422


def test_a_wait_that_ends_first_names_the_run_and_leaves_it_alone(stack: Stack, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    response = stack.gateway.post("/runWorkflow/talks", json={"input": str(go_on)}, headers={"prefer": "wait=1"})
    assert response.status_code == 504
    run_id = response.json()["run_id"]
    go_on.touch()
    assert stack.wait_for("talks", run_id, "success", "failed") == "success"


def test_the_command_line(stack: Stack) -> None:
    done = stack.command("run", "compute_avg", "--input", "[1, 2, 3, 4]", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == '{"output":2.5}'
    failed = stack.command("run", "compute_avg", "--input", '"text"', "--json")
    assert failed.returncode != 0
    assert json.loads(failed.stdout.splitlines()[-1])["status"] == 422


def test_the_timeline(stack: Stack, tmp_path: Path) -> None:
    stack.run("compute_avg_distributed", [1, 2])
    svg = tmp_path / "timeline.svg"
    drawn = stack.command("timeline", "compute_avg_distributed", "--svg", str(svg))
    assert drawn.returncode == 0, drawn.stderr
    for task_id in ("extract", "compute_count", "compute_sum", "do_avg"):
        assert task_id in drawn.stdout
        assert task_id in svg.read_text()
