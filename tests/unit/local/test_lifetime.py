"""Nothing is left running: not after `down`, and not after a crash of anything."""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING, Any

import pytest

from airflow_knative.local.errors import LocalError, NotRunningError, PortTakenError

from .conftest import FakeInstance, until

if TYPE_CHECKING:
    from collections.abc import Iterator


def full_tree(instance: FakeInstance) -> bool:
    """Guard, supervisor, and three parts of three processes each."""
    return len(instance.processes()) == 11


def test_down_ends_every_process_even_those_in_sessions_of_their_own(instance: FakeInstance) -> None:
    assert instance.up()["ok"]
    until(lambda: full_tree(instance))
    assert instance.stop(timeout=20)
    assert instance.processes() == []
    assert not instance.is_running


def test_down_again_finds_nothing(instance: FakeInstance) -> None:
    assert not instance.stop(timeout=1)


@pytest.mark.parametrize("victims", ["supervisor", "guard", "both"])
def test_nothing_is_left_after_a_kill(instance: FakeInstance, victims: str) -> None:
    instance.up()
    until(lambda: full_tree(instance))
    guard, supervisor = instance.guard_pid, instance.supervisor_pid
    assert guard
    assert supervisor
    chosen = {"supervisor": [supervisor], "guard": [guard], "both": [guard, supervisor]}[victims]
    for pid in chosen:
        os.kill(pid, signal.SIGKILL)
    if victims == "both":
        # Nobody is there to clear up what ignores SIGTERM: the next command does.
        until(lambda: not instance.is_running)
        assert instance.stop(timeout=1)
    # A process that is ending loses its environment a little before its locks.
    until(lambda: not instance.processes() and not instance.is_running)


def test_a_part_that_dies_is_restarted_and_leaves_no_orphan(instance: FakeInstance) -> None:
    instance.up()
    until(lambda: full_tree(instance))
    before = set(instance.processes())
    first = instance.part("activator")
    os.kill(first["pid"], signal.SIGKILL)
    second = until(lambda: (part := instance.part("activator")) and part["restarts"] == 1 and part)
    assert second["pid"] != first["pid"]
    assert second["last_exit"] == -signal.SIGKILL
    # Two orphans go, though both ignore SIGTERM; three new processes come.
    until(lambda: full_tree(instance) and len(set(instance.processes()) & before) == 8)


def test_a_part_that_waits_to_be_restarted_can_be_hurried(instance: FakeInstance) -> None:
    instance.up()
    for count in range(1, 4):
        pid = until(lambda: instance.part("gateway")["pid"])
        os.kill(pid, signal.SIGKILL)
        until(lambda: instance.part("gateway")["state"] == "restarting")
        assert instance.hurry() == ["gateway"]
        until(lambda count=count: instance.part("gateway")["restarts"] == count)


def test_a_start_that_fails_leaves_nothing(instance: FakeInstance) -> None:
    (instance.workflows / "fail").touch()
    try:
        outcome = instance.up()
    except LocalError as error:  # it failed before it could be asked
        said = str(error)
    else:
        assert not outcome["ok"]
        said = outcome["error"]
    assert "no luck today" in said
    until(lambda: not instance.processes())


def test_a_start_that_ends_between_two_questions_says_why(
    instance: FakeInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.paths.create()
    instance.paths.log("supervisor").write_text("no luck today\n")

    def reset(*_: object) -> Iterator[dict[str, Any]]:
        raise NotRunningError("nothing answers")

    monkeypatch.setattr("airflow_knative.local.instance.follow", reset)
    with pytest.raises(LocalError, match="no luck today"):
        list(instance.progress())


def test_a_taken_port_is_named_before_anything_starts(instance: FakeInstance) -> None:
    port = instance.wanted.api_port
    with socket.create_server(("127.0.0.1", port)), pytest.raises(PortTakenError) as caught:
        instance.up()
    message = str(caught.value)
    assert str(port) in message
    assert "--api-port" in message
    assert "Airflow's UI and API" in message
    assert f"process {os.getpid()}" in message
    assert instance.processes() == []


def test_a_second_guard_leaves_the_first_alone(instance: FakeInstance) -> None:
    instance.up()
    first = instance.guard_pid
    instance.settle(timeout=10)
    assert instance.guard_pid == first
    assert instance.status()["state"] == "up"


def test_an_instance_without_its_guard_is_waited_for(instance: FakeInstance) -> None:
    instance.up()
    assert instance.guard_pid
    os.kill(instance.guard_pid, signal.SIGKILL)
    until(lambda: instance.guard_pid is None)
    instance.settle(timeout=30)
    assert not instance.is_running
    assert instance.processes() == []


def test_status_of_nothing_says_how_to_start_it(instance: FakeInstance) -> None:
    with pytest.raises(NotRunningError, match="local up"):
        instance.status()


def test_secrets_are_private(instance: FakeInstance) -> None:
    instance.up()
    assert instance.paths.root.stat().st_mode & 0o777 == 0o700
    for path in (instance.paths.secrets, instance.paths.control, instance.paths.log("supervisor")):
        assert path.stat().st_mode & 0o077 == 0


def test_purge_removes_the_folder_and_only_a_state_folder(instance: FakeInstance) -> None:
    instance.up()
    instance.stop(timeout=20)
    instance.purge()
    assert not instance.paths.root.exists()
    instance.paths.root.mkdir()
    (instance.paths.root / "precious").touch()
    with pytest.raises(LocalError, match="no state folder"):
        instance.purge()
    assert (instance.paths.root / "precious").exists()
