"""`airflow-knative local`: everything on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.prompt import Confirm

from airflow_knative.local.errors import LocalError, NotRunningError
from airflow_knative.local.instance import Instance
from airflow_knative.local.logs import follow_lines, show_logs
from airflow_knative.local.paths import StatePaths, default_state
from airflow_knative.local.ports import check_free, sequence
from airflow_knative.local.secrets import (
    ADMIN_PASSWORD_VARIABLE,
    ADMIN_USER_VARIABLE,
    DEMO_PASSWORD,
    Secrets,
    check_login,
)
from airflow_knative.local.settings import DEFAULT_EXECUTOR, LocalSettings
from airflow_knative.local.view import show_progress, status_view

__all__ = ["app"]

_STOP_TIMEOUT = 60.0
_UNSERVED = "everything is up, but these workflows cannot be served; they are taken up as soon as they are mended"

app = typer.Typer(no_args_is_help=True, help="Run everything on this machine.", pretty_exceptions_enable=False)

_State = Annotated[
    Path | None,
    typer.Option("--state", help="Folder for all data and logs. [default: $XDG_STATE_HOME/airflow-knative]"),
]


def _instance(state: Path | None) -> Instance:
    return Instance(StatePaths((state or default_state()).expanduser().absolute()))


@app.command()
def up(  # noqa: PLR0917
    workflows: Annotated[Path | None, typer.Option(help="Folder of DAGs. [default: workflows]")] = None,
    state: _State = None,
    granularity: Annotated[
        str | None, typer.Option(help="One service per task, or one per dag. [default: task]", metavar="task|dag")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
    gateway_port: Annotated[int | None, typer.Option(help="Port of the gateway. [default: 8085]")] = None,
    api_port: Annotated[int | None, typer.Option(help="Port of Airflow's UI and API. [default: 8080]")] = None,
    activator_port: Annotated[int | None, typer.Option(help="Port of the activator. [default: 8086]")] = None,
    port_base: Annotated[
        int | None,
        typer.Option(help="Consecutive ports from this one for gateway, API and activator; 0 takes any free ones."),
    ] = None,
    starts_at_once: Annotated[
        int | None, typer.Option(help="Workers that may be starting at the same time. [default: processors + 1]")
    ] = None,
    admin_user: Annotated[
        str | None, typer.Option(envvar=ADMIN_USER_VARIABLE, help="Name of the administrator. [default: admin]")
    ] = None,
    admin_password_file: Annotated[
        Path | None,
        typer.Option(help=f"File with the administrator's password; or set {ADMIN_PASSWORD_VARIABLE}."),
    ] = None,
    executor: Annotated[str | None, typer.Option(hidden=True, envvar="AIRFLOW__CORE__EXECUTOR")] = None,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay until Ctrl-C, then take it down.")] = False,  # noqa: FBT002
) -> None:
    """Start Airflow, the workers' activator and the gateway, and wait until all of it is healthy."""
    instance = _instance(state)
    console = Console()
    asked: dict[str, Any] = {
        "workflows": None if workflows is None else workflows.expanduser().absolute(),
        "granularity": granularity,
        "host": host,
        "gateway_port": gateway_port,
        "api_port": api_port,
        "activator_port": activator_port,
        "executor": executor,
        "starts_at_once": starts_at_once,
    }
    asked = {name: value for name, value in asked.items() if value is not None}
    password = _admin_password(admin_password_file)
    check_login(admin_user, password)
    instance.settle(timeout=_STOP_TIMEOUT)
    now = instance.settings() if instance.is_running else None
    settings = _settings(asked, port_base, now)
    if not settings.workflows.is_dir():
        raise LocalError(f"the workflows folder {settings.workflows} is not a folder; name one with --workflows")
    running = now is not None
    if now is not None:
        changes = {**now.differences(vars(settings)), **_login_changes(instance.paths, admin_user, password)}
        if changes:
            # Whatever can be wrong is found before anything ends.
            check_free(settings, held_by=now)
            for name, (before, then) in changes.items():
                console.print(f"{name} changes from {before} to {then}", highlight=False, markup=False)
            console.print("Restarting with the changed options.")
            instance.stop(timeout=_STOP_TIMEOUT)
            running = False
    if running:
        restarted = instance.hurry()
        console.print(f"Restarting {', '.join(restarted)}." if restarted else "Already up.")
    else:
        instance.start(settings, user=admin_user, password=password, attached=foreground)
    problem = None if _follow_start(instance, console, started=not running) else _UNSERVED
    if foreground:
        _stay(instance, console, problem)
    elif problem is not None:
        raise LocalError(problem)


@app.command()
def status(
    state: _State = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,  # noqa: FBT002
) -> None:
    """Show each part and each service's workers. Exit code 3 if nothing runs, 1 if a part is not healthy."""
    instance = _instance(state)
    try:
        answer = instance.status()
    except NotRunningError as error:
        if as_json:
            typer.echo(json.dumps({"state": "down"}))
        else:
            typer.echo(f"{error}", err=True)
        raise typer.Exit(3) from None
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        Console().print(status_view(answer))
    if not all(part["healthy"] for part in answer["parts"]):
        raise typer.Exit(1)


