"""`airflow-knative keys`: the pair that signs requests to workers."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 -- typer reads the annotations
from typing import Annotated

import typer

from airflow_knative.wire import keys

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Make the key pair that signs requests: the executor holds the private half, workers the public one."""


@app.command()
def generate(
    private: Annotated[Path, typer.Option(help="File for the private key (PEM, mode 0600).")],
    public: Annotated[Path, typer.Option(help="File for the public key (PEM).")],
) -> None:
    """Write a new Ed25519 pair. A file that exists is never overwritten."""
    keys.generate(private, public)
    typer.echo(f"private key: {private}\npublic key: {public}")
