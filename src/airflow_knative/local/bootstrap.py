"""Airflow's database brought up to date, in one process since importing Airflow is what takes the time."""

from __future__ import annotations

import runpy
import sys
from importlib.util import find_spec
from typing import Any, Final

__all__ = ["bootstrap"]

_WAKEUP: Final = "airflow_knative.executor.wakeup"


def migrate() -> None:
    """What `airflow db migrate` does."""
    from airflow.utils import db  # noqa: PLC0415

    db.upgradedb()


def ensure_admin(user: str, password: str) -> None:
    """Make the administrator, or give the existing one this password."""
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder  # noqa: PLC0415

    with get_application_builder() as builder:
        manager: Any = builder.sm
        known = manager.find_user(username=user)
        if known is not None:
            manager.reset_password(known.id, password)
            return
        role = manager.find_role("Admin")
        if not manager.add_user(user, "Local", "Admin", f"{user}@localhost", role, password=password):
            raise SystemExit(f"the administrator {user!r} could not be made")


def install_wakeup() -> None:
    """The trigger that wakes the scheduler when a run is created."""
    if find_spec(_WAKEUP) is None:
        return
    sys.argv = [_WAKEUP, "install"]
    try:
        runpy.run_module(_WAKEUP, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code not in (None, 0):
            raise


def bootstrap(user: str, password: str) -> None:
    """Migrate, make the administrator, install the trigger."""
    migrate()
    ensure_admin(user, password)
    install_wakeup()
