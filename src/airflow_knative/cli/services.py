"""`airflow-knative services`: from DAGs to the Knative Services of their tasks."""

from __future__ import annotations

import sys
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path  # noqa: TC003 -- typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from airflow_knative.errors import AirflowKnativeError
from airflow_knative.services.inspect import load
from airflow_knative.services.model import KNATIVE_MAX_TIMEOUT, ServicesError
from airflow_knative.services.values import endpoints, plain, values

if TYPE_CHECKING:
    from airflow_knative.services.model import ServiceSpec

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)


class Granularity(StrEnum):
    """One service for each task, or for each DAG."""

    TASK = "task"
    DAG = "dag"


class Format(StrEnum):
    """What to write."""

    VALUES = "values"
    ENDPOINTS = "endpoints"
    JSON = "json"


@app.callback()
def _group() -> None:
    """Work out the Knative Services that DAGs need."""


@app.command()
def render(
    *,
    dags: Annotated[Path, typer.Option(help="The dags folder.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; standard output without it.")
    ] = None,
    granularity: Annotated[Granularity, typer.Option(help="One service per task, or per DAG.")] = Granularity.TASK,
    form: Annotated[
        Format, typer.Option("--format", help="Values of the Helm chart, the executor's endpoints file, or plain JSON.")
    ] = Format.VALUES,
    check: Annotated[
        bool,
        typer.Option("--check", help="Write nothing; exit with 1 if the output file is not what would be written."),
    ] = False,
    max_timeout: Annotated[
        int,
        typer.Option(
            min=1, metavar="SECONDS", help="The longest timeout the cluster allows (max-revision-timeout-seconds)."
        ),
    ] = KNATIVE_MAX_TIMEOUT,
    only: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Only DAGs whose id matches; may be repeated.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="No DAGs whose id matches; may be repeated.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="With endpoints: the Host header of service {name}.")
    ] = "{name}.airflow.svc.cluster.local",
    url: Annotated[str, typer.Option(help="With endpoints: where to connect to.")] = "http://{host}",
) -> None:
    """Import the DAGs, check what they say about their services, and write the services down.

    Nothing is written when anything is wrong: files that cannot be imported, DAG ids that occur twice, unknown or bad
    knative keys, two services with one name.
    """
    specs = _chosen(load(dags, granularity.value, max_timeout=max_timeout), only or ["*"], exclude or [])
    if not specs:
        typer.echo(f"Warning: no task in {dags} needs a service", err=True)
    if form is Format.VALUES:
        text = values(specs)
    elif form is Format.ENDPOINTS:
        text = endpoints(specs, host=host, url=url)
    else:
        text = plain(specs)
    if check:
        _compare(output, text, len(specs))
    elif output is None:
        sys.stdout.write(text)
    else:
        _write(output, text)
        typer.echo(f"{len(specs)} services written to {output}", err=True)


def _chosen(specs: list[ServiceSpec], only: list[str], exclude: list[str]) -> list[ServiceSpec]:
    def matches(dag_id: str, patterns: list[str]) -> bool:
        return any(fnmatchcase(dag_id, pattern) for pattern in patterns)

    return [spec for spec in specs if matches(spec.dag_id, only) and not matches(spec.dag_id, exclude)]


def _compare(output: Path | None, text: str, count: int) -> None:
    if output is None:
        typer.echo(f"{count} services, nothing wrong", err=True)
        return
    try:
        current = output.read_text()
    except FileNotFoundError:
        current = None
    if current != text:
        state = "does not exist" if current is None else "is out of date"
        raise ServicesError([f"{output} {state}; write it anew with the same command without --check"])
    typer.echo(f"{output} is up to date", err=True)


def _write(output: Path, text: str) -> None:
    """Replace the file in one step, and not at all when it is the same already."""
    try:
        if output.is_file() and output.read_text() == text:
            return
        draft = output.with_name(f".{output.name}.new")
        draft.write_text(text)
        draft.replace(output)
    except OSError as error:
        raise AirflowKnativeError(f"{output} cannot be written: {error.strerror}; name another file with -o") from None
