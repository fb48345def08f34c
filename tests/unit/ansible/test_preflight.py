"""What the preflight says of broken inventories: the variable, its value, what is allowed and the mend."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).parents[3] / "roles"


def _filters() -> dict[str, Any]:
    path = ROLES / "preflight" / "filter_plugins" / "preflight.py"
    spec = importlib.util.spec_from_file_location("preflight_filter", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[str, Any] = module.FilterModule().filters()
    return found


problems = _filters()["preflight_problems"]
OPTIONS = _filters()["preflight_options"](str(ROLES))


def _of(variables: dict[str, Any], *, workers: dict[str, dict[str, Any]] | None = None) -> list[str]:
    hosts = {"one": variables, **(workers or {})}
    groups = {"control_plane": ["one"], "workers": list(workers or {})}
    found: list[str] = problems(hosts, groups, OPTIONS)
    return found


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"artifacts_base_url": "https:/"},
        {"artifacts_base_url": "http://mirror.example:8780"},
        {"artifacts_image_mirror": "https://registry.example/team"},
        {"ansible_host": "192.0.2.11", "ansible_user": "debian"},
        {"ansible_host": "node.example"},
        {"kubernetes_pod_cidr": "10.20.0.0/16", "kubernetes_service_cidr": "10.21.0.0/16"},
        {"nodes_subnet": "172.18.0.0/16"},
    ],
)
def test_sound_inventories_have_no_problem(variables: dict[str, Any]) -> None:
    assert _of(variables) == []


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"artifacts_base_url": "mirror:8780"},
            ["artifacts_base_url", "'mirror:8780'", "http://host[:port]", "Leave it out"],
        ),
        ({"artifacts_base_url": "http://mirror/"}, ["'http://mirror/'", "without a slash at its end"]),
        ({"artifacts_image_mirror": "registry:5000"}, ["artifacts_image_mirror", "'registry:5000'", "upstream ('')"]),
        ({"kubernetes_pod_cidr": "10.0.0.0"}, ["kubernetes_pod_cidr", "'10.0.0.0'", "/22 or shorter"]),
        ({"kubernetes_pod_cidr": "10.1.2.3/16"}, ["kubernetes_pod_cidr", "host bits set", "Take private addresses"]),
        ({"kubernetes_pod_cidr": "fd00::/48"}, ["kubernetes_pod_cidr", "'fd00::/48'", "an IPv4 network"]),
        ({"kubernetes_service_cidr": "10.9.0.0/28"}, ["kubernetes_service_cidr", "'10.9.0.0/28'", "/24 or shorter"]),
        (
            {"kubernetes_pod_cidr": "10.96.0.0/16"},
            ["kubernetes_pod_cidr", "'10.96.0.0/16'", "not in kubernetes_service_cidr (10.96.0.0/12)", "Change one"],
        ),
        (
            {"ansible_host": "10.244.3.4"},
            ["ansible_host", "'10.244.3.4'", "outside kubernetes_pod_cidr (10.244.0.0/16)", "Choose another"],
        ),
        ({"kubernetes_node_ip": "node-1"}, ["kubernetes_node_ip", "'node-1'", "an IPv4 address", "leave it out"]),
        (
            {"kubernetes_pod_cdir": "10.1.0.0/16"},
            ["kubernetes_pod_cdir is set", "there are", "Write kubernetes_pod_cidr."],
        ),
        ({"kubernets_pod_cidr": "10.1.0.0/16"}, ["kubernets_pod_cidr is set", "Write kubernetes_pod_cidr."]),
        ({"artifact_base_url": "http://mirror"}, ["artifact_base_url is set", "Write artifacts_base_url."]),
        ({"containerd_zzz": 1}, ["containerd_zzz is set", "Take it out."]),
        ({"kubernetes_proxy_mode": "ipvs"}, ["kubernetes_proxy_mode", "'ipvs'", "one of nftables, iptables"]),
        ({"kubernetes_pin": "1.36"}, ["kubernetes_pin", "'1.36'", "one of kubernetes", "default (kubernetes)"]),
        ({"node_packages": "conntrack"}, ["node_packages", "'conntrack'", "a list of str", "default (["]),
        ({"preflight_min_cores": "many"}, ["preflight_min_cores", "'many'", "a whole number", "default (2)"]),
        ({"node_is_container": "perhaps"}, ["node_is_container", "'perhaps'", "true or false", "default (False)"]),
        ({"node_sysctls": ["a=1"]}, ["node_sysctls", "['a=1']", "a mapping"]),
        ({"kubernetes_kubeconfig": {"a": 1}}, ["kubernetes_kubeconfig", "{'a': 1}", "a path"]),
        (
            {"containerd_registries": {"http://registry": "registry"}},
            ["containerd_registries", "'http://registry: registry'", "before the first slash"],
        ),
        (
            {"kubernetes_endpoint": "https://api:6443"},
            ["kubernetes_endpoint", "'https://api:6443'", "without https://"],
        ),
        ({"kubernetes_endpoint": "api:66443"}, ["kubernetes_endpoint", "'api:66443'", "host[:port]"]),
        (
            {"kubernetes_endpoint": "10.244.0.9:6443"},
            ["kubernetes_endpoint", "'10.244.0.9:6443'", "outside kubernetes_pod_cidr"],
        ),
    ],
)
def test_a_wrong_value_is_named_with_its_mend(variables: dict[str, Any], said: list[str]) -> None:
    found = [problem.removeprefix("one: ") for problem in _of(variables)]
    (problem,) = dict.fromkeys(found)
    for text in said:
        assert text in problem


@pytest.mark.parametrize(
    ("addresses", "said"),
    [
        (["192.0.2.200"], ["'192.0.2.200'; allowed is first-last or a network of IPv4 addresses"]),
        (["192.0.2.220-192.0.2.200"], ["192.0.2.220 comes after 192.0.2.200"]),
        (["192.0.2.1/24"], ["host bits set"]),
        (
            ["10.244.255.250-10.245.0.5"],
            ["what is not in kubernetes_pod_cidr (10.244.0.0/16)", "Choose free addresses"],
        ),
        (["10.96.0.0/28"], ["what is not in kubernetes_service_cidr (10.96.0.0/12)"]),
        (
            ["192.0.2.10-192.0.2.20"],
            ["'192.0.2.10-192.0.2.20'; allowed is what no host has, and one, two have one of it"],
        ),
    ],
)
def test_load_balancers_have_addresses_of_their_own(addresses: list[str], said: list[str]) -> None:
    pool = {"metallb_addresses": addresses}
    options = {**OPTIONS, "metallb_addresses": {"type": "list", "elements": "str", "default": []}}
    hosts = {"one": {**pool, "ansible_host": "192.0.2.11"}, "two": {**pool, "kubernetes_node_ip": "192.0.2.12"}}
    (found,) = problems(hosts, {"control_plane": ["one"], "workers": ["two"]}, options)
    for text in ["metallb_addresses is", *said]:
        assert text in found


def test_a_cluster_that_is_there_needs_no_hosts() -> None:
    assert problems({"localhost": {}}, {}, OPTIONS, "~/.kube/config") == []
    (found,) = problems({"localhost": {"knative_pni": 1}}, {}, {**OPTIONS, "knative_pin": {"type": "str"}}, "config")
    assert found.startswith("localhost: knative_pni is set")


def test_a_cluster_has_a_control_plane() -> None:
    (none,) = problems({}, {"workers": []}, OPTIONS)
    assert "group control_plane has no host; allowed is one, or several with kubernetes_endpoint" in none
    assert "Name the host of the control plane there" in none


def test_several_control_planes_need_an_endpoint() -> None:
    groups = {"control_plane": ["a", "b"]}
    (missing,) = problems({"a": {}, "b": {}}, groups, OPTIONS)
    assert "kubernetes_endpoint is ''; allowed is host[:port]" in missing
    assert "2 hosts (a, b): set it in group_vars/all.yml" in missing
    given = {"kubernetes_endpoint": "api.example:6443"}
    assert problems({"a": given, "b": given}, groups, OPTIONS) == []
    (differ,) = problems({"a": given, "b": {"kubernetes_endpoint": "10.0.0.9"}}, groups, OPTIONS)
    assert "kubernetes_endpoint differs between hosts (api.example:6443 on a; 10.0.0.9 on b)" in differ


def test_a_misspelt_group_is_found() -> None:
    (found,) = problems({"a": {}, "b": {}}, {"all": ["a", "b"], "control_plane": ["a"], "worker": ["b"]}, OPTIONS)
    assert "group worker (b) is none that a playbook reads; allowed are control_plane and workers" in found
    assert found.endswith("Write workers.")
    assert problems({"a": {}, "b": {}}, {"control_plane": ["a"], "bastions": ["b"]}, OPTIONS) == []


@pytest.mark.parametrize("name", ["ansible_host", "kubernetes_node_ip"])
def test_an_address_belongs_to_one_host(name: str) -> None:
    given = {name: "192.0.2.11"}
    (found,) = _of(given, workers={"two": given, "three": {name: "192.0.2.12"}})
    assert found.startswith(f"one, two: {name} is '192.0.2.11' on each; allowed is an address of its own.")


def test_hosts_behind_one_address_differ_by_port() -> None:
    assert (
        _of({"ansible_host": "h", "ansible_port": 1}, workers={"two": {"ansible_host": "h", "ansible_port": 2}}) == []
    )


def test_a_host_is_not_both() -> None:
    (both,) = problems({"a": {}}, {"control_plane": ["a"], "workers": ["a"]}, OPTIONS)
    assert "a is in the groups control_plane and workers" in both
    assert "Take it out of workers" in both


def test_hosts_agree_on_what_is_the_clusters() -> None:
    (differ,) = _of({}, workers={"two": {"kubernetes_pod_cidr": "10.1.0.0/16"}})
    assert "kubernetes_pod_cidr differs between hosts (the default on one; 10.1.0.0/16 on two)" in differ
    assert "group_vars/all.yml" in differ


def test_what_is_wrong_on_all_hosts_is_said_once() -> None:
    wrong = {"kubernetes_pod_cidr": "x"}
    (found,) = _of(wrong, workers={"two": wrong})
    assert found.startswith("one, two: kubernetes_pod_cidr is 'x'")


def test_all_problems_are_said_at_once() -> None:
    found = _of(
        {"kubernetes_pod_cidr": "x", "kubernetes_service_cidr": "y"}, workers={"two": {"artifacts_base_url": "z"}}
    )
    assert [problem.partition(" is ")[0] for problem in found[:3]] == [
        "one: kubernetes_pod_cidr",
        "one: kubernetes_service_cidr",
        "two: artifacts_base_url",
    ]


def test_every_role_tells_its_variables() -> None:
    assert {name.partition("_")[0] for name in OPTIONS} >= {path.name.partition("_")[0] for path in ROLES.iterdir()}


def test_the_play_stops_before_any_host_is_contacted(tmp_path: Path) -> None:
    """A value that only a host can tell does not stand in the way; the rest is said by Ansible itself."""
    (tmp_path / "hosts.yml").write_text(
        yaml.safe_dump(
            {
                "all": {
                    "vars": {
                        "kubernetes_node_ip": "{{ ansible_facts.eth1.ipv4.address }}",
                        "node_modules": ["overlay", "{{ ansible_facts.kernel }}"],
                        "artifacts_base_url": "{{ where }}",
                        "where": "mirror:8780",
                        "preflight_min_cores": "many",
                    },
                    "children": {"control_plane": {"hosts": {"one": {"ansible_host": "192.0.2.11"}}}},
                }
            }
        )
    )
    play = Path(sys.executable).parent / "ansible-playbook"
    environment = {**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json", "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(
        [play, "--inventory", tmp_path, "playbooks/preflight.yml"],
        cwd=ROLES.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "one: artifacts_base_url is 'mirror:8780'; allowed is http://host[:port]" in done.stdout
    assert "one: preflight_min_cores is 'many'; allowed is a whole number" in done.stdout
    assert "Check the hosts" not in done.stdout
    assert "kubernetes_node_ip is" not in done.stdout


@pytest.mark.parametrize("name", ["kind", "local", "sample"])
def test_the_inventories_that_come_with_it_are_sound(name: str) -> None:
    command = Path(sys.executable).parent / "ansible-inventory"
    done = subprocess.run(
        [command, "--inventory", ROLES.parent / "inventory" / name, "--list", "--export"],
        cwd=ROLES.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout)
    shared = said["all"].get("vars", {})
    groups = {group: its["hosts"] for group, its in said.items() if "hosts" in its}
    hosts = {host: {**shared, **said["_meta"]["hostvars"].get(host, {})} for each in groups.values() for host in each}
    kubeconfig = shared.get("kubernetes_kubeconfig", "")
    assert bool(hosts) != bool(kubeconfig)
    assert problems({"localhost": shared, **hosts}, groups, OPTIONS, kubeconfig) == []
