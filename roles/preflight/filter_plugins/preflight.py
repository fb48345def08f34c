# ruff: noqa: INP001 # Ansible finds it by its folder
"""Filters that find what is wrong in an inventory, without contacting a host."""

from __future__ import annotations

import contextlib
import difflib
import ipaddress
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from jinja2 import Undefined, UndefinedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_URL = re.compile(r"https?://[^\s/]+(/[^\s/]+)*")
_REGISTRY = re.compile(r"[^\s/:]+(:\d+)?")
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_ENDPOINT = re.compile(rf"{_LABEL}(\.{_LABEL})*(:(?P<port>\d{{1,5}}))?")
# Addresses of pods are handed out to nodes by /24.
_POD_PREFIX = 22
_SERVICE_PREFIX = 24
_CONTROL_PLANE, _WORKERS = "control_plane", "workers"
_KNOWN_GROUPS = ("all", "ungrouped", _CONTROL_PLANE, _WORKERS)
# What several roles read.
_SHARED = {
    "artifacts_base_url": {"type": "str", "default": "https:/"},
    "artifacts_image_mirror": {"type": "str", "default": ""},
}
# What the hosts of one cluster have to agree on.
_CLUSTERS_OWN = (
    "artifacts_base_url",
    "kubernetes_endpoint",
    "kubernetes_pin",
    "kubernetes_pod_cidr",
    "kubernetes_proxy_mode",
    "kubernetes_service_cidr",
)
# How much alike two names are when one is the other misspelt.
_ALIKE = 0.85
_WORDS = {"bool": "true or false", "int": "a whole number", "list": "a list", "dict": "a mapping", "str": "text"}

Options = Mapping[str, Mapping[str, Any]]
Given = Mapping[str, Any]


class _Later:
    """Stands for a value that only a host can tell."""


