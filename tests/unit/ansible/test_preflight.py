"""What the preflight says of broken inventories: the variable, its value, what is allowed and the mend."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).parents[3] / "roles"
NAMES = ("preflight", "node", "containerd", "kubernetes", "flannel")
DEFAULTS = {name: yaml.safe_load((ROLES / name / "defaults" / "main.yml").read_text()) for name in NAMES}


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


def _of(variables: dict[str, Any], *, workers: dict[str, dict[str, Any]] | None = None) -> list[str]:
    hosts = {"one": variables, **(workers or {})}
    groups = {"control_plane": ["one"], "workers": list(workers or {})}
    found: list[str] = problems(hosts, groups, DEFAULTS)
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
            ["kubernetes_pod_cdir is set", "Write kubernetes_pod_cidr."],
        ),
        ({"containerd_zzz": 1}, ["containerd_zzz", "no such variable", "Take it out."]),
    ],
)
def test_a_wrong_value_is_named_with_its_mend(variables: dict[str, Any], said: list[str]) -> None:
    (problem,) = _of(variables)
    assert problem.startswith("one: ")
    for text in said:
        assert text in problem


def test_a_cluster_has_exactly_one_control_plane() -> None:
    (none,) = problems({}, {"workers": []}, DEFAULTS)
    assert "control_plane has 0 hosts (none); allowed is exactly one" in none
    (two,) = problems({"a": {}, "b": {}}, {"control_plane": ["a", "b"]}, DEFAULTS)
    assert "control_plane has 2 hosts (a, b)" in two


def test_a_host_is_not_both() -> None:
    (both,) = problems({"a": {}}, {"control_plane": ["a"], "workers": ["a"]}, DEFAULTS)
    assert "a is in the groups control_plane and workers" in both
    assert "Take it out of workers" in both


def test_hosts_agree_on_what_is_the_clusters() -> None:
    (differ,) = _of({}, workers={"two": {"kubernetes_pod_cidr": "10.1.0.0/16"}})
    assert "kubernetes_pod_cidr differs between hosts (the default on one; 10.1.0.0/16 on two)" in differ
    assert "group_vars/all.yml" in differ


def test_all_problems_are_said_at_once() -> None:
    found = _of(
        {"kubernetes_pod_cidr": "x", "kubernetes_service_cidr": "y"}, workers={"two": {"artifacts_base_url": "z"}}
    )
    assert [problem.partition(" is ")[0] for problem in found[:3]] == [
        "one: kubernetes_pod_cidr",
        "one: kubernetes_service_cidr",
        "two: artifacts_base_url",
    ]
