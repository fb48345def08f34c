"""The `airflow-knative` command."""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit: 0 when all went well, 1 on an error, 2 on wrong usage."""
    from airflow_knative.cli.app import app  # noqa: PLC0415 -- importing the package alone stays cheap
    from airflow_knative.errors import AirflowKnativeError  # noqa: PLC0415

    try:
        app()
    except AirflowKnativeError as error:
        sys.stderr.write(f"Error: {error}\n")
        sys.exit(1)
    except BrokenPipeError:
        # Whoever read our output (head, less) went away, and Python would complain again on flushing at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
