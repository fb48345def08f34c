"""The root of the command line."""

from __future__ import annotations

from typing import Annotated, ClassVar

import typer

from airflow_knative import __version__
from airflow_knative.cli.lazy import LazyCommand, LazyGroup

__all__ = ["app"]


class _Root(LazyGroup):
    lazy: ClassVar[dict[str, LazyCommand]] = {
        "run": LazyCommand("airflow_knative.cli.run:run", "Run a workflow and wait for its result.", "gateway"),
        "timeline": LazyCommand(
            "airflow_knative.cli.timeline:timeline", "Draw where the time of a run went.", "gateway"
        ),
        "services": LazyCommand(
            "airflow_knative.cli.services:app", "Work out the Knative Services that DAGs need.", "worker"
        ),
        "local": LazyCommand("airflow_knative.cli.local:app", "Run everything on this machine.", "local"),
        "keys": LazyCommand("airflow_knative.cli.keys:app", "Make the key pair that signs requests.", "executor"),
        "wakeup": LazyCommand(
            "airflow_knative.cli.wakeup:app", "Let PostgreSQL wake the scheduler when a run is made.", "executor"
        ),
        "mirror": LazyCommand(
            "airflow_knative.mirror.cli:app", "Make a mirror of everything a cluster needs.", "mirror"
        ),
    }


app = typer.Typer(
    cls=_Root,
    no_args_is_help=True,
    # Tracebacks of typer's own kind can show the values of variables, passwords among them.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(value: bool) -> None:  # noqa: FBT001 -- typer's way of calling
    if value:
        typer.echo(f"airflow-knative {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Run Airflow workflows whose tasks live in Knative Services."""
