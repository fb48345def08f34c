"""``python -m testnodes up|down|show``: what molecule's playbooks call. Prints JSON."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from airflow_knative.errors import AirflowKnativeError
from testnodes.errors import NodeError
from testnodes.nodes import Cluster, Nodes


def _show(cluster: Cluster | None) -> None:
    print(json.dumps(dataclasses.asdict(cluster) if cluster else {"nodes": []}))  # noqa: T201 # the output


def main() -> int:
    """Run one command; 1 with a message when it fails."""
    parser = argparse.ArgumentParser(prog="testnodes", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "show"])
    parser.add_argument("--name", required=True, help="what the set of nodes is called")
    parser.add_argument("--node", action="append", default=[], help="a node's host name (repeatable)")
    parser.add_argument("--subnet", help="the network's addresses")
    parser.add_argument("--mount", action="append", default=[], help="host-path:node-path[:ro] (repeatable)")
    parser.add_argument("--ssh-key", type=Path, help="public key that root may log in with")
    parser.add_argument("--mirror", type=Path, help="a mirror's folder to serve to the nodes")
    parser.add_argument("--keep-daemon", action="store_true", help="leave a Docker daemon that was started here")
    given = parser.parse_args()
    nodes = Nodes(given.name)
    try:
        if given.command == "up":
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
