"""`python -m airflow_knative.after_database COMMAND...`: become a command as soon as Airflow's database answers.

Airflow's parts exit where it does not, and kubelet waits longer after each exit: up to 80 s too long once it is back.
A pod's first start follows `airflow_knative.migrations`, which a container that starts anew does not go through.
"""

from __future__ import annotations

import os
import sys

from airflow_knative.migrations import UnknownError, database_url, wait_for

__all__ = ["main"]


def main() -> None:
    """Wait for the database, but not for ever: the command itself then says what is wrong with it."""
    command = sys.argv[1:]
    if not command:
        sys.exit("usage: python -m airflow_knative.after_database COMMAND...")
    try:
        wait_for(database_url(os.environ), {})
    except UnknownError as reason:
        sys.stderr.write(f"Not waiting for the database: {reason}.\n")
        sys.stderr.flush()
    os.execvp(command[0], command)  # noqa: S606 -- the container's own arguments, and no shell is wanted


if __name__ == "__main__":
    main()
