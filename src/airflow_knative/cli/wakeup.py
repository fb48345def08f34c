"""`airflow-knative wakeup`: PostgreSQL tells the scheduler of new runs."""

from __future__ import annotations

import typer

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Let PostgreSQL wake the scheduler when a run is made. The database is that of Airflow's own settings."""


@app.command()
def install() -> None:
    """Add the trigger to Airflow's database; one that is there already is kept."""
    from airflow_knative.executor import wakeup  # noqa: PLC0415 -- imports Airflow

    wakeup.install()


@app.command()
def remove() -> None:
    """Take the trigger out of Airflow's database."""
    from airflow_knative.executor import wakeup  # noqa: PLC0415

    wakeup.remove()


@app.command()
def status() -> None:
    """Say whether the trigger is there; exit with 1 if it is not."""
    from airflow_knative.executor import wakeup  # noqa: PLC0415

    if not wakeup.status():
        raise typer.Exit(1)
