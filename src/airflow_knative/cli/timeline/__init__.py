"""`airflow-knative timeline`: where the time of a run went."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path  # noqa: TC003 -- typer reads the annotations
from typing import Annotated, Final

import typer
from rich.console import Console

from airflow_knative.cli.airflow import AirflowApi
from airflow_knative.cli.connection import AirflowUrlOption, StateOption, UserOption, connect
from airflow_knative.cli.timeline.collect import collect
from airflow_knative.cli.timeline.svg import render
from airflow_knative.cli.timeline.terminal import draw
from airflow_knative.errors import AirflowKnativeError

__all__ = ["timeline"]

_WIDTH: Final = 120


def timeline(
    *,
    dag_id: Annotated[str, typer.Argument(help="The workflow.")],
    run_id: Annotated[str | None, typer.Argument(help="The run; the latest one without it.")] = None,
    svg: Annotated[Path | None, typer.Option(help="Also write the timeline to this file, as SVG.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON instead of drawing.")] = False,
    airflow_url: AirflowUrlOption = None,
    user: UserOption = None,
    state: StateOption = None,
) -> None:
    """Draw where the time of a run went: for each task how long it waited, travelled and ran, cold or warm.

    The moments come from Airflow's task instances and from the line of timings at the end of each task's log.
    """
    with AirflowApi(connect(gateway_url=None, airflow_url=airflow_url, user=user, state=state)) as api:
        run = collect(api, dag_id, run_id)
    if as_json:
        typer.echo(json.dumps(run.as_json(), indent=2))
    else:
        # A pipe or a file has no width of its own.
        draw(run, Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDTH))
    if svg is not None:
        try:
            svg.write_text(render(run), encoding="utf-8")
        except OSError as error:
            raise AirflowKnativeError(f"{svg} cannot be written: {error.strerror}; name another file") from None
        if not as_json:
            typer.echo(f"SVG: {svg}", err=True)
