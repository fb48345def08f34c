"""`airflow-knative run`: one run of a workflow through the gateway."""

from __future__ import annotations

import contextlib
import json
import queue
import sys
import threading
import time
import uuid
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from airflow_knative.cli.airflow import AirflowApi
from airflow_knative.cli.connection import (
    AirflowUrlOption,
    Connection,
    GatewayUrlOption,
    StateOption,
    UserOption,
    connect,
)
from airflow_knative.cli.gateway import Answer, Gateway, GatewayUnreachableError
from airflow_knative.cli.progress import Progress

__all__ = ["run"]

_FIRST_LOOK: Final = 0.5
"""Seconds until the tasks are looked at for the first time: a short run is over by then and is not slowed by it."""
_LONGEST_PAUSE: Final = 2.0
_PAUSES_AFTER_A_BREAK: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
_LASTING: Final = 10.0
"""Seconds of waiting at a gateway after which its end counts as the first absence again."""


def run(
    *,
    dag_id: Annotated[str, typer.Argument(help="The workflow.")],
    raw_input: Annotated[
        str,
        typer.Option("--input", metavar="JSON|@FILE|-", help="The input: JSON, a file of it, or - for standard input."),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the gateway's whole answer, error answers too, as the last line.")
    ] = False,
    idempotency_key: Annotated[
        str | None, typer.Option(help="A second run with the same key and input is the same run.")
    ] = None,
    timeout: Annotated[
        int | None, typer.Option(min=1, metavar="SECONDS", help="Stop waiting after so long; the run goes on.")
    ] = None,
    gateway_url: GatewayUrlOption = None,
    airflow_url: AirflowUrlOption = None,
    user: UserOption = None,
    state: StateOption = None,
) -> None:
    """Run a workflow, show what its tasks are doing, and print its output.

    Exits with 0 if the run succeeded, else with 1.
    """
    body = _body(raw_input)
    connection = connect(gateway_url=gateway_url, airflow_url=airflow_url, user=user, state=state)
    key = idempotency_key or f"cli-{uuid.uuid4()}"
    console = Console(stderr=True)
    began = time.monotonic()
    deadline = None if timeout is None else began + timeout
    try:
        answer = _execute(
            connection, dag_id=dag_id, body=body, key=key, console=console, deadline=deadline, quiet=as_json
        )
    except GatewayUnreachableError as error:
        if not as_json:
            raise
        document = {"type": "about:blank", "title": "The gateway cannot be reached", "detail": str(error)}
        typer.echo(json.dumps(document, separators=(",", ":")))
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(answer.text.rstrip("\n"))
    else:
        _report(answer, console, time.monotonic() - began)
    if not answer.ok:
        raise typer.Exit(1)


def _body(raw: str) -> str:
    """Make the request's body of the input, which goes to the gateway as it was written."""
    try:
        if raw == "-":
            text, source = sys.stdin.read(), "standard input"
        elif raw.startswith("@"):
            text, source = Path(raw[1:]).read_text(encoding="utf-8"), raw[1:]
        else:
            text, source = raw, "the text"
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{raw[1:]} cannot be read: {error}", param_hint="--input") from None
    try:
        json.loads(text)
    except ValueError as error:
        hint = (
            "; text needs quotes of its own: --input '\"some text\"'"
            if source == "the text" and text[:1].isalpha()
            else ""
        )
        raise typer.BadParameter(f"{source} is no JSON: {error}{hint}", param_hint="--input") from None
    return f'{{"input":{text}}}'


def _execute(
    connection: Connection, *, dag_id: str, body: str, key: str, console: Console, deadline: float | None, quiet: bool
) -> Answer:
    """Run the workflow to its end, or to the deadline."""
    with contextlib.ExitStack() as stack:
        gateway = stack.enter_context(Gateway(connection))
        if quiet and not console.is_terminal:
            return _finish(gateway, dag_id, body, key, deadline, started=False)
        started = gateway.start(dag_id, body, key)
        run_id = started.run_id
        if started.status != HTTPStatus.ACCEPTED or run_id is None:
            return started
        if not quiet:
            console.print(f"run {run_id}", style="dim", highlight=False, soft_wrap=True)
        answers: queue.SimpleQueue[Answer | BaseException] = queue.SimpleQueue()

        def finish() -> None:
            try:
                answers.put(_finish(gateway, dag_id, body, key, deadline, started=True))
            except BaseException as error:  # noqa: BLE001 -- raised again in the main thread
                answers.put(error)

        # The end of the run is waited for, not polled for, so that looking at tasks now and then costs it nothing. A
        # daemon, so that Ctrl-C ends the command.
        threading.Thread(target=finish, name="wait-for-run", daemon=True).start()
        api = None if connection.airflow_url is None else stack.enter_context(AirflowApi(connection))
        progress = Progress(console, dag_id, api, lambda: gateway.state(dag_id, run_id), quiet=quiet)
        stack.callback(progress.close)
        return _watch(answers, progress, run_id)


def _watch(answers: queue.SimpleQueue[Answer | BaseException], progress: Progress, run_id: str) -> Answer:
    pause = _FIRST_LOOK
    while True:
        try:
            answer = answers.get(timeout=pause)
        except queue.Empty:
            progress.look(run_id)
            pause = min(pause * 1.2, _LONGEST_PAUSE)
            continue
        if isinstance(answer, BaseException):
            raise answer
        progress.look(run_id)
        return answer


def _finish(gateway: Gateway, dag_id: str, body: str, key: str, deadline: float | None, *, started: bool) -> Answer:
    """Wait for the end of the run that the key stands for, over the gateway's own limits and short absences."""
    breaks = 0
    while True:
        began = time.monotonic()
        try:
            answer = gateway.finish(dag_id, body, key, None if deadline is None else max(1, round(deadline - began)))
        except GatewayUnreachableError:
            if not started or breaks == len(_PAUSES_AFTER_A_BREAK):
                raise
        else:
            started = started or answer.run_id is not None
            if answer.still_running or (answer.shutting_down and time.monotonic() - began > _LASTING):
                breaks = 0
            if not (answer.still_running or (answer.away and started and breaks < len(_PAUSES_AFTER_A_BREAK))):
                return answer
            if deadline is not None and time.monotonic() >= deadline - 1:
                return answer
            if answer.still_running:
                continue
        pause = _PAUSES_AFTER_A_BREAK[breaks]
        time.sleep(pause if deadline is None else max(0.0, min(pause, deadline - 1 - time.monotonic())))
        breaks += 1


def _report(answer: Answer, console: Console, seconds: float) -> None:
    if answer.ok:
        document = answer.document
        console.print(f"done in {seconds:.2f} s", style="green", highlight=False)
        typer.echo(json.dumps(document["output"], ensure_ascii=False) if "output" in document else answer.text)
        return
    document = answer.document
    title = document.get("title") or f"The gateway answered {answer.status}"
    detail = str(document.get("detail") or answer.text[:500])
    console.print(f"{title}: {detail}", style="red", markup=False, highlight=False, soft_wrap=True)
    for task in document.get("failed_tasks") or ():
        if task.get("error") and task["error"] not in detail:
            tries = "1 try" if task.get("tries") == 1 else f"{task.get('tries')} tries"
            line = f"{task.get('task_id')}: {task.get('state')} after {tries}: {task['error']}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
