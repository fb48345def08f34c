"""What is said of a host before it becomes a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.ansible.plays import local, play, tasks_of

if TYPE_CHECKING:
    from pathlib import Path

PREFLIGHT = "roles/preflight/tasks/preflight.yml"


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_clocks_agree_whatever_the_control_machines_time_zone(tmp_path: Path, zone: str) -> None:
    tasks = tasks_of(PREFLIGHT, "Ask the host for its time", "Check the clock")
    done = play(tmp_path, local(tasks, preflight_max_clock_difference=30), environment={"TZ": zone})
    assert done.returncode == 0, done.stdout
