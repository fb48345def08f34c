from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from airflow_knative.executor.journal import ForeignWriteError, Owner, check_write
from airflow_knative.wire import Write

TI = UUID("01a2032d-f1ad-75ae-8c56-e25e404fe0f7")
OWNER = Owner(ti_id=TI, dag_id="d", run_id="r", task_id="t", map_index=-1)
MAPPED = Owner(ti_id=TI, dag_id="d", run_id="r", task_id="t", map_index=3)


def _write(method: Any, path: str, **query: str) -> Write:
    return Write(seq=0, method=method, path=path, query=query)


@pytest.mark.parametrize(
    ("owner", "write"),
    [
        (OWNER, _write("PATCH", f"/task-instances/{TI}/state")),
        (OWNER, _write("PUT", f"/task-instances/{TI}/rtif")),
        (OWNER, _write("PATCH", f"/task-instances/{TI}/skip-downstream")),
        (OWNER, _write("PATCH", f"/task-instances/{TI}/rendered-map-index")),
        (OWNER, _write("POST", "/xcoms/d/r/t/return_value", dag_result="true", mapped_length="3")),
        (OWNER, _write("POST", "/xcoms/d/r/t/a key/with slashes")),
        # Not a path, but a key of the own XCom, whatever it looks like.
        (OWNER, _write("POST", "/xcoms/d/r/t/k/../../x/y")),
        (OWNER, _write("DELETE", "/xcoms/d/r/t/return_value")),
        (MAPPED, _write("POST", "/xcoms/d/r/t/return_value", map_index="3")),
        (MAPPED, _write("DELETE", "/xcoms/d/r/t/return_value", map_index="3")),
    ],
)
def test_a_task_instances_own_writes_pass(owner: Owner, write: Write) -> None:
    check_write(owner, write)


@pytest.mark.parametrize(
    ("owner", "write"),
    [
        (OWNER, _write("PATCH", "/task-instances/01a2032d-f1ad-75ae-8c56-ffffffffffff/state")),
        (OWNER, _write("PATCH", f"/task-instances/{TI}/run")),
        (OWNER, _write("PUT", f"/task-instances/{TI}/state")),
        (OWNER, _write("PUT", f"/task-instances/{TI}/heartbeat")),
        (OWNER, _write("PATCH", f"/task-instances/{TI}/state", surplus="1")),
        (OWNER, _write("PATCH", f"/task-instances/{TI}/../other/state")),
        (OWNER, _write("POST", "/xcoms/other/r/t/return_value")),
        (OWNER, _write("POST", "/xcoms/d/other/t/return_value")),
        (OWNER, _write("POST", "/xcoms/d/r/other/return_value")),
        (OWNER, _write("POST", "/xcoms/d/r/t/return_value", map_index="3")),
        (OWNER, _write("POST", "/xcoms/d/r/t/return_value", surplus="1")),
        (OWNER, _write("PUT", "/xcoms/d/r/t/return_value")),
        (OWNER, _write("POST", "/xcoms/d/r/t/")),
        (MAPPED, _write("POST", "/xcoms/d/r/t/return_value")),
        (MAPPED, _write("POST", "/xcoms/d/r/t/return_value", map_index="4")),
        (OWNER, _write("PUT", "/variables/v")),
        (OWNER, _write("POST", "/dag-runs/d/r2")),
        (OWNER, _write("DELETE", "/")),
    ],
)
def test_everybody_elses_writes_are_refused(owner: Owner, write: Write) -> None:
    with pytest.raises(ForeignWriteError, match="does not belong to task 't'"):
        check_write(owner, write)


@pytest.mark.parametrize("map_index", [-1, 0, 7, None])
def test_the_owner_is_read_from_the_task_instance(map_index: int | None) -> None:
    ti = {"id": str(TI), "dag_id": "d", "run_id": "r", "task_id": "t", "map_index": map_index}
    assert Owner.of(ti).map_index == (-1 if map_index is None else map_index)
