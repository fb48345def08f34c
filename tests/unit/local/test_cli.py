from __future__ import annotations

import json
import os
import signal
import socket
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from airflow_knative.cli.local import app
from airflow_knative.local.errors import LocalError, PortTakenError
from airflow_knative.local.paths import StatePaths
from airflow_knative.local.ports import check_free
from airflow_knative.local.view import duration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import FakeInstance

run = CliRunner().invoke


def test_status_of_nothing_is_exit_code_3(tmp_path: Path) -> None:
    result = run(app, ["status", "--state", str(tmp_path / "s"), "--json"])
    assert result.exit_code == 3
    assert json.loads(result.stdout) == {"state": "down"}


def test_down_of_nothing_is_fine(tmp_path: Path) -> None:
    result = run(app, ["down", "--state", str(tmp_path / "s")])
    assert result.exit_code == 0
    assert "Nothing runs" in result.stdout


def test_purge_wants_to_be_sure(tmp_path: Path) -> None:
    paths = StatePaths(tmp_path / "s")
    paths.create()
    paths.lock.touch()
    result = run(app, ["down", "--purge", "--state", str(paths.root)])
    assert isinstance(result.exception, LocalError)
    assert "--yes" in str(result.exception)
    assert paths.root.exists()
    assert run(app, ["down", "--purge", "--yes", "--state", str(paths.root)]).exit_code == 0
    assert not paths.root.exists()


def test_up_wants_a_folder_of_workflows(tmp_path: Path) -> None:
    result = run(app, ["up", "--workflows", str(tmp_path / "none"), "--state", str(tmp_path / "s"), "--port-base", "0"])
    assert isinstance(result.exception, LocalError)
    assert str(tmp_path / "none") in str(result.exception)


@pytest.fixture
def command(instance: FakeInstance, monkeypatch: pytest.MonkeyPatch) -> FakeInstance:
    """Have the commands use this instance."""
    monkeypatch.setattr("airflow_knative.cli.local._instance", lambda _: instance)
    return instance


@pytest.fixture
def running(command: FakeInstance) -> FakeInstance:
    assert command.up()["ok"]
    return command


def refuse(*options: str) -> LocalError:
    result = run(app, ["up", *options])
    assert isinstance(result.exception, LocalError), result.output
    return result.exception


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--workflows", "/no/such/folder"), "/no/such/folder"),
        (("--granularity", "file"), "'file'"),
        (("--port-base", "70000"), "70000"),
        (("--host", "192.0.2.1"), "192.0.2.1"),
        (("--admin-user", " "), "admin user is empty"),
    ],
)
def test_options_that_are_wrong_do_not_stop_what_runs(
    running: FakeInstance, options: tuple[str, ...], named: str
) -> None:
    guard = running.guard_pid
    assert named in str(refuse(*options))
    assert running.guard_pid == guard


def test_a_taken_port_does_not_stop_what_runs(running: FakeInstance) -> None:
    guard = running.guard_pid
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        error = refuse("--gateway-port", str(port))
    assert isinstance(error, PortTakenError)
    assert str(port) in str(error)
    assert running.guard_pid == guard


def test_ports_of_its_own_are_not_taken(command: FakeInstance) -> None:
    wanted = command.wanted
    with socket.create_server(("127.0.0.1", wanted.api_port)):
        swapped = wanted.with_changes({"gateway_port": wanted.api_port, "api_port": wanted.gateway_port})
        check_free(swapped, held_by=wanted)
        with pytest.raises(PortTakenError):
            check_free(swapped)


def test_another_option_starts_it_anew(running: FakeInstance) -> None:
    guard = running.guard_pid
    result = run(app, ["up", "--granularity", "dag"])
    assert "granularity changes from task to dag" in result.stdout
    assert running.guard_pid not in {guard, None}
    assert running.settings() == running.wanted.with_changes({"granularity": "dag"})


def test_workflows_that_cannot_be_served_do_not_end_the_foreground(
    running: FakeInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = running.status()
    monkeypatch.setattr(running, "status", lambda: {**known, "problems": ["broken.py: SyntaxError"]})

    def lines(*_: object, **__: object) -> Iterator[None]:
        assert running.is_running
        os.kill(os.getpid(), signal.SIGTERM)
        yield None

    monkeypatch.setattr("airflow_knative.cli.local.follow_lines", lines)
    result = run(app, ["up"])
    assert isinstance(result.exception, LocalError)
    assert running.is_running
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        result = run(app, ["up", "--foreground"])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert "broken.py: SyntaxError" in said
    assert "taken up as soon as they are mended Ctrl-C takes it down." in said
    assert not running.is_running


def test_a_folder_of_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o755)
    (folder / "precious").touch()
    for command in (["up", "--port-base", "0", "--workflows", str(tmp_path)], ["down", "--purge", "--yes"]):
        result = run(app, [*command, "--state", str(folder)])
        assert isinstance(result.exception, LocalError)
        assert str(folder) in str(result.exception)
    assert folder.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in folder.iterdir()] == ["precious"]


def test_an_empty_folder_and_one_of_a_start_that_was_broken_off_become_a_state_folder(tmp_path: Path) -> None:
    for _ in range(2):
        StatePaths(tmp_path).create()
        assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_logs_of_an_unknown_part_names_the_known(tmp_path: Path) -> None:
    result = run(app, ["logs", "nonsense", "--state", str(tmp_path)])
    assert isinstance(result.exception, LocalError)
    assert "scheduler" in str(result.exception)


def test_logs_shows_the_last_lines_of_each_part(tmp_path: Path) -> None:
    paths = StatePaths(tmp_path / "s")
    paths.create()
    paths.log("scheduler").write_text("one\ntwo\nthree\n")
    paths.log("gateway").write_text("four\n")
    result = run(app, ["logs", "-n", "2", "--state", str(paths.root)])
    assert result.stdout.splitlines() == ["scheduler | two", "scheduler | three", "gateway   | four"]


def test_logs_of_a_service_are_those_of_its_newest_worker(tmp_path: Path) -> None:
    paths = StatePaths(tmp_path / "s")
    paths.create()
    for number, age in ((1, 100), (2, 200)):
        path = paths.worker_logs / f"svc.{number}.log"
        path.write_text(f"worker {number}\n")
        os.utime(path, (age, age))
    assert run(app, ["logs", "svc", "--state", str(paths.root)]).stdout == "worker 2\n"


@pytest.mark.parametrize(("seconds", "text"), [(None, ""), (5.9, "5s"), (200, "3m 20s"), (7300, "2h 1m")])
def test_durations_have_two_units(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
