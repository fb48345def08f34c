"""Starting the programs that build things."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING

from airflow_knative.mirror.errors import MirrorError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["run"]

_LAST_LINES = 15


def run(
    command: Sequence[str],
    log: Path,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    mend: str = "",
) -> str:
    """Run a program at the lowest priority and return what it printed on standard output.

    Everything it prints goes to ``log`` too.

    Raises:
        MirrorError: it is not installed, or it failed; the message has the last lines it printed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        file.write(f"$ {shlex.join(command)}\n".encode())
        file.flush()
        try:
            done = subprocess.run(
                ["nice", "-n", "19", *command],
                cwd=cwd,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=file,
                check=False,
            )
        except OSError as error:
            raise MirrorError(f"cannot run {command[0]}: {error}. {mend}".rstrip()) from error
        file.write(done.stdout)
    if done.returncode:
        lines = log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
        shown = "\n  ".join(lines)
        raise MirrorError(f"{command[0]} ended with {done.returncode}. {mend}\n  {shown}\n  (all of it: {log})")
    return done.stdout.decode(errors="replace")
