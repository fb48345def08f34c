"""What playbooks refuse, they refuse for some of the hosts, too: --limit leaves localhost out of every play."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.ansible.plays import play

if TYPE_CHECKING:
    from pathlib import Path

# Addresses that no host has: what is not refused does not get far.
INVENTORY: dict[str, Any] = {
    "vars": {"ansible_ssh_common_args": "-o ConnectTimeout=1"},
    "children": {
        "control_plane": {"hosts": {"one": {"ansible_host": "192.0.2.1"}}},
        "workers": {"hosts": {"two": {"ansible_host": "192.0.2.2"}, "three": {"ansible_host": "192.0.2.3"}}},
    },
}


@pytest.mark.parametrize("limit", [[], ["--limit", "two"]])
@pytest.mark.parametrize(
    ("playbook", "arguments", "said"),
    [
        ("reset", [], "reset_confirm is ''; allowed is yes, by which all data of"),
        ("reset", ["-e", "reset_confirm=true"], "reset_confirm is 'true'; allowed is yes"),
        ("remove_node", ["-e", "remove_node=four"], "remove_node is 'four'; allowed is a host of the inventory"),
        ("remove_node", ["-e", "remove_node=workers"], "remove_node is 'workers'; allowed is a host of the inventory"),
        ("preflight", ["-e", "kubernetes_pod_cidr=10"], "kubernetes_pod_cidr is '10'; allowed is an IPv4 network"),
    ],
)
def test_it_is_refused_before_any_host_is_contacted(
    tmp_path: Path, playbook: str, arguments: list[str], said: str, limit: list[str]
) -> None:
    done = play(tmp_path, f"playbooks/{playbook}.yml", *arguments, *limit, inventory=INVENTORY)
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stdout
    assert "UNREACHABLE" not in done.stdout


@pytest.mark.parametrize("limit", [[], ["--limit", "one"]])
def test_the_only_control_plane_stays(tmp_path: Path, limit: list[str]) -> None:
    done = play(tmp_path, "playbooks/remove_node.yml", "-e", "remove_node=one", *limit, inventory=INVENTORY)
    assert "remove_node is 'one', the only host in the group control_plane; allowed is a worker" in done.stdout
    assert "UNREACHABLE" not in done.stdout


def test_what_limit_leaves_out_is_not_removed(tmp_path: Path) -> None:
    done = play(tmp_path, "playbooks/remove_node.yml", "-e", "remove_node=three", "--limit", "two", inventory=INVENTORY)
    assert (
        "remove_node is 'three'; allowed is a host of the inventory that --limit does not leave out: two."
        in done.stdout
    )
