"""`airflow-knative wakeup`: PostgreSQL tells the scheduler of new runs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Let PostgreSQL wake the scheduler when a run is made. The database is that of Airflow's own settings."""


@app.command()
def install() -> None:
    """Add the triggers to Airflow's database; those that are there already are replaced."""
    _module().install()
    typer.echo("installed")


@app.command()
def remove() -> None:
    """Take the triggers out of Airflow's database."""
    _module().remove()
    typer.echo("removed")


@app.command()
def status() -> None:
    """Say whether the triggers are there; exit with 1 if they are not."""
    installed = _module().status()
    typer.echo("installed" if installed else "not installed")
    if not installed:
        raise typer.Exit(1)


def _module() -> ModuleType:
    """Import what does it, and Airflow with it."""
    return importlib.import_module("airflow_knative.executor.wakeup")
