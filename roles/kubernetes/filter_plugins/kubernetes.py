# ruff: noqa: INP001 # Ansible finds it by its folder
"""A filter that finds each host's node in the cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleError
from jinja2 import Undefined, UndefinedError

if TYPE_CHECKING:
    from collections.abc import Callable

Given = Mapping[str, Any]


def _value(given: Given, name: str) -> str:
    """A variable's text, empty where there is none or where only facts could tell it."""
    try:
        value = given.get(name)
        return "" if value is None or isinstance(value, Undefined) else str(value)
    except (AnsibleError, UndefinedError):
        return ""


def _facts(given: Given) -> Given:
    return given.get("ansible_facts") or {}


def nodes_of_hosts(hosts: Iterable[Given], nodes: Sequence[Given]) -> dict[str, str]:
    """Each host's node: by the name that the host gives itself, or else by an address.

    Args:
        hosts: each host's variables; a host that nobody has looked at goes by its name in the inventory.
        nodes: the cluster's Node objects.

    Returns:
        host to name of its node, empty where the cluster has none.
    """
    known = list(hosts)
    names = {node["metadata"]["name"] for node in nodes}
    found: dict[str, str] = {}
    for given in known:
        host = str(given["inventory_hostname"])
        name = str(_facts(given).get("nodename") or host).lower()
        found[host] = name if name in names else ""
    # An address may have gone to another host since.
    free = [node for node in nodes if node["metadata"]["name"] not in found.values()]
    for given in known:
        host = str(given["inventory_hostname"])
        own = (_facts(given).get("default_ipv4") or {}).get("address")
        addresses = {_value(given, "kubernetes_node_ip"), _value(given, "ansible_host"), own} - {"", None}
        for node in [] if found[host] else free:
            if addresses & {address["address"] for address in (node.get("status") or {}).get("addresses") or []}:
                found[host] = node["metadata"]["name"]
    return found


class FilterModule:
    """The filters of this file, as Ansible finds them."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"nodes_of_hosts": nodes_of_hosts}
