"""What is said of addresses that services cannot get."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

PATH = Path(__file__).parents[3] / "roles" / "metallb" / "filter_plugins" / "metallb.py"
FACTS = {
    "interfaces": ["lo", "eth0", "br-lan", "down"],
    "lo": {"ipv4": {"address": "127.0.0.1", "network": "127.0.0.0", "netmask": "255.0.0.0"}},
    "eth0": {"ipv4": {"address": "192.0.2.11", "network": "192.0.2.0", "netmask": "255.255.255.0"}},
    "br_lan": {"ipv4": {"address": "198.51.100.1", "network": "198.51.100.0", "netmask": "255.255.255.0"}},
}
TAKEN = {"node-1": "192.0.2.11", "node-2": "192.0.2.12"}


def _problems(*arguments: Any) -> list[str]:
    spec = importlib.util.spec_from_file_location("metallb_filter", PATH)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: list[str] = module.FilterModule().filters()["metallb_problems"](*arguments)
    return found


@pytest.mark.parametrize(
    "addresses",
    [["192.0.2.200-192.0.2.220"], ["192.0.2.240/28", "198.51.100.7-198.51.100.7"], ["192.0.2.200 - 192.0.2.220"]],
)
def test_free_addresses_of_the_hosts_networks_are_sound(addresses: list[str]) -> None:
    assert _problems(addresses, FACTS, TAKEN) == []


def test_networks_are_only_looked_at_where_they_are_known() -> None:
    assert _problems(["203.0.113.0/24"]) == []


@pytest.mark.parametrize(
    ("addresses", "said"),
    [
        ([], ["metallb_addresses is empty", "at least one range", "metallb_enabled: false"]),
        (["192.0.2.200"], []),
        (["192.0.2.220-192.0.2.200"], ["'192.0.2.220-192.0.2.200'", "it ends before it begins", "first-last"]),
        (["192.0.2.0/20"], ["'192.0.2.0/20'", "host bits set"]),
        (["node-1"], ["'node-1'", "first-last, such as 192.0.2.200-192.0.2.220"]),
        (
            ["203.0.113.5-203.0.113.9"],
            ["'203.0.113.5-203.0.113.9'", "192.0.2.0/24 (eth0), 198.51.100.0/24 (br-lan)", "Choose some of these."],
        ),
        (["192.0.2.250-192.0.3.5"], ["192.0.2.0/24 (eth0)"]),
        (["192.0.2.12-192.0.2.20"], ["192.0.2.12 is that of node-2", "Choose a range without it."]),
    ],
)
def test_other_addresses_are_named_with_the_mend(addresses: list[str], said: list[str]) -> None:
    found = " ".join(_problems(addresses, FACTS, TAKEN))
    assert bool(found) == bool(said)
    for text in said:
        assert text in found