def _undefined(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(map(_undefined, value.values()))
    return isinstance(value, Undefined) or (isinstance(value, list) and any(map(_undefined, value)))


def _value(given: Given, name: str, default: object = None) -> object:
    """A variable's value, or _Later where it is made of what a host says of itself."""
    try:
        value = given.get(name, default)
        return _Later if _undefined(value) else value
    except (AnsibleError, UndefinedError):
        return _Later


def _text(value: object) -> str:
    return repr(str(value)) if isinstance(value, str) else repr(value)


def _problem(name: str, value: object, allowed: str, mend: str) -> str:
    return f"{name} is {_text(value)}; allowed is {allowed}. {mend}"


def _groups(groups: Mapping[str, Sequence[str]], kubeconfig: str) -> Iterator[str]:
    control = groups.get(_CONTROL_PLANE, [])
    if not control and (groups.get(_WORKERS) or not kubeconfig):
        yield (
            f"group {_CONTROL_PLANE} has no host; allowed is one, or several with kubernetes_endpoint."
            f" Name the host of the control plane there, and the others in the group {_WORKERS}. For a cluster that is"
            " there already, leave both groups out and set kubernetes_kubeconfig."
        )
    for host in control:
        if host in groups.get(_WORKERS, []):
            yield (
                f"{host} is in the groups {_CONTROL_PLANE} and {_WORKERS}; allowed is one of them."
                f" Take it out of {_WORKERS}; with no workers at all, ordinary pods run on the control plane."
            )
    for name in groups:
        near = [] if name in _KNOWN_GROUPS else difflib.get_close_matches(name, _KNOWN_GROUPS, n=1, cutoff=_ALIKE)
        if near and groups[name]:
            hosts = ", ".join(groups[name])
            allowed = f"{_CONTROL_PLANE} and {_WORKERS}"
            yield f"group {name} ({hosts}) is none that a playbook reads; allowed are {allowed}. Write {near[0]}."


def _known(given: Given, options: Options) -> Iterator[str]:
    """Variables that nothing reads: misspelt, or of a role that has no such one."""
    prefixes = {name.partition("_")[0] for name in options}
    for name in sorted(given):
        # What a role has noted stands beside the inventory's where playbooks follow each other.
        if name in options or name.startswith(("ansible_", "_")):
            continue
        prefix, _, end = name.partition("_")
        if prefix in prefixes:
            ends = [known.partition("_")[2] for known in options if known.startswith(f"{prefix}_")]
            near = [f"{prefix}_{found}" for found in difflib.get_close_matches(end, ends, n=1)]
        elif near := difflib.get_close_matches(name, options, n=1, cutoff=_ALIKE):
            prefix = near[0].partition("_")[0]
        else:
            continue  # the user's own
        has = ", ".join(known for known in options if known.startswith(f"{prefix}_"))
        mend = f"Write {near[0]}." if near else "Take it out."
        yield f"{name} is set, and nothing reads a variable of this name; there are {has}. {mend}"


def _plain(value: object) -> object:
    """A value without Ansible's templating, of which a copy drags along every fact of every host: minutes of them."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(one) for one in value]
    return value


def _fits(spec: Mapping[str, Any], value: object) -> bool:
    kind = spec["type"]
    if kind in ("list", "dict"):  # Ansible would take text and split it; roles do not
        shape = Mapping if kind == "dict" else Sequence
        if not isinstance(value, shape) or isinstance(value, str):
            return False
    elif isinstance(value, Mapping) or (isinstance(value, Sequence) and not isinstance(value, str)):
        return False
    return not ArgumentSpecValidator({"it": dict(spec)}).validate({"it": _plain(value)}).error_messages


def _types(given: Given, options: Options) -> Iterator[str]:
    for name, spec in options.items():
        value = _value(given, name, _Later)
        if value is _Later or value is None or _fits(spec, value):
            continue
        word = _WORDS.get(spec["type"], f"a {spec['type']}")
        if "elements" in spec:
            word += f" of {spec['elements']}"
        choices = spec.get("choices")
        allowed = f"one of {', '.join(map(str, choices))}" if choices else word
        yield _problem(name, value, allowed, f"Write one, or leave it out for the default ({spec.get('default')}).")


def _url(name: str, upstream: str, given: Given) -> Iterator[str]:
    value = _value(given, name, upstream)
    if value not in (upstream, _Later) and not _URL.fullmatch(str(value)):
        mend = f"Leave it out for upstream ({upstream!r}), or give the mirror's address without a slash at its end."
        yield _problem(name, value, "http://host[:port] or https://host[:port]", mend)


def _registries(given: Given) -> Iterator[str]:
    value = _value(given, "containerd_registries", {})
    for name, address in value.items() if isinstance(value, Mapping) else ():
        if not _REGISTRY.fullmatch(str(name)) or not _URL.fullmatch(str(address)):
            mend = "Write the part of image names before the first slash, and the address that serves them."
            allowed = "host[:port]: http://host[:port] or https://host[:port]"
            yield _problem("containerd_registries", f"{name}: {address}", allowed, mend)


def _network(name: str, value: object, longest: int) -> tuple[ipaddress.IPv4Network | None, list[str]]:
    mend = f"Take private addresses that nothing else here has, with a prefix of /{longest} or shorter."
    try:
        network = ipaddress.IPv4Network(str(value))
    except ValueError as error:
        return None, [_problem(name, value, f"an IPv4 network ({error})", mend)]
    if network.prefixlen > longest:
        return None, [_problem(name, value, f"a prefix of /{longest} or shorter", mend)]
    return network, []


def _addresses(given: Given, options: Options) -> Iterator[str]:
    networks: dict[str, ipaddress.IPv4Network] = {}
    for name, longest in (("kubernetes_pod_cidr", _POD_PREFIX), ("kubernetes_service_cidr", _SERVICE_PREFIX)):
        value = _value(given, name, options[name]["default"])
        network, problems = _network(name, value, longest)
        yield from problems
        if network is not None:
            networks[name] = network
    if len(networks) == 2 and networks["kubernetes_pod_cidr"].overlaps(networks["kubernetes_service_cidr"]):  # noqa: PLR2004
        pods, services = (str(network) for network in networks.values())
        mend = "Change one of the two."
        yield _problem("kubernetes_pod_cidr", pods, f"what is not in kubernetes_service_cidr ({services})", mend)
    for name in ("kubernetes_node_ip", "ansible_host", "kubernetes_endpoint"):
        value = _value(given, name)
        if value in (None, "", _Later):
            continue
        try:
            address = ipaddress.IPv4Address(
                str(value).partition(":")[0] if name == "kubernetes_endpoint" else str(value)
            )
        except ValueError:
            if name == "kubernetes_node_ip":  # the others may also be names
                mend = "Give the address that the other hosts reach this one by, or leave it out."
                yield _problem(name, value, "an IPv4 address", mend)
            continue
        for other, network in networks.items():
            if address in network:
                mend = f"Choose another {other}."
                yield _problem(name, str(value), f"an address outside {other} ({network})", mend)


def _range(text: str) -> tuple[ipaddress.IPv4Address, ipaddress.IPv4Address]:
    """First and last address of ``first-last`` or of a network."""
    if "/" in text:
        network = ipaddress.IPv4Network(text)
        return network[0], network[-1]
    first, last = (ipaddress.IPv4Address(end.strip()) for end in text.split("-"))
    if first > last:
        raise ValueError(f"{first} comes after {last}")
    return first, last


def _ranges(value: object) -> Iterator[tuple[str, ipaddress.IPv4Address, ipaddress.IPv4Address]]:
    for text in value if isinstance(value, list) else []:
        with contextlib.suppress(ValueError):
            yield str(text), *_range(str(text))


def _pool(given: Given, options: Options) -> Iterator[str]:
    """Addresses of load balancers: nothing else may have them."""
    value = _value(given, "metallb_addresses", [])
    mend = "Choose free addresses of the nodes' own network."
    for text in value if isinstance(value, list) else []:
        try:
            _range(str(text))
        except ValueError as error:
            yield _problem("metallb_addresses", text, f"first-last or a network of IPv4 addresses ({error})", mend)
    for name in ("kubernetes_pod_cidr", "kubernetes_service_cidr"):
        with contextlib.suppress(ValueError):
            network = ipaddress.IPv4Network(str(_value(given, name, options[name]["default"])))
            for text, first, last in _ranges(value):
                if first <= network[-1] and network[0] <= last:
                    yield _problem("metallb_addresses", text, f"what is not in {name} ({network})", mend)


def _pool_takes_hosts(hosts: Mapping[str, Given]) -> Iterator[str]:
    found: dict[str, set[str]] = {}
    for given in hosts.values():
        for text, first, last in _ranges(_value(given, "metallb_addresses", [])):
            for host, its in hosts.items():
                for name in ("ansible_host", "kubernetes_node_ip"):
                    with contextlib.suppress(ValueError):
                        if first <= ipaddress.IPv4Address(str(_value(its, name))) <= last:
                            found.setdefault(text, set()).add(host)
    for text, taken in found.items():
        allowed = f"what no host has, and {', '.join(sorted(taken))} {'has' if len(taken) == 1 else 'have'} one of it"
        yield _problem("metallb_addresses", text, allowed, "Choose free addresses of the nodes' own network.")


def _of_host(given: Given, options: Options) -> Iterator[str]:
    yield from _known(given, options)
    yield from _types(given, options)
    yield from _url("artifacts_base_url", "https:/", given)
    yield from _url("artifacts_image_mirror", "", given)
    yield from _registries(given)
    yield from _addresses(given, options)
    yield from _pool(given, options)


def _endpoint(hosts: Mapping[str, Given], control: Sequence[str]) -> Iterator[str]:
    """The address of the API that outlives each single control-plane node."""
    allowed = "host[:port], a name or an address that leads to every control-plane node"
    values = {host: _value(hosts[host], "kubernetes_endpoint", "") for host in control}
    if len(control) > 1 and "" in values.values():
        mend = (
            f"The group {_CONTROL_PLANE} has {len(control)} hosts ({', '.join(control)}): set it in group_vars/all.yml"
            f" to a DNS name, virtual address or load balancer, or leave one host in {_CONTROL_PLANE}."
        )
        yield _problem("kubernetes_endpoint", "", allowed, mend)
    for value in dict.fromkeys(values.values()):
        found = _ENDPOINT.fullmatch(str(value))
        if value not in ("", _Later) and (found is None or not 0 < int(found["port"] or 6443) < 65536):  # noqa: PLR2004 # ports
            yield _problem("kubernetes_endpoint", value, allowed, "Write it without https:// and in small letters.")


def _twice(hosts: Mapping[str, Given]) -> Iterator[str]:
    """Addresses that two hosts have."""
    for name in ("ansible_host", "kubernetes_node_ip"):
        values = {host: _value(given, name) for host, given in hosts.items()}
        # On one address, hosts may still differ by port.
        keys = {
            host: (str(value), str(_value(hosts[host], "ansible_port", "")) if name == "ansible_host" else "")
            for host, value in values.items()
            if value not in (None, _Later)
        }
        for key, count in Counter(keys.values()).items():
            if count > 1:
                same = ", ".join(host for host, its in keys.items() if its == key)
                yield f"{same}: {name} is {key[0]!r} on each; allowed is an address of its own. Mend the wrong one."


def _same(hosts: Mapping[str, Given], name: str) -> Iterator[str]:
    """What the whole cluster has to agree on."""
    found: dict[str, list[str]] = {}
    for host, given in hosts.items():
        found.setdefault(str(_value(given, name, "the default")), []).append(host)
    if len(found) > 1:
        said = "; ".join(f"{value} on {', '.join(where)}" for value, where in found.items())
        yield f"{name} differs between hosts ({said}); allowed is one value. Set it once, in group_vars/all.yml."


def options_of(folder: str) -> dict[str, dict[str, Any]]:
    """Every variable that a role in this folder reads, with its argument spec: type, choices, default."""
    found: dict[str, dict[str, Any]] = dict(_SHARED)
    for path in sorted(Path(folder).glob("*/meta/argument_specs.yml")):
        for spec in yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"].values():
            found |= spec.get("options", {})
    return found


def problems(
    hostvars: Mapping[str, Given], groups: Mapping[str, Sequence[str]], options: Options, kubeconfig: str = ""
) -> list[str]:
    """What is wrong in an inventory, each with variable, value, what is allowed and the mend.

    Args:
        hostvars: each host's variables, from the inventory alone.
        groups: each group's hosts.
        options: every variable that is read, with its argument spec.
        kubeconfig: that of a cluster which is there already, where the inventory has no hosts.

    Returns:
        nothing when the inventory is sound.
    """
    found = list(_groups(groups, kubeconfig))
    control = groups.get(_CONTROL_PLANE, [])
    names = list(dict.fromkeys([*control, *groups.get(_WORKERS, [])]))
    hosts = {name: hostvars[name] for name in names or (["localhost"] if kubeconfig else [])}
    # What is wrong on many hosts is said once.
    said: dict[str, list[str]] = {}
    for host, given in hosts.items():
        for problem in _of_host(given, options):
            said.setdefault(problem, []).append(host)
    found += [f"{', '.join(where)}: {problem}" for problem, where in said.items()]
    found += [*_endpoint(hosts, control), *_twice(hosts), *_pool_takes_hosts(hosts)]
    for name in _CLUSTERS_OWN:
        found += _same(hosts, name)
    return found


class FilterModule:
    """The filters of this file, as Ansible finds them."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"preflight_options": options_of, "preflight_problems": problems}
