"""Programs that run once and end: initdb, the migration, the renderer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_knative.local.errors import PartError
from airflow_knative.local.files import tail
from airflow_knative.local.process import OwnedProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

__all__ = ["run_once"]

_ERROR_LINES: Final = 15
_STOP_TIMEOUT: Final = 5.0


async def run_once(
    name: str,
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    log: Path,
    folder: Path,
    setup: Callable[[], None] | None = None,
    allowed: Sequence[int] = (0,),
) -> int:
    """Run a program to its end; end it when this is cancelled.

    Args:
        name: What it is, for messages.
        command: Program and arguments.
        environment: All of its variables.
        log: File that its output is appended to.
        folder: Its working folder.
        setup: What it does between fork and exec.
        allowed: Exit codes that are no error.

    Returns:
        Its exit code.

    Raises:
        PartError: It ended with another exit code.
    """
    process = OwnedProcess.start(command, environment=environment, log=log, folder=folder, setup=setup)
    try:
        code = await process.wait()
    finally:
        if process.is_running:
            await process.stop(within=_STOP_TIMEOUT)
    if code not in allowed:
        last = tail(log, _ERROR_LINES, start=process.log_start)
        raise PartError(f"{name} ended with {code}; its log is {log} and ends with:\n{last}")
    return code
