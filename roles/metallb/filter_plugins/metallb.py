# ruff: noqa: INP001 # Ansible finds it by its folder
"""Filter ``metallb_problems``: what is wrong with the addresses that services shall get."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Networks = Mapping[str, ipaddress.IPv4Network]

_MEND = "Set it in group_vars/all.yml, or set metallb_enabled: false where the cluster has a load balancer of its own."


def _range(text: str) -> tuple[ipaddress.IPv4Address, ipaddress.IPv4Address]:
    """The first and last address of ``first-last`` or of a network."""
    first, dash, last = text.partition("-")
    if dash:
        low, high = ipaddress.IPv4Address(first.strip()), ipaddress.IPv4Address(last.strip())
        if high < low:
            raise ValueError("it ends before it begins")
        return low, high
    network = ipaddress.IPv4Network(text)
    return network[0], network[-1]


def _networks(facts: Mapping[str, Any]) -> Networks:
    """The networks that a host is in, by the names of its interfaces."""
    found = {}
    for name in facts.get("interfaces", []):
        address = (facts.get(name.replace("-", "_")) or {}).get("ipv4") or {}
        if address.get("network") and address.get("netmask"):
            found[name] = ipaddress.IPv4Network(f"{address['network']}/{address['netmask']}")
    return {name: network for name, network in found.items() if not network.is_loopback}


def _one(text: str, networks: Networks, taken: Mapping[str, str]) -> Iterator[str]:
    begin = f"metallb_addresses has {text!r}; allowed"
    try:
        low, high = _range(text)
    except ValueError as error:
        yield f"{begin} is first-last, such as 192.0.2.200-192.0.2.220, or a network ({error}). {_MEND}"
        return
    if networks and not any(low in network and high in network for network in networks.values()):
        known = ", ".join(f"{network} ({name})" for name, network in networks.items())
        yield (
            f"{begin} are free addresses of a network that the hosts are in: {known}. Others would never be asked for"
            " there. Choose some of these."
        )
    for host, address in taken.items():
        if low <= ipaddress.IPv4Address(address) <= high:
            yield f"{begin} are free addresses, and {address} is that of {host}. Choose a range without it."


def problems(
    addresses: Sequence[str], facts: Mapping[str, Any] | None = None, taken: Mapping[str, str] | None = None
) -> list[str]:
    """What is wrong with the addresses, each with the variable, its value, what is allowed and the mend.

    Args:
        addresses: ranges (first-last) and networks.
        facts: what Ansible knows of a host; without it, networks are not looked at.
        taken: addresses that are in use, by what has them.

    Returns:
        nothing when the addresses are sound.
    """
    if not addresses:
        allowed = "at least one range of free addresses of the hosts' network, such as 192.0.2.200-192.0.2.220"
        return [f"metallb_addresses is empty; allowed is a list of {allowed}. {_MEND}"]
    networks = _networks(facts or {})
    return [problem for text in addresses for problem in _one(text, networks, taken or {})]


class FilterModule:
    """The filters of this file, as Ansible finds them."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"metallb_problems": problems}
