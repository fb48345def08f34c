"""A host that cannot become a node, or dies on the way: the play stops, says what to mend, and goes on after it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from testnodes.images import REPOSITORY
from testnodes.nodes import Nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testnodes.mirror import Mirror


_SHARED = yaml.safe_load((REPOSITORY / "molecule/shared/base.yml").read_text())["provisioner"]
# What only containers as nodes need; the rest of it asks molecule.
_CONTAINER = {
    name: value
    for name, value in _SHARED["inventory"]["group_vars"]["all"].items()
    if name == "nodes_cgroup_v2" or name.startswith(("node_", "preflight_", "containerd_", "kubernetes_"))
}
# As far as a node that is ready.
_BARE = dict.fromkeys(("storage_enabled", "knative_enabled", "airflow_enabled"), False)


class Host:
    """A test node, as an inventory names it."""

    def __init__(self, mirror: Mirror, folder: Path) -> None:
        self._folder = folder
        self._nodes = Nodes("test-faults")
        self.mirror = folder / "mirror"
        # Linked, so that a file can be replaced without touching the real one.
        shutil.copytree(mirror.folder, self.mirror, copy_function=os.link)
        key = folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        self._nodes.down(stop_daemon=False)
        public = key.with_suffix(".pub").read_text().strip()
        cluster = self._nodes.up(["one"], authorized_key=public, mirror=self.mirror)
        (self.node,) = cluster.nodes
        self.mirror_url = cluster.mirror
        self._vars = {
            "ansible_host": self.node.address,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(key),
            "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null",
            "artifacts_base_url": cluster.mirror,
            "metallb_enabled": False,
            "registry_enabled": False,
            **_CONTAINER,
        }

    def down(self) -> None:
        """Take it down."""
        self._nodes.down(stop_daemon=False)

    def play(self, playbook: str, *arguments: str, **variables: Any) -> tuple[int, str]:
        """Run a playbook on it.

        Returns:
            Ansible's exit code and output.
        """
        return self.end(self.begin(playbook, *arguments, **variables))

    def begin(self, playbook: str, *arguments: str, **variables: Any) -> subprocess.Popen[bytes]:
        """Start a playbook on it; `end` waits for it."""
        inventory = self._folder / "inventory.yml"
        hosts = {"one": {**self._vars, **variables}}
        inventory.write_text(yaml.safe_dump({"all": {"children": {"control_plane": {"hosts": hosts}}}}))
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
        command = [
            f"{Path(sys.executable).parent}/ansible-playbook",
            "--inventory",
            str(inventory),
            playbook,
            *arguments,
        ]
        # A file, because a pipe that nobody reads would hold the playbook up.
        with (self._folder / "said").open("w") as said:
            return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=said, stderr=subprocess.STDOUT)

    def end(self, playing: subprocess.Popen[bytes]) -> tuple[int, str]:
        """Wait for a playbook that was begun.

        Returns:
            Ansible's exit code and output.
        """
        try:
            code = playing.wait(timeout=600)
        finally:
            playing.kill()
        return code, " ".join((self._folder / "said").read_text().split())


@pytest.fixture(scope="module")
def host(mirror: Mirror) -> Iterator[Host]:
    # Beside the mirror, because a link cannot lead to another file system.
    folder = mirror.folder.resolve().parent / "test-faults"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    made = None
    try:
        made = Host(mirror, folder)
        yield made
    finally:
        if made is not None:
            made.down()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_full_disk(host: Host) -> None:
    code, said = host.play("playbooks/preflight.yml", preflight_min_disk_gb=1_000_000)
    assert code == 2
    assert "GB free below /var; needed are 1000000 (preflight_min_disk_gb). Make room" in said


def test_a_taken_port(host: Host) -> None:
    serve = "nohup python3 -m http.server --bind 127.0.0.1 10250 >/dev/null 2>&1 & echo $!"
    process = host.node.shell(serve)
    try:
        code, said = host.play("playbooks/preflight.yml")
    finally:
        host.node.shell(f"kill {process}")
    assert code == 2
    assert "Port 10250 of one is taken, and Kubernetes needs it. Find by whom with `ss -tlnp sport = :10250`" in said


def test_addresses_outside_the_nodes_network(host: Host) -> None:
    code, said = host.play(
        "playbooks/preflight.yml", metallb_enabled=True, metallb_addresses=["198.51.100.10-198.51.100.20"]
    )
    assert code == 2
    assert "metallb_addresses has '198.51.100.10-198.51.100.20'; allowed are free addresses of a network" in said


def test_a_mirror_that_is_out_of_reach(host: Host) -> None:
    code, said = host.play("playbooks/preflight.yml", artifacts_base_url="http://127.0.0.1:9")
    assert code == 2
    assert "one cannot fetch http://127.0.0.1:9/dl.k8s.io/" in said
    assert "artifacts_base_url is http://127.0.0.1:9" in said
    assert "fill the mirror anew" in said


def test_a_wrong_checksum_and_its_mend(host: Host, mirror: Mirror) -> None:
    """The same play goes through when the mirror is right again."""
    path = mirror.pins["runc"].files[0].path
    served = host.mirror / "files" / path
    served.unlink()
    served.write_bytes(b"not runc")
    fetch = str(host.mirror.parent / "fetch.yml")
    Path(fetch).write_text(yaml.safe_dump([{"hosts": "one", "roles": ["containerd"]}]))
    code, said = host.play(fetch)
    assert code == 2
    assert f"one has not got {host.mirror_url}/{path} (containerd_base_url is {host.mirror_url}): The checksum" in said
    assert "airflow-knative mirror verify" in said
    assert host.node.shell("test -e /usr/local/sbin/runc && echo there || echo none") == "none"
    served.unlink()
    os.link(mirror.file("runc"), served)
    code, said = host.play(fetch)
    assert code == 0, said
    assert host.node.shell("systemctl is-active containerd") == "active"


def test_a_kubelet_that_dies_halfway_and_its_mend(host: Host) -> None:
    """The control plane never comes up, the play says so, and the same play makes it once the host is well again."""
    try:
        checks = ("kubeletHealthCheck", "controlPlaneComponentHealthCheck")
        playing = host.begin("site.yml", kubernetes_timeouts=dict.fromkeys(checks, "20s"), **_BARE)
        while host.node.shell("systemctl is-active kubelet || true") != "active":
            assert playing.poll() is None, host.end(playing)
            time.sleep(0.2)
        host.node.shell(
            "systemctl mask --runtime kubelet; systemctl kill --signal KILL kubelet; systemctl stop kubelet"
        )
        code, said = host.end(playing)
        assert code == 2, said
        assert "kubelet" in said
        host.node.shell("systemctl unmask --runtime kubelet")
        code, said = host.play("site.yml", **_BARE)
        assert code == 0, said
        kubectl = "kubectl --kubeconfig /etc/kubernetes/admin.conf"
        ready = host.node.shell(f"{kubectl} wait node/one --for condition=Ready --timeout 60s")
        assert ready == "node/one condition met"
        code, said = host.play("site.yml", **_BARE)
        assert code == 0, said
        assert "changed=0" in said
    finally:
        # The other tests expect a host that is no node.
        code, said = host.play("playbooks/reset.yml", "--extra-vars", "reset_confirm=yes", **_BARE)
    assert code == 0, said
