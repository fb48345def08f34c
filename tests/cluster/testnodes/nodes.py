"""Nodes: containers on a network of their own, up and down as one."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import os
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from testnodes import daemon
from testnodes.background import Background
from testnodes.docker import docker, run_flags, succeeds
from testnodes.errors import NodeError
from testnodes.images import REPOSITORY, node_image

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Cluster", "Node", "Nodes", "serve"]

_LABEL = "airflow-knative-nodes"
_READY = 30.0
_PORT = 8780
_MISSING = ("No such", "not found")


@dataclass(frozen=True)
class Node:
    """A running node: its host name, its container and its IPv4 address."""

    name: str
    container: str
    address: str

    def run(self, *command: str, timeout: float = 300) -> str:
        """Run a command in the node and return what it printed.

        Raises:
            NodeError: it failed.
        """
        return docker("exec", self.container, *command, timeout=timeout)

    def shell(self, script: str, timeout: float = 300) -> str:
        """Run a line of shell in the node."""
        return self.run("bash", "-euc", script, timeout=timeout)

    def copy(self, source: Path, target: str) -> None:
        """Copy a file or folder into the node. ``/tmp`` and ``/run`` are memory that this cannot reach."""
        docker("cp", str(source), f"{self.container}:{target}")


@dataclass(frozen=True)
class Cluster:
    """Nodes that run.

    Attributes:
        subnet: their network's addresses.
        mirror: where the mirror is served to them, if it is.
    """

    name: str
    nodes: tuple[Node, ...]
    subnet: str
    mirror: str | None = None


def _name_servers() -> list[str]:
    """The host's own name servers: Docker's at 127.0.0.11 would send CoreDNS round in a loop."""
    lines = Path("/etc/resolv.conf").read_text().splitlines()
    found = [line.split()[1] for line in lines if line.startswith("nameserver ") and len(line.split()) > 1]
    return [server for server in found if not ipaddress.ip_address(server.partition("%")[0]).is_loopback]


def serve(server: Background, mirror: Path, network: str) -> str:
    """Serve a mirror on the address that the host has in a Docker network.

    Returns:
        where the nodes find it.

    Raises:
        NodeError: it does not start.
    """
    host = docker("network", "inspect", "--format", "{{range .IPAM.Config}}{{.Gateway}} {{end}}", network)
    host = next(address for address in host.split() if ":" not in address)
    command = [sys.executable, "-m", "airflow_knative.mirror", "serve", "--out", str(mirror.resolve())]
    url = f"http://{host}:{_PORT}"
    path = os.pathsep.join([str(REPOSITORY / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    server.start([*command, "--host", host, "--port", str(_PORT)], {"url": url}, {"PYTHONPATH": path})
    end = time.monotonic() + _READY
    while time.monotonic() < end and not server.gone():
        with contextlib.suppress(OSError), socket.create_connection((host, _PORT), timeout=1):
            return url
        time.sleep(0.1)
    raise NodeError(f"the mirror is not served on {url}:\n{server.last_lines()}")


class Nodes:
    """One named set of nodes; the same name finds it again from another process.

    Args:
        name: begins the names of everything that is made.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._server = Background(f"{name}-mirror")

    def up(
        self,
        names: Iterable[str],
        *,
        subnet: str | None = None,
        authorized_key: str = "",
        mounts: Iterable[str] = (),
        mirror: Path | None = None,
    ) -> Cluster:
        """Start nodes and wait until Ansible could log in.

        Args:
            names: the nodes' host names.
            subnet: the network's addresses; Docker's choice by default.
            authorized_key: a public key that root may log in with over SSH; without one no sshd runs.
            mounts: ``host-path:node-path[:ro]`` for each node.
            mirror: a mirror's folder to serve on the nodes' network until they are taken down.

        Raises:
            NodeError: something failed; nothing is left.
        """
        daemon.ensure()
        hosts = list(names)
        if self._containers(running=True):
            raise NodeError(f"the nodes {self.name!r} run already; take them down first")
        # What is left of nodes whose daemon was stopped under them: nobody could take it down before one ran again.
        self.down(stop_daemon=False)
        try:
            cluster = self._start(hosts, subnet, authorized_key, list(mounts))
            return dataclasses.replace(cluster, mirror=serve(self._server, mirror, self.name)) if mirror else cluster
        except BaseException:
            self.down(stop_daemon=False)
            raise

    def _start(self, hosts: list[str], subnet: str | None, authorized_key: str, mounts: list[str]) -> Cluster:
        image = node_image()
        label = f"{_LABEL}={self.name}"
        docker("network", "create", "--label", label, *(("--subnet", subnet) if subnet else ()), self.name)
        common = ["--label", label, "--network", self.name, "--cgroupns", "private", *run_flags(image)]
        common += ["--tmpfs", "/tmp:exec", "--tmpfs", "/run", "--volume", "/var", "--detach"]  # noqa: S108 # the node's
        common += ["--stop-signal", "SIGRTMIN+3"]  # what systemd shuts down on in a container
        common += ["--env", f"NODE_NAME_SERVERS={' '.join(_name_servers())}"]
        common += ["--env", f"NODE_AUTHORIZED_KEY={authorized_key}"]
        common += [flag for mount in mounts for flag in ("--volume", mount)]
        nodes = []
        for host in hosts:
            container = f"{self.name}-{host}"
            docker("run", "--name", container, "--hostname", host, *common, image)
            form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
            nodes.append(Node(host, container, docker("inspect", "--format", form, container)))
        lines = "".join(f"{node.address} {node.name}\n" for node in nodes)
        for node in nodes:
            self._wait(node)
            # Docker's own names are for its name server only, which the nodes do not use.
            node.shell(f"printf '%s' '{lines}' | grep -vw '{node.name}' >> /etc/hosts || true")
        given = docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", self.name)
        return Cluster(self.name, tuple(nodes), given)

    def _wait(self, node: Node) -> None:
        end = time.monotonic() + _READY
        state = ""
        while time.monotonic() < end:
            with contextlib.suppress(NodeError):
                state = node.shell("systemctl is-system-running || true")
                if state in ("running", "degraded"):
                    return
            if docker("inspect", "--format", "{{.State.Running}}", node.container) != "true":
                break
            time.sleep(0.1)
        raise NodeError(f"node {node.name} is not up ({state or 'it stopped'}):\n{docker('logs', node.container)}")

    def _containers(self, *, running: bool = False) -> list[str]:
        which = () if running else ("--all",)
        return docker("ps", *which, "--quiet", "--filter", f"label={_LABEL}={self.name}").split()

    def _networks(self) -> list[str]:
        return docker("network", "ls", "--quiet", "--filter", f"label={_LABEL}={self.name}").split()

    def find(self) -> Cluster | None:
        """The nodes of this name that run, if any."""
        if not succeeds("version") or not self._networks():
            return None
        nodes = []
        form = "{{.Config.Hostname}} {{.Name}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        for container in self._containers():
            host, name, address = docker("inspect", "--format", form, container).split()
            nodes.append(Node(host, name.lstrip("/"), address))
        given = docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", self.name)
        said = self._server.said or {}
        return Cluster(self.name, tuple(sorted(nodes, key=lambda node: node.name)), given, said.get("url"))

    def down(self, *, stop_daemon: bool = True) -> None:
        """Stop the nodes and remove everything that was made for them, whatever state it is in.

        Args:
            stop_daemon: also stop the Docker daemon if it was started here and nothing else runs on it.
        """
        self._server.stop()
        if succeeds("version"):
            for container in self._containers():
                self._gone("rm", "--force", "--volumes", container)
            for network in self._networks():
                self._gone("network", "rm", network)
            if docker("ps", "--quiet"):
                return
        if stop_daemon:
            daemon.stop_if_ours()

    def _gone(self, *arguments: str) -> None:
        try:
            docker(*arguments)
        except NodeError as error:
            if not any(text in str(error) for text in _MISSING):
                raise

    @contextlib.contextmanager
    def running(
        self, names: Iterable[str], *, subnet: str | None = None, mounts: Iterable[str] = ()
    ) -> Iterator[Cluster]:
        """Nodes for the length of a with-block."""
        try:
            yield self.up(names, subnet=subnet, mounts=mounts)
        finally:
            self.down()
