"""The commands ``airflow-knative mirror ...``."""

from __future__ import annotations

import contextlib
import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from airflow_knative.mirror import manifest, pins
from airflow_knative.mirror.build import Builder
from airflow_knative.mirror.download import UPSTREAM, Downloads
from airflow_knative.mirror.errors import MirrorError
from airflow_knative.mirror.fill import Summary, fill, locked
from airflow_knative.mirror.serve import server

__all__ = ["app", "default_cache"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Fill, check and serve a folder with everything that a cluster needs.",
)


class _Source(StrEnum):
    download = "download"
    build = "build"
    auto = "auto"


class _Set(StrEnum):
    default = "default"
    upgrade = "upgrade"
    test = "test"


def default_cache() -> Path:
    """Where downloads and builds are kept: ``$AIRFLOW_KNATIVE_CACHE``, or the user's cache folder."""
    if own := os.environ.get("AIRFLOW_KNATIVE_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "airflow-knative"


_Root = Annotated[
    Path, typer.Option("--root", help="The repository, with mirror/pins.yaml in it.", envvar="AIRFLOW_KNATIVE_ROOT")
]
_Out = Annotated[Path, typer.Option("--out", "-o", help="The mirror's folder.", envvar="AIRFLOW_KNATIVE_MIRROR")]
_ROOT = Path()
_OUT = Path("dist/mirror")


@app.command()
def build(  # noqa: PLR0917 # each is an option of the command line
    names: Annotated[list[str] | None, typer.Argument(help="Only these pins (and what they need).")] = None,
    root: _Root = _ROOT,
    out: _Out = _OUT,
    source: Annotated[_Source, typer.Option(help="From upstream, from source, or upstream first.")] = _Source.auto,
    sets: Annotated[list[_Set] | None, typer.Option("--set", help="Which sets of pins (repeatable).")] = None,
    cache: Annotated[Path | None, typer.Option(help="Where downloads and builds are kept.")] = None,
    jobs: Annotated[int, typer.Option(help="How many pins are made at once.", min=1, max=16)] = 2,
    upstream: Annotated[str, typer.Option(help="What stands before each upstream path.")] = UPSTREAM,
) -> None:
    """Make what is missing or has changed; a second run does nothing."""
    console = Console(stderr=True, highlight=False, emoji=False)
    every = pins.load(root / "mirror" / "pins.yaml")
    chosen = every.select([chosen.value for chosen in sets or [_Set.default]], names or [])
    if source is not _Source.build:
        # What only other pins need is made when a pin turns out not to be downloadable.
        chosen = [pin for pin in chosen if pin.files or pin.images or pin.set == "test"]
    if not chosen:
        raise MirrorError("no pin is in these sets; choose others with --set")
    folder = (cache or default_cache()).resolve()
    downloads = Downloads(folder / "partial", upstream)
    finished = 0

    def report(pin: str, what: str, detail: str) -> None:
        nonlocal finished
        finished += what != "start"
        sign, colour = {"start": ("…", "dim"), "made": ("✔", "green"), "cached": ("✔", "dim"), "failed": ("✘", "red")}[
            what
        ]
        version = every.pins[pin].version
        shown = escape(detail.partition("\n")[0])
        console.print(f"[{colour}]{sign} {finished:2}/{len(chosen)} {pin} {version} {what}[/] {shown}")

    with locked(folder, lambda: console.print(f"another run fills {folder}; waiting for it", markup=False)):
        builder = Builder(every, root.resolve(), folder)
        try:
            done = fill(builder, every, chosen, out, source=source.value, downloads=downloads, jobs=jobs, report=report)
        finally:
            downloads.close()
    _print_summary(console, done, out)
    if done.failed:
        raise typer.Exit(1)


def _print_summary(console: Console, done: Summary, out: Path) -> None:
    table = Table(show_header=False, box=None)
    table.add_row("made", f"{len(done.made) - len(done.cached)} pins, {len(done.cached)} more from the cache")
    table.add_row("copied", f"{done.copied} files to {out}")
    table.add_row("in all", f"{done.size / 1e6:.0f} MB")
    table.add_row("time", f"{done.seconds:.1f} s, {done.cpu_seconds:.0f} s of processor time")
    console.print(table)
    for name, reason in done.failed.items():
        console.print(f"[red]✘ {name}[/]", end=" ")
        console.print(reason, markup=False)


@app.command()
def verify(out: _Out = _OUT) -> None:
    """Compare every byte of a mirror with its manifest."""
    console = Console(stderr=True, highlight=False, emoji=False)
    problems = manifest.verify(out)
    for problem in problems:
        console.print(f"{problem.what}: {problem.path} {problem.detail}".rstrip(), markup=False, soft_wrap=True)
    if problems:
        console.print(f"✘ {len(problems)} of the mirror's files are wrong; delete them and run `mirror build` again")
        raise typer.Exit(1)
    console.print(f"✔ {len(manifest.read(out).files)} files are as the manifest says")


@app.command()
def serve(
    out: _Out = _OUT,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="TCP port.", min=0, max=65535)] = 8780,
) -> None:
    """Serve a mirror: one address is the base URL of the roles and a read-only registry."""
    try:
        made = server(out, host, port)
    except OSError as error:
        raise MirrorError(f"cannot listen on {host}:{port}: {error}; choose another with --host and --port") from error
    shown, number = made.server_address[:2]
    typer.echo(f"serving {out} on http://{shown!s}:{number}")
    with contextlib.suppress(KeyboardInterrupt):
        made.serve_forever()


@app.command("list")
def list_pins(
    *,
    root: _Root = _ROOT,
    markdown: Annotated[bool, typer.Option("--markdown", help="The README's table of versions.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Pins with their paths and images, as JSON.")] = False,
) -> None:
    """List the pins: name, version, project."""
    every = pins.load(root / "mirror" / "pins.yaml")
    if as_json:
        typer.echo(json.dumps({name: pin.model_dump(mode="json") for name, pin in every.pins.items()}, indent=1))
    elif markdown:
        typer.echo(table_of_versions(every), nl=False)
    else:
        table = Table("pin", "version", "set", "source of a build", "what it is", box=None)
        for pin in every.pins.values():
            table.add_row(pin.name, pin.version, pin.set, pin.build.kind, pin.title)
        Console(highlight=False).print(table)


def table_of_versions(every: pins.Pins) -> str:
    """The README's table: what is installed by default, in which version."""
    lines = ["| What | Version |", "|---|---|"]
    lines += [
        f"| [{pin.title}]({pin.project}) | {pin.version} |"
        for pin in every.pins.values()
        if pin.set == "default" and (pin.files or pin.images)
    ]
    return "\n".join(lines) + "\n"
