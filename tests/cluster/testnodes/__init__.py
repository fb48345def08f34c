"""Throw-away nodes: containers that boot systemd and take Kubernetes like a bare Debian host.

Used by the tests in ``tests/cluster`` and by molecule's create and destroy playbooks (``python -m testnodes``).
"""

from __future__ import annotations

from testnodes.errors import NodeError
from testnodes.nodes import Cluster, Node, Nodes

__all__ = ["Cluster", "Node", "NodeError", "Nodes"]
