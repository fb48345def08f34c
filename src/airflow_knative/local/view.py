"""How the command line shows an instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["duration", "show_progress", "status_view"]


def duration(seconds: float | None) -> str:
    """Seconds in the largest two units: `3m 20s`."""
    if seconds is None:
        return ""
    whole = int(seconds)
    for size, unit, small, below in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // small}{below}"
    return f"{whole}s"


def show_progress(console: Console, snapshots: Iterator[dict[str, Any]], *, quiet: bool) -> dict[str, Any] | None:
    """Show the start as it goes on; returns how it ended, None if the supervisor vanished."""
    outcome: dict[str, Any] | None = None
    spinners: dict[str, Spinner] = {}
    printed: set[str] = set()
    if quiet:
        for snapshot in snapshots:
            outcome = snapshot["outcome"]
        return outcome
    if not console.is_terminal:
        for snapshot in snapshots:
            outcome = snapshot["outcome"]
            for step in snapshot["steps"]:
                if step["state"] in {"done", "failed"} and step["name"] not in printed:
                    printed.add(step["name"])
                    console.print(f"{step['name']}: {step['state']} after {step['seconds']:.1f} s", highlight=False)
        return outcome
    with Live(console=console, refresh_per_second=12, transient=False) as live:
        for snapshot in snapshots:
            outcome = snapshot["outcome"]
            live.update(_steps(snapshot["steps"], spinners))
    return outcome


def _steps(steps: list[dict[str, Any]], spinners: dict[str, Spinner]) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    for step in steps:
        name = step["name"]
        if step["state"] == "busy":
            table.add_row(spinners.setdefault(name, Spinner("dots", style="cyan")), name, "")
        elif step["state"] == "done":
            table.add_row(Text("✓", style="green"), name, Text(f"{step['seconds']:.1f} s", style="dim"))
        else:
            table.add_row(Text("✗", style="red"), name, Text(step["state"], style="red"))
    return table


def status_view(status: dict[str, Any]) -> RenderableType:
    """The tables of `local status`."""
    parts = Table(title=f"airflow-knative is {status['state']} ({duration(status['uptime'])})", title_justify="left")
    for column in ("part", "state", "health"):
        parts.add_column(column)
    for column in ("pid", "port", "uptime", "restarts"):
        parts.add_column(column, justify="right")
    for part in status["parts"]:
        health = Text("healthy", style="green") if part["healthy"] else Text("not healthy", style="red")
        restarts = part.get("restarts") or 0
        parts.add_row(
            part["part"],
            part["state"],
            health,
            str(part.get("pid") or ""),
            str(part.get("port") or ""),
            duration(part.get("uptime")),
            Text(str(restarts), style="yellow" if restarts else ""),
        )
    views: list[RenderableType] = [parts]
    if status["services"]:
        views.append(_services(status["services"]))
    views.extend(Text(f"workflows: {problem}", style="red") for problem in status["problems"])
    views.append(Text(f"gateway {status['urls']['gateway']}   UI {status['urls']['ui']}", style="dim"))
    return Group(*views)


def _services(services: list[dict[str, Any]]) -> Table:
    """Services that have workers or waiting requests or have failed; the others only as a number."""
    busy = [service for service in services if service["workers"] or service["waiting"] or service["failure"]]
    table = Table(
        title=f"{len(services)} services, {len(services) - len(busy)} at zero", title_justify="left", show_edge=True
    )
    for column in ("service", "warm", "starting", "running", "waiting"):
        table.add_column(column, justify="left" if column == "service" else "right")
    table.add_column("note")
    for service in busy:
        states = [worker["state"] for worker in service["workers"]]
        table.add_row(
            service["service"],
            f"{states.count('ready')}/{service['max_scale']}",
            str(states.count("starting") + states.count("queued")),
            str(sum(worker["in_use"] for worker in service["workers"])),
            str(service["waiting"]),
            Text(service["failure"] or "", style="red"),
        )
    return table
