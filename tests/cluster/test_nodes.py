"""Nodes come up, see each other, and leave nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from leftovers import snapshot
from testnodes import daemon
from testnodes.background import Background
from testnodes.docker import docker, missing_capabilities
from testnodes.errors import NodeError
from testnodes.nodes import Nodes

if TYPE_CHECKING:
    from testnodes.mirror import Mirror

NAMES = ("one", "two", "three")


def test_three_nodes_come_up_see_each_other_and_leave_nothing(nodes: Nodes) -> None:
    before = snapshot()
    cluster = nodes.up(NAMES)
    assert [node.name for node in cluster.nodes] == list(NAMES)
    assert len({node.address for node in cluster.nodes}) == 3
    identities = set()
    for node in cluster.nodes:
        assert node.run("hostname") == node.name
        assert node.run("cat", "/proc/1/comm") == "systemd"
        assert node.shell("systemctl is-system-running || true") in ("running", "degraded")
        assert node.run("python3", "-c", "import apt; print('ready for Ansible')") == "ready for Ansible"
        assert "127.0.0.11" not in node.run("cat", "/etc/resolv.conf")
        for program in ("kubelet", "kubeadm", "containerd", "runc"):
            assert node.shell(f"command -v {program} || echo none") == "none"
        identities.add(node.run("cat", "/etc/machine-id"))
        for other in NAMES:
            node.run("ping", "-c", "1", "-W", "5", other)
    assert len(identities) == 3
    assert nodes.find() == cluster or {node.name for node in (nodes.find() or cluster).nodes} == set(NAMES)
    nodes.down(stop_daemon=False)
    assert snapshot().more_than(before) == {}
    assert nodes.find() is None


def test_a_node_can_do_what_a_kubelet_does(nodes: Nodes) -> None:
    (node,) = nodes.up(["one"]).nodes
    node.shell("mkdir /sys/fs/cgroup/memory/kubelet || mkdir /sys/fs/cgroup/kubelet")
    node.shell(
        "mkdir -p /var/lib/a/{lower,upper,work,all} && cd /var/lib/a"
        " && mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay all && umount all"
    )
    node.shell("ip link add name v1 type veth peer name v2 && ip link delete v1")
    node.shell("echo 1 > /proc/sys/net/ipv4/ip_forward")


def test_a_node_that_is_stopped_or_gone_is_taken_down_too(nodes: Nodes) -> None:
    before = snapshot()
    cluster = nodes.up(["one", "two"])
    docker("kill", cluster.nodes[0].container)
    docker("rm", "--force", "--volumes", cluster.nodes[1].container)
    nodes.down(stop_daemon=False)
    nodes.down(stop_daemon=False)
    assert snapshot().more_than(before) == {}


def test_a_failed_start_leaves_nothing(nodes: Nodes) -> None:
    before = snapshot()
    with pytest.raises(NodeError):
        nodes.up(["one", "no/name"])
    assert snapshot().more_than(before) == {}


def test_the_same_name_twice_is_refused(nodes: Nodes) -> None:
    nodes.up(["one"])
    with pytest.raises(NodeError, match="run already"):
        Nodes(nodes.name).up(["one"])


def test_what_is_left_of_nodes_that_were_cut_off_does_not_stand_in_the_way(nodes: Nodes) -> None:
    cluster = nodes.up(["one", "two"])
    for node in cluster.nodes:
        docker("kill", node.container)
    (node,) = nodes.up(["one"]).nodes
    assert node.shell("hostname") == "one"


def test_root_can_log_in_with_the_given_key(nodes: Nodes, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    (node,) = nodes.up(["one"], authorized_key=key.with_suffix(".pub").read_text().strip()).nodes
    options = ["StrictHostKeyChecking=no", f"UserKnownHostsFile={tmp_path / 'known'}", "BatchMode=yes"]
    flags = [flag for option in options for flag in ("-o", option)]
    command = ["ssh", "-q", *flags, "-i", str(key), f"root@{node.address}", "hostname"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == "one"


def test_the_mirror_is_served_to_the_nodes(nodes: Nodes, mirror: Mirror) -> None:
    cluster = nodes.up(["one"], mirror=mirror.folder)
    (node,) = cluster.nodes
    path = mirror.pins["runc"].files[0].path
    assert node.shell(f"curl -fsS {cluster.mirror}/{path} | sha256sum").split()[0] == (
        mirror.manifest.files[f"files/{path}"].sha256
    )
    nodes.down(stop_daemon=False)
    assert Background(f"{nodes.name}-mirror").said is None
    listening = Path("/proc/net/tcp").read_text()
    assert f":{8780:04X} 00000000:0000 0A" not in listening


def test_missing_capabilities_are_read_from_the_kernels_mask() -> None:
    assert missing_capabilities("CapBnd:\t000001ffffffffff\n") == []
    assert missing_capabilities("CapBnd:\t000001fffeffffff\n") == ["SYS_RESOURCE"]


def test_a_daemon_that_runs_is_not_started_again() -> None:
    ours = daemon.ensure()
    assert daemon.ensure() is ours
