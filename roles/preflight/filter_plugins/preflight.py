# ruff: noqa: INP001 # Ansible finds it by its folder
"""Filter ``preflight_problems``: what is wrong in an inventory, found without contacting a host."""

from __future__ import annotations

import difflib
import ipaddress
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_URL = re.compile(r"https?://[^\s/]+(/[^\s/]+)*")
# Addresses of pods are handed out to nodes by /24.
_POD_PREFIX = 22
_SERVICE_PREFIX = 24


def _problem(host: str, name: str, value: object, allowed: str, mend: str) -> str:
    return f"{host}: {name} is {value!r}; allowed is {allowed}. {mend}"


def _groups(groups: Mapping[str, Sequence[str]]) -> Iterator[str]:
    control = groups.get("control_plane", [])
    if len(control) != 1:
        yield (
            f"group control_plane has {len(control)} hosts ({', '.join(control) or 'none'}); allowed is exactly one."
            " Name the host of the control plane there, and the others in the group workers."
        )
    for host in control:
        if host in groups.get("workers", []):
            yield (
                f"{host} is in the groups control_plane and workers; allowed is one of them."
                " Take it out of workers; with no workers at all, ordinary pods run on the control plane."
            )


def _known(host: str, given: Mapping[str, Any], roles: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Misspelt variables: they begin like a role's, and the role has no such one."""
    for name in sorted(given):
        role = next((role for role in roles if name.startswith(f"{role}_")), None)
        if role is None or name in roles[role]:
            continue
        ends = [known.removeprefix(f"{role}_") for known in roles[role]]
        near = difflib.get_close_matches(name.removeprefix(f"{role}_"), ends, n=1)
        mend = f"Write {role}_{near[0]}." if near else "Take it out."
        has = ", ".join(roles[role])
        yield f"{host}: {name} is set, and the role {role} has no such variable; it has {has}. {mend}"


def _url(name: str, upstream: str) -> Callable[[str, Mapping[str, Any]], Iterator[str]]:
    def check(host: str, given: Mapping[str, Any]) -> Iterator[str]:
        value = given.get(name, upstream)
        if value != upstream and not _URL.fullmatch(str(value)):
            mend = f"Leave it out for upstream ({upstream!r}), or give the mirror's address without a slash at its end."
            yield _problem(host, name, value, "http://host[:port] or https://host[:port]", mend)

    return check


def _network(host: str, name: str, value: object, longest: int) -> tuple[ipaddress.IPv4Network | None, list[str]]:
    mend = f"Take private addresses that nothing else here has, with a prefix of /{longest} or shorter."
    try:
        network = ipaddress.IPv4Network(str(value))
    except ValueError as error:
        return None, [_problem(host, name, value, f"an IPv4 network ({error})", mend)]
    if network.prefixlen > longest:
        return None, [_problem(host, name, value, f"a prefix of /{longest} or shorter", mend)]
    return network, []


def _addresses(host: str, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[str]:
    networks: dict[str, ipaddress.IPv4Network] = {}
    for name, longest in (("kubernetes_pod_cidr", _POD_PREFIX), ("kubernetes_service_cidr", _SERVICE_PREFIX)):
        network, problems = _network(host, name, given.get(name, defaults.get(name)), longest)
        yield from problems
        if network is not None:
            networks[name] = network
    if len(networks) == 2 and networks["kubernetes_pod_cidr"].overlaps(networks["kubernetes_service_cidr"]):  # noqa: PLR2004
        pods, services = (str(network) for network in networks.values())
        mend = "Change one of the two."
        yield _problem(host, "kubernetes_pod_cidr", pods, f"what is not in kubernetes_service_cidr ({services})", mend)
    for name in ("kubernetes_node_ip", "ansible_host"):
        if name not in given:
            continue
        try:
            address = ipaddress.IPv4Address(str(given[name]))
        except ValueError:
            if name == "kubernetes_node_ip":  # Ansible may also go by a name
                mend = "Give the address that the other hosts reach this one by, or leave it out."
                yield _problem(host, name, given[name], "an IPv4 address", mend)
            continue
        for other, network in networks.items():
            if address in network:
                mend = f"Choose another {other}."
                yield _problem(host, name, str(address), f"an address outside {other} ({network})", mend)


def _same(hosts: Mapping[str, Mapping[str, Any]], name: str) -> Iterator[str]:
    """What the whole cluster has to agree on."""
    found: dict[str, list[str]] = {}
    for host, given in hosts.items():
        found.setdefault(str(given.get(name, "the default")), []).append(host)
    if len(found) > 1:
        said = "; ".join(f"{value} on {', '.join(where)}" for value, where in found.items())
        yield f"{name} differs between hosts ({said}); allowed is one value. Set it once, in group_vars/all.yml."


def problems(
    hostvars: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Sequence[str]],
    roles: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """What is wrong in an inventory, each with variable, value, what is allowed and the mend.

    Args:
        hostvars: each host's variables, from the inventory alone.
        groups: each group's hosts.
        roles: each role's variables with their defaults.

    Returns:
        nothing when the inventory is sound.
    """
    found = list(_groups(groups))
    names = [*groups.get("control_plane", []), *groups.get("workers", [])]
    hosts = {name: hostvars[name] for name in dict.fromkeys(names)}
    checks = [_url("artifacts_base_url", "https:/"), _url("artifacts_image_mirror", "")]
    for host, given in hosts.items():
        found += _known(host, given, roles)
        for check in checks:
            found += check(host, given)
        found += _addresses(host, given, roles.get("kubernetes", {}))
    for name in ("artifacts_base_url", "kubernetes_pod_cidr", "kubernetes_service_cidr", "kubernetes_pin"):
        found += _same(hosts, name)
    return found


class FilterModule:
    """The filters of this file, as Ansible finds them."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"preflight_problems": problems}