@app.command()
def down(
    state: _State = None,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds until what does not end by itself is killed.")] = 60.0,
    purge: Annotated[bool, typer.Option("--purge", help="Remove the state folder: all runs, all logs.")] = False,  # noqa: FBT002
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,  # noqa: FBT002
) -> None:
    """Stop everything that `up` started."""
    instance = _instance(state)
    root = instance.paths.root
    if purge and root.exists() and not yes:
        if not sys.stdin.isatty():
            raise LocalError(f"--purge removes {root}; say --yes where nobody can be asked")
        if not Confirm.ask(f"Remove {escape(str(root))} with all runs and logs?", default=False):
            raise typer.Exit(1)
    typer.echo("Down." if instance.stop(timeout=timeout) else f"Nothing runs in {root}.")
    if purge:
        instance.purge()
        typer.echo(f"Removed {root}.")


@app.command()
def logs(
    part: Annotated[
        str | None, typer.Argument(help="A part, or a service for its newest worker. [default: all parts]")
    ] = None,
    state: _State = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines.")] = False,  # noqa: FBT002
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Lines to begin with.")] = 20,
) -> None:
    """Print the logs of the parts."""
    with contextlib.suppress(KeyboardInterrupt):
        show_logs(_instance(state).paths, part, lines=lines, follow=follow)


def _admin_password(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(ADMIN_PASSWORD_VARIABLE)
    try:
        return file.read_text().rstrip("\n")
    except OSError as error:
        raise LocalError(f"--admin-password-file {file} cannot be read: {error.strerror}") from None


def _settings(asked: dict[str, Any], port_base: int | None, now: LocalSettings | None) -> LocalSettings:
    """Complete what is asked by what it runs with now, or by the defaults."""
    if now is not None:
        # 0 is content with the ports that it has.
        return now.with_changes({**(sequence(port_base, now.host) if port_base else {}), **asked})
    ports = {} if port_base is None else sequence(port_base, asked.get("host", "127.0.0.1"))
    return LocalSettings(**{"workflows": Path("workflows").absolute(), "executor": DEFAULT_EXECUTOR, **ports, **asked})


def _login_changes(paths: StatePaths, user: str | None, password: str | None) -> dict[str, tuple[str, str]]:
    known = Secrets.load(paths)
    changes = {}
    if user is not None and user != known.admin_user:
        changes["admin_user"] = (known.admin_user, user)
    if password is not None and password != known.admin_password:
        changes["admin_password"] = ("the old one", "the new one")
    return changes


def _follow_start(instance: Instance, console: Console, *, started: bool) -> bool:
    """Show the start until everything is up; say whether all workflows can be served."""
    try:
        outcome = show_progress(console, instance.progress(), quiet=not started)
    except KeyboardInterrupt:
        if started:
            console.print("Interrupted; taking it down again.")
            instance.stop(timeout=_STOP_TIMEOUT)
        raise typer.Exit(130) from None
    if outcome is None or not outcome["ok"]:
        instance.stop(timeout=_STOP_TIMEOUT)
        reason = outcome["error"] if outcome else f"the supervisor ended; its log is {instance.paths.log('supervisor')}"
        raise LocalError(f"not up: {reason}")
    if started:
        console.print(f"Up after {outcome['seconds']:.1f} s.", highlight=False)
    _print_urls(instance, console)
    problems = instance.status()["problems"]
    for problem in problems:
        console.print(problem, style="red", markup=False, highlight=False)
    return not problems


def _print_urls(instance: Instance, console: Console) -> None:
    settings = instance.settings()
    secrets = Secrets.load(instance.paths)
    is_demo = secrets.admin_password == DEMO_PASSWORD
    login = f"{secrets.admin_user}:{DEMO_PASSWORD}" if is_demo else f"{secrets.admin_user}:$PASSWORD"
    console.print(f"Gateway     {settings.gateway_url}   (docs: {settings.gateway_url}/docs)", highlight=False)
    console.print(f"Airflow UI  {settings.api_url}", highlight=False)
    if is_demo:
        console.print(
            f"Login       {secrets.admin_user} / {DEMO_PASSWORD}: a well-known demo password; "
            f"set {ADMIN_PASSWORD_VARIABLE} for another",
            style="bold yellow",
            highlight=False,
        )
    console.print(
        f"Try         curl -u {login} {settings.gateway_url}/runWorkflow/compute_avg_distributed "
        "--json '{\"input\": [1, 2, 3, 4]}'",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _stay(instance: Instance, console: Console, problem: str | None) -> None:
    """Show the supervisor's log until a signal comes or the instance ends, then take it down."""
    if problem is not None:
        console.print(problem, style="red", highlight=False)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    console.print("Ctrl-C takes it down.")
    for line in follow_lines(instance.paths.log("supervisor"), lines=0):
        if line is not None:
            console.print(line, highlight=False, markup=False)
        if ended.is_set() or not instance.is_running:
            break
    instance.stop(timeout=_STOP_TIMEOUT)
