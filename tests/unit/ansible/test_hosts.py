"""What is said of a host before it becomes a node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.unit.ansible.plays import REPOSITORY, local, play, tasks_of

if TYPE_CHECKING:
    from pathlib import Path

PREFLIGHT = "roles/preflight/tasks/preflight.yml"


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_clocks_agree_whatever_the_control_machines_time_zone(tmp_path: Path, zone: str) -> None:
    tasks = tasks_of(PREFLIGHT, "Ask the host for its time", "Check the clock")
    done = play(tmp_path, local(tasks, preflight_max_clock_difference=30), environment={"TZ": zone})
    assert done.returncode == 0, done.stdout


def _address(tmp_path: Path, facts: dict[str, Any], **variables: str) -> str:
    tasks = tasks_of(PREFLIGHT, "Check the address that the others reach the host by")
    return play(tmp_path, local(tasks, ansible_facts=facts, **variables)).stdout


def test_a_host_has_its_address(tmp_path: Path) -> None:
    facts = {"default_ipv4": {"address": "192.0.2.1"}, "all_ipv4_addresses": ["192.0.2.1", "10.0.0.1"]}
    assert "failed=0" in _address(tmp_path, facts)
    assert "failed=0" in _address(tmp_path, facts, kubernetes_node_ip="10.0.0.1")
    said = _address(tmp_path, facts, kubernetes_node_ip="10.0.0.2")
    assert (
        "kubernetes_node_ip of localhost is '10.0.0.2'; allowed is an address of the host (192.0.2.1, 10.0.0.1)" in said
    )


def test_a_host_without_a_default_route_has_to_be_told_its_address(tmp_path: Path) -> None:
    said = _address(tmp_path, {"default_ipv4": {}, "all_ipv4_addresses": ["192.0.2.1"]})
    assert "is left out, and the host has no default route that would tell it; allowed" in said


def test_packages_that_would_be_taken_over_are_refused(tmp_path: Path) -> None:
    tasks = tasks_of("roles/preflight/tasks/fresh.yml", "Check that no container runtime and no kubelet are there")
    clean = ["docker.io config-files", "kubelet not-installed"]
    said = play(tmp_path, local(tasks, __preflight_foreign={"stdout_lines": clean})).stdout
    assert "failed=0" in said
    said = play(
        tmp_path, local(tasks, __preflight_foreign={"stdout_lines": [*clean, "containerd.io installed"]})
    ).stdout
    assert "localhost has the packages containerd.io, whose files" in said
    assert "apt-get purge containerd.io" in said


def _unit(name: str, load: str = "loaded", path: str = "", source: str = "", state: str = "") -> str:
    return f"Id={name}\nLoadState={load}\nFragmentPath={path}\nSourcePath={source}\nUnitFileState={state}\n"


def test_units_of_swap_that_come_back_are_found(tmp_path: Path) -> None:
    """As `systemctl show` prints them; what only /etc/fstab or /proc/swaps tells of is not among them."""
    generator = "/run/systemd/generator"
    units = [
        _unit("dev-zram0.swap", path=f"{generator}/dev-zram0.swap", state="generated"),
        _unit(r"dev-disk-by\x2dpartuuid-1.swap", path=f"{generator}.late/x.swap", state="generated"),
        _unit("swapfile.swap", path="/etc/systemd/system/swapfile.swap", state="enabled"),
        _unit("dev-sda2.swap", path=f"{generator}/dev-sda2.swap", source="/etc/fstab", state="generated"),
        _unit("dev-sdb1.swap"),
        _unit("masked.swap", "masked", path="/etc/systemd/system/masked.swap", state="masked"),
        _unit("idle.swap", path="/etc/systemd/system/idle.swap", state="disabled"),
        _unit("zramswap.service", "not-found"),
    ]
    variables = yaml.safe_load((REPOSITORY / "roles/node/vars/main.yml").read_text())
    variables["__node_swap_units"] = {"stdout": "\n".join(units).strip()}
    said = play(tmp_path, local([{"debug": {"var": "_node_swap_units"}}], **variables)).stdout
    found = [line.strip().removeprefix("- ") for line in said.splitlines() if line.strip().startswith("- ")]
    assert found == ["dev-zram0.swap", r"dev-disk-by\x2dpartuuid-1.swap", "swapfile.swap"]
