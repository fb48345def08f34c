"""A host that cannot become a node: the play stops early, says host, variable, value and mend, and goes on after it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from testnodes.images import REPOSITORY
from testnodes.nodes import Nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testnodes.mirror import Mirror


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
            "node_is_container": True,
            "preflight_allow_cgroup_v1": True,
            "metallb_enabled": False,
            "registry_enabled": False,
        }

    def down(self) -> None:
        """Take it down."""
        self._nodes.down(stop_daemon=False)

    def play(self, playbook: str, *arguments: str, **variables: Any) -> tuple[int, str]:
        """Run a playbook on it.

        Returns:
            Ansible's exit code and output.
        """
        inventory = self._folder / "inventory.yml"
        hosts = {"one": {**self._vars, **variables}}
        inventory.write_text(yaml.safe_dump({"all": {"children": {"control_plane": {"hosts": hosts}}}}))
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
        command = [Path(sys.executable).parent / "ansible-playbook", "--inventory", inventory, playbook, *arguments]
        done = subprocess.run(
            command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False, timeout=600
        )
        return done.returncode, " ".join((done.stdout + done.stderr).split())


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
