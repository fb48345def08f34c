from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import BENCHMARKS, FOLDER

ORDERS = {"1001": 301.27, "1002": 433.21, "1003": 502.22}
CASES: list[tuple[str, Any, Any]] = [
    ("compute_avg", [1, 2, 3, 4], 2.5),
    ("compute_avg_distributed", [1, 2, 3, 4], 2.5),
    ("etl", ORDERS, {"orders": 3, "total_order_value": 1236.7}),
    ("etl_mapped", ORDERS, {"orders": 3, "total_order_value": 1236.7}),
    ("benchmark_w1_d2", 5, 5),
    ("benchmark_w2_d3", {"value": 5, "padding": 100}, 2 * 6),
]
FAILURES: list[tuple[str, Any]] = [("compute_avg_distributed", [])]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    home = tmp_path_factory.mktemp("airflow")
    workflows = tmp_path_factory.mktemp("workflows")
    for source in (*FOLDER.glob("*.py"), *BENCHMARKS.glob("*.py")):
        shutil.copy(source, workflows)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    environment |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(workflows),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
    }
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("run_all.py")), str(workflows)],
        input=json.dumps([*((dag_id, data) for dag_id, data, _ in CASES), *FAILURES]),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "number", range(len(CASES)), ids=[f"{dag_id}-{number}" for number, (dag_id, *_) in enumerate(CASES)]
)
def test_a_workflow_answers(outcomes: list[dict[str, Any]], number: int) -> None:
    outcome = outcomes[number]
    assert outcome["state"] == "success"
    assert outcome["values"] == [CASES[number][2]]


@pytest.mark.timeout(240)
def test_tasks_push_nothing_but_their_value(outcomes: list[dict[str, Any]]) -> None:
    for (dag_id, *_), outcome in zip(CASES, outcomes, strict=False):
        # etl shows what multiple_outputs is for.
        extra = {"count", "value"} if dag_id == "etl" else set()
        assert set(outcome["keys"]) <= {"return_value", *extra}


@pytest.mark.timeout(240)
def test_bad_input_fails_the_run(outcomes: list[dict[str, Any]]) -> None:
    assert [outcome["state"] for outcome in outcomes[len(CASES) :]] == ["failed"] * len(FAILURES)
