"""What a tag alone runs: what its tasks need is among it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.ansible.plays import play

if TYPE_CHECKING:
    from pathlib import Path

INVENTORY: dict[str, Any] = {"children": {"control_plane": {"hosts": {"one": {}}}, "workers": {"hosts": {"two": {}}}}}


def _tasks(tmp_path: Path, playbook: str, tag: str) -> set[str]:
    done = play(tmp_path, playbook, "--tags", tag, "--list-tasks", inventory=INVENTORY)
    assert done.returncode == 0, done.stderr
    return {line.partition("\t")[0].strip().partition(" : ")[2] or line.strip() for line in done.stdout.splitlines()}


@pytest.mark.parametrize("tag", ["airflow", "workflows"])
def test_images_and_services_are_named_without_being_made(tmp_path: Path, tag: str) -> None:
    tasks = _tasks(tmp_path, "site.yml", tag)
    assert {"Name the images after what is in them", "Take in the services"} <= tasks
    assert "Build and push what is missing" not in tasks


@pytest.mark.parametrize("tag", ["kubernetes", "knative"])
def test_an_upgrade_is_checked_whatever_the_tag(tmp_path: Path, tag: str) -> None:
    said = play(tmp_path, "playbooks/upgrade.yml", "--tags", tag, "--list-tasks", inventory=INVENTORY).stdout
    for task in ("Look at the hosts", "Check the step", "Check that the host is one"):
        assert f"{task}\tTAGS: [always" in said


def test_a_part_of_a_cluster_is_made_from_facts_of_now(tmp_path: Path) -> None:
    said = play(tmp_path, "playbooks/cluster.yml", "--tags", "kubernetes", "--list-tasks", inventory=INVENTORY).stdout
    assert "Look at the hosts\tTAGS: [always" in said
