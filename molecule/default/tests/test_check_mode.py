# ruff: noqa: D103, INP001, S101 # tests, found by molecule in its own folder
"""A check says what a run would change, and that is nothing where one has just been through."""

from __future__ import annotations

import re

from conftest import run_playbook


def test_a_check_of_a_cluster_that_is_made_finds_nothing_to_change() -> None:
    done = run_playbook("site.yml", "--check", "--diff")
    assert done.returncode == 0, done.stdout
    changed = re.findall(r"\bchanged=(\d+)", done.stdout)
    assert changed, done.stdout
    assert set(changed) == {"0"}, done.stdout
