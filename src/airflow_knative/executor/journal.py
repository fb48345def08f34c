"""The replay of a worker's writes: which are allowed to whom, and how they take effect."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args
from uuid import UUID

from airflow.api_fastapi.execution_api.datamodels.taskinstance import (
    TISkippedDownstreamTasksStatePayload,
    TIStateUpdate,
    ti_state_discriminator,
)
from airflow.api_fastapi.execution_api.routes import task_instances, xcoms
from fastapi import HTTPException
from pydantic import Discriminator, TypeAdapter, ValidationError
from sqlalchemy.exc import DataError

from airflow_knative.errors import AirflowKnativeError

if TYPE_CHECKING:
    from airflow.models.dagbag import DBDagBag
    from sqlalchemy.orm import Session

    from airflow_knative.wire import Write

__all__ = ["ForeignWriteError", "Owner", "WriteRefusedError", "apply_write", "check_write"]

# Airflow tells the payloads apart by a function, which pydantic takes only as a `Discriminator`.
# Airflow tells the payloads apart by a function, which pydantic takes only as a `Discriminator`.
_StatePayload: Any = Annotated[get_args(TIStateUpdate)[0], Discriminator(ti_state_discriminator)]
_STATE: Final = TypeAdapter[Any](_StatePayload)
_XCOM: Final = re.compile(r"/xcoms/([^/]+)/([^/]+)/([^/]+)/(.+)")
_OWN: Final = {"state": "PATCH", "rtif": "PUT", "skip-downstream": "PATCH", "rendered-map-index": "PATCH"}
_XCOM_QUERY: Final = {"POST": {"map_index", "dag_result", "mapped_length"}, "DELETE": {"map_index"}}


class ForeignWriteError(AirflowKnativeError):
    """A worker wrote what is not its task instance's to write."""


class WriteRefusedError(AirflowKnativeError):
    """The Execution API refuses a write."""


@dataclass(frozen=True)
class Owner:
    """The task instance whose worker is writing."""

    ti_id: UUID
    dag_id: str
    run_id: str
    task_id: str
    map_index: int

    @classmethod
    def of(cls, ti: dict[str, Any]) -> Owner:
        """Return the owner of a task instance's writes, from its JSON."""
        map_index = ti.get("map_index")
        return cls(
            ti_id=UUID(str(ti["id"])),
            dag_id=str(ti["dag_id"]),
            run_id=str(ti["run_id"]),
            task_id=str(ti["task_id"]),
            map_index=-1 if map_index is None else int(map_index),
        )

    def __str__(self) -> str:
        """Name it for a message."""
        mapped = f"[{self.map_index}]" if self.map_index >= 0 else ""
        return f"task {self.task_id!r}{mapped} of DAG {self.dag_id!r}, run {self.run_id!r}"


def check_write(owner: Owner, write: Write) -> None:
    """Let a write pass only if it is on the owner's own task instance, or on its own XComs.

    Raises:
        ForeignWriteError: it is not.
    """
    own = f"/task-instances/{owner.ti_id}/"
    if write.path.startswith(own):
        allowed = _OWN.get(write.path.removeprefix(own)) == write.method and not write.query
    elif match := _XCOM.fullmatch(write.path):
        allowed = (
            match.groups()[:3] == (owner.dag_id, owner.run_id, owner.task_id)
            and write.query.keys() <= _XCOM_QUERY.get(write.method, set())
            and write.query.get("map_index", "-1") == str(owner.map_index)
            and write.method in _XCOM_QUERY
        )
    else:
        allowed = False
    if not allowed:
        raise ForeignWriteError(
            f"The worker sent the write {write.method} {write.path} {write.query or ''}, which does not belong to "
            f"{owner}. It was refused, and so is everything after it."
        )


def apply_write(session: Session, dag_bag: DBDagBag, owner: Owner, write: Write) -> bool:
    """Replay a write that `check_write` let pass; True if it settled the task instance's state.

    Raises:
        WriteRefusedError: the Execution API refuses it.
    """
    try:
        if match := _XCOM.fullmatch(write.path):
            _apply_xcom(session, owner, match[4], write)
            session.flush()
            return False
        what = write.path.rsplit("/", 1)[1]
        if what == "rtif":
            task_instances.ti_put_rtif(owner.ti_id, write.body, session)
        elif what == "rendered-map-index":
            task_instances.ti_patch_rendered_map_index(owner.ti_id, write.body, session)
        elif what == "skip-downstream":
            payload = TISkippedDownstreamTasksStatePayload.model_validate(write.body)
            task_instances.ti_skip_downstream(owner.ti_id, payload, session)
        else:
            task_instances.ti_update_state(owner.ti_id, _STATE.validate_python(write.body), session, dag_bag)
    except HTTPException as error:
        raise WriteRefusedError(
            f"Airflow refuses the write {write.method} {write.path} with {error.status_code}: {_reason(error)}"
        ) from error
    except (ValidationError, TypeError, DataError) as error:
        raise WriteRefusedError(f"Airflow refuses the write {write.method} {write.path}: {error}") from error
    return what == "state"


def _apply_xcom(session: Session, owner: Owner, key: str, write: Write) -> None:
    ids: dict[str, Any] = {
        "dag_id": owner.dag_id,
        "run_id": owner.run_id,
        "task_id": owner.task_id,
        "key": key,
        "session": session,
    }
    if write.method == "DELETE":
        xcoms.delete_xcom(**ids, map_index=owner.map_index)
        return
    length = write.query.get("mapped_length")
    xcoms.set_xcom(
        **ids,
        value=write.body,
        map_index=owner.map_index,
        dag_result=write.query.get("dag_result", "false").lower() == "true",
        mapped_length=None if length is None else int(length),
    )


def _reason(error: HTTPException) -> str:
    detail = error.detail
    return str(detail.get("message", detail)) if isinstance(detail, dict) else str(detail)
