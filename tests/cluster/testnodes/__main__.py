"""``python -m testnodes up|down|show|kind-up|kind-down``: what molecule's playbooks call. Prints JSON."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from airflow_knative.errors import AirflowKnativeError
from testnodes import kind
from testnodes.errors import NodeError
from testnodes.mirror import Mirror
from testnodes.nodes import Cluster, Nodes


def _show(cluster: Cluster | None) -> None:
    print(json.dumps(dataclasses.asdict(cluster) if cluster else {"nodes": []}))  # noqa: T201 # the output


def _kind(command: str, name: str, mirror: Mirror, kubeconfig: Path) -> None:
    if command == "kind-down":
        kind.delete(mirror, name, kubeconfig)
        return
    kind.create(mirror, name, kubeconfig)
    print(json.dumps({"mirror": kind.serve_mirror(mirror, name), "subnet": kind.subnet()}))  # noqa: T201 # the output


def main() -> int:
    """Run one command; 1 with a message when it fails."""
    parser = argparse.ArgumentParser(prog="testnodes", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "show", "kind-up", "kind-down"])
    parser.add_argument("--name", required=True, help="what the set of nodes is called")
    parser.add_argument("--node", action="append", default=[], help="a node's host name (repeatable)")
    parser.add_argument("--subnet", help="the network's addresses")
    parser.add_argument("--mount", action="append", default=[], help="host-path:node-path[:ro] (repeatable)")
    parser.add_argument("--ssh-key", type=Path, help="public key that root may log in with")
    parser.add_argument("--mirror", type=Path, help="a mirror's folder to serve to the nodes")
    parser.add_argument("--keep-daemon", action="store_true", help="leave a Docker daemon that was started here")
    parser.add_argument("--kubeconfig", type=Path, help="where kind's kubeconfig goes")
    given = parser.parse_args()
    nodes = Nodes(given.name)
    try:
        if given.command.startswith("kind-"):
            _kind(given.command, given.name, Mirror(given.mirror), given.kubeconfig)
        elif given.command == "up":
            key = given.ssh_key.read_text().strip() if given.ssh_key else ""
            up = nodes.find() or nodes.up(
                given.node, subnet=given.subnet, authorized_key=key, mounts=given.mount, mirror=given.mirror
            )
            _show(up)
        elif given.command == "down":
            nodes.down(stop_daemon=not given.keep_daemon)
            _show(None)
        else:
            _show(nodes.find())
    except (NodeError, AirflowKnativeError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 # the command's own output
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
