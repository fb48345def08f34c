"""Which hosts are which nodes, what a cluster was made with, and how long a node may take to be drained."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.unit.ansible.plays import REPOSITORY, local, play, tasks_of

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

TASKS = REPOSITORY / "roles" / "kubernetes" / "tasks"


def _nodes_of_hosts(hosts: list[dict[str, Any]], nodes: list[dict[str, Any]]) -> dict[str, str]:
    path = REPOSITORY / "roles" / "kubernetes" / "filter_plugins" / "kubernetes.py"
    spec = importlib.util.spec_from_file_location("kubernetes_filter", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[str, str] = module.FilterModule().filters()["nodes_of_hosts"](hosts, nodes)
    return found


def _node(name: str, *addresses: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"addresses": [{"address": address} for address in addresses]}}


def _host(name: str, nodename: str = "", **variables: str) -> dict[str, Any]:
    return {"inventory_hostname": name, "ansible_facts": {"nodename": nodename} if nodename else {}, **variables}


@pytest.mark.parametrize(
    ("host", "node"),
    [
        (_host("node-1"), "node-1"),
        (_host("Node-1"), "node-1"),
        (_host("first", "Node-1"), "node-1"),
        # What a host says of itself counts, not what the inventory calls it.
        (_host("node-1", "other"), ""),
        (_host("first", ansible_host="192.0.2.1"), "node-1"),
        (_host("first", kubernetes_node_ip="192.0.2.1", ansible_host="bastion.example"), "node-1"),
        (_host("first", "renamed", ansible_host="192.0.2.1"), "node-1"),
        ({**_host("first"), "ansible_facts": {"default_ipv4": {"address": "192.0.2.1"}}}, "node-1"),
        (_host("first", ansible_host="192.0.2.9"), ""),
        (_host("first"), ""),
    ],
)
def test_a_hosts_node_is_found_by_name_or_by_address(host: dict[str, Any], node: str) -> None:
    nodes = [_node("node-1", "192.0.2.1", "node-1"), _node("node-2", "192.0.2.2"), {"metadata": {"name": "bare"}}]
    assert _nodes_of_hosts([host], nodes) == {host["inventory_hostname"]: node}


def test_an_address_that_another_host_has_now_is_not_the_lost_ones() -> None:
    hosts = [_host("lost", ansible_host="192.0.2.1"), _host("node-2", ansible_host="192.0.2.1")]
    assert _nodes_of_hosts(hosts, [_node("node-2", "192.0.2.1")]) == {"lost": "", "node-2": "node-2"}


def _stand_in(tmp_path: Path, options: tuple[str, ...], answers: list[dict[str, Any]], seconds: int = 0) -> Path:
    """Where a module notes its parameters, a line each time; it answers so, after a while, and the last stays."""
    library = tmp_path / "library"
    library.mkdir()
    asked = tmp_path / "asked"
    asked.touch()
    (library / "stand_in.py").write_text(
        "import json, pathlib, time\n"
        "from ansible.module_utils.basic import AnsibleModule\n"
        f"module = AnsibleModule({ {name: {'type': 'raw'} for name in options} })\n"
        f"asked, answers = pathlib.Path({str(asked)!r}), {answers}\n"
        "before = asked.read_text()\n"
        "asked.write_text(before + json.dumps(module.params) + chr(10))\n"
        f"time.sleep(min({seconds}, (module.params.get('delete_options') or {{}}).get('wait_timeout', 0)))\n"
        "answer = answers[min(before.count(chr(10)), len(answers) - 1)]\n"
        "module.fail_json(**answer) if answer.get('failed') else module.exit_json(**answer)\n"
    )
    return asked


def _with_stand_in(file: str) -> str:
    """A file of tasks in which that module stands for each that talks to a cluster."""
    return re.sub(r"kubernetes\.core\.\w+:", "stand_in:", (TASKS / file).read_text())


def _play(tmp_path: Path, tasks: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    playbook = local(yaml.safe_load(tasks), kubernetes_kubeconfig="/nowhere", **variables)
    return play(tmp_path, playbook, environment={"ANSIBLE_LIBRARY": str(tmp_path / "library")})


def _drain(tmp_path: Path, answer: dict[str, Any], seconds: int = 0) -> tuple[str, list[str]]:
    """What is said of a node that answers so, each time after a while, for 10 s, and for which pods it was asked."""
    asked = _stand_in(tmp_path, ("delete_options", "kubeconfig", "name", "pod_selectors", "state"), [answer], seconds)
    (tmp_path / "evict.yml").write_text(_with_stand_in("evict.yml"))
    (tmp_path / "settle.yml").write_text("- ansible.builtin.meta: noop\n")
    done = _play(
        tmp_path,
        (TASKS / "drain.yml").read_text(),
        kubernetes_drain_disable_eviction=False,
        kubernetes_drain_timeout=10,
        _kubernetes_drained="node-1",
    )
    return done.stdout, [",".join(json.loads(line)["pod_selectors"]) for line in asked.read_text().splitlines()]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            {"warnings": ["timeout reached while pods were still running."]},
            "pods are still there: `kubectl get pods -A --field-selector spec.nodeName=node-1`.",
        ),
        (
            {"failed": True, "msg": "Failed to delete pod a/b due to: budget"},
            "Failed to delete pod a/b due to: budget.",
        ),
    ],
)
def test_a_node_that_does_not_empty_is_named_with_what_stays(tmp_path: Path, answer: dict[str, Any], said: str) -> None:
    output, asked = _drain(tmp_path, answer)
    assert f"Node node-1 is not empty after 10 s (kubernetes_drain_timeout): {said}" in output
    # What comes after Knative's pods stays.
    assert len(asked) > 1
    assert set(asked) == {"serving.knative.dev/service"}


def test_a_node_is_not_asked_again_when_the_time_is_over(tmp_path: Path) -> None:
    """4 s, a pause of 5 s, and 4 s once more: the time that each question takes counts, too."""
    output, asked = _drain(tmp_path, {"warnings": ["timeout reached while pods were still running."]}, seconds=4)
    assert "Node node-1 is not empty after 10 s" in output
    assert len(asked) <= 2


def test_a_node_that_is_empty_is_left_at_once(tmp_path: Path) -> None:
    output, asked = _drain(tmp_path, {"result": "node node-1 marked unschedulable."})
    assert "failed=0" in output
    assert "Say what does not go" not in output
    assert asked == ["serving.knative.dev/service", ""]


def _settled(tmp_path: Path, answers: list[dict[str, Any]]) -> tuple[int, list[list[str] | None]]:
    """How it ends that a node's pods are let begin, and what was asked of which pods; these are the answers."""
    asked = _stand_in(tmp_path, ("field_selectors", "kind", "kubeconfig", "name", "state"), answers)
    tasks = _with_stand_in("settle.yml").replace("delay: 2", "delay: 0").replace("delay: 5", "delay: 0")
    done = _play(tmp_path, tasks, _kubernetes_drained="node-1")
    return done.returncode, [json.loads(line)["field_selectors"] for line in asked.read_text().splitlines()]


CORDONED, NONE_BEGINS, ONE_BEGINS = {"changed": True}, {"resources": []}, {"resources": [{"kind": "Pod"}]}
AWAY = {"failed": True, "msg": "Connection refused"}


def test_pods_of_a_node_that_is_to_be_drained_may_begin(tmp_path: Path) -> None:
    returned, asked = _settled(tmp_path, [CORDONED, ONE_BEGINS, AWAY, ONE_BEGINS, NONE_BEGINS])
    assert (returned, asked[0], len(asked)) == (0, None, 5)
    assert {tuple(each or ()) for each in asked[1:]} == {("spec.nodeName=node-1", "status.phase=Pending")}


def test_an_api_server_that_has_just_been_upgraded_may_be_away_when_its_node_is_to_be_drained(tmp_path: Path) -> None:
    returned, asked = _settled(tmp_path, [AWAY, AWAY, CORDONED, NONE_BEGINS])
    assert (returned, len(asked)) == (0, 4)


def test_pods_that_never_begin_are_not_waited_for_without_end(tmp_path: Path) -> None:
    returned, asked = _settled(tmp_path, [CORDONED, ONE_BEGINS])
    assert returned == 0
    assert len(asked) > 2


def _upgraded(tmp_path: Path, answers: list[dict[str, Any]], *, control_plane: bool) -> tuple[int, int]:
    """How a wait for an upgraded node ends, and how often it asks, where these are the answers; the last one stays."""
    asked = _stand_in(tmp_path, ("kubeconfig", "kind", "name"), answers)
    done = _play(
        tmp_path,
        _with_stand_in("upgraded.yml").replace("pause: 2", "pause: 0").replace("delay: 5", "delay: 0"),
        _kubernetes_node_name="node-1",
        _kubernetes_is_control_plane=control_plane,
        _kubernetes_wanted="v2.1.0",
    )
    return done.returncode, len(asked.read_text().splitlines())


def _as_of(version: str, ready: str = "True") -> dict[str, Any]:
    status = {"nodeInfo": {"kubeletVersion": version}, "conditions": [{"type": "Ready", "status": ready}]}
    return {"resources": [{"status": status}]}


def test_an_upgraded_worker_is_taken_once_it_is_ready(tmp_path: Path) -> None:
    answers = [_as_of("v2.0.9"), _as_of("v2.1.0", "False"), _as_of("v2.1.0")]
    assert _upgraded(tmp_path, answers, control_plane=False) == (0, 3)


def test_an_api_server_that_goes_after_its_node_was_ready_is_waited_for(tmp_path: Path) -> None:
    answers = [_as_of("v2.1.0"), AWAY, _as_of("v2.1.0", "Unknown"), _as_of("v2.1.0")]
    assert _upgraded(tmp_path, answers, control_plane=True) == (0, 12)


def _made_with(tmp_path: Path, **changed: str) -> str:
    """What is said where these variables are others than those of a cluster that has the defaults."""
    (check,) = tasks_of("roles/kubernetes/tasks/made_with.yml", "Check what stays")
    made = {"networking": {"podSubnet": "10.244.0.0/16", "serviceSubnet": "10.96.0.0/12"}}
    maps = [{"ClusterConfiguration": json.dumps(made)}, {"config.conf": json.dumps({"mode": "nftables"})}]
    variables = yaml.safe_load((TASKS.parent / "defaults" / "main.yml").read_text())
    variables |= yaml.safe_load((TASKS.parent / "vars" / "main.yml").read_text())
    variables["__kubernetes_made_with"] = {"results": [{"resources": [{"data": data}]} for data in maps]}
    return play(tmp_path, local([check], **{**variables, **changed})).stdout


def test_what_the_cluster_was_made_with_is_taken(tmp_path: Path) -> None:
    assert "failed=0" in _made_with(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "made"),
    [
        ("kubernetes_pod_cidr", "10.20.0.0/16", "10.244.0.0/16"),
        ("kubernetes_service_cidr", "10.21.0.0/16", "10.96.0.0/12"),
        ("kubernetes_proxy_mode", "iptables", "nftables"),
        ("kubernetes_endpoint", "api.example:6443", ""),
    ],
)
def test_what_the_cluster_was_not_made_with_is_refused(tmp_path: Path, name: str, value: str, made: str) -> None:
    said = _made_with(tmp_path, **{name: value})
    assert f"{name} is '{value}'; allowed is what the cluster was made with: '{made}'" in said


def _same_cluster(tmp_path: Path, here: str, there: str) -> str:
    """What is said of a node that trusts one file of certificates, where the control plane has the other."""
    (check,) = tasks_of("roles/kubernetes/tasks/state.yml", "Check that it is a node of this cluster")
    variables: dict[str, Any] = {"_kubernetes_member": True, "_kubernetes_founder": "node-1"}
    for name, text in (("__kubernetes_trusted", here), ("__kubernetes_founders", there)):
        variables[name] = {"content": base64.b64encode(text.encode()).decode()} if text else {"failed": False}
    return play(tmp_path, local([check], **variables)).stdout


ONE, TWO = (f"-----BEGIN CERTIFICATE-----\n{text}\n{text}\n-----END CERTIFICATE-----\n" for text in ("MIIa", "MIIb"))


@pytest.mark.parametrize("there", [ONE, f"CN = kubernetes\n{ONE}", TWO + ONE])
def test_a_node_that_trusts_the_clusters_authority_is_one_of_its(tmp_path: Path, there: str) -> None:
    assert "failed=0" in _same_cluster(tmp_path, ONE, there)


@pytest.mark.parametrize(("there", "said"), [(TWO, "has another certificate"), ("", "is not yet")])
def test_a_node_of_another_cluster_is_refused(tmp_path: Path, there: str, said: str) -> None:
    found = _same_cluster(tmp_path, ONE, there)
    assert f"of another cluster than that of node-1, where /etc/kubernetes/pki/ca.crt {said}. Allowed is" in found
    assert "playbooks/reset.yml --limit localhost -e reset_confirm=yes" in found


@pytest.mark.parametrize(
    ("found", "member", "broken_off"),
    [
        ([], False, False),
        (["kubelet.conf"], True, False),
        (["kubelet.conf", "kubeadm-join.yaml"], False, True),
        (["kubeadm-init.unfinished"], False, True),
    ],
)
def test_a_start_that_was_broken_off_makes_no_node(
    tmp_path: Path, found: list[str], *, member: bool, broken_off: bool
) -> None:
    signs = ["kubelet.conf", "kubeadm-init.unfinished", "kubeadm-join.yaml"]
    results = [{"item": sign, "stat": {"exists": sign in found}} for sign in signs]
    tasks = tasks_of("roles/kubernetes/tasks/state.yml", "Note whether the host is a node of the cluster")
    tasks.append(
        {
            "assert": {
                "that": [f"_kubernetes_member is {member}".lower(), f"_kubernetes_broken_off is {broken_off}".lower()]
            }
        }
    )
    variables = {"_kubernetes_signs": signs, "__kubernetes_signs": {"results": results}}
    done = play(tmp_path, local(tasks, **variables))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("code", [0, 1])
@pytest.mark.parametrize(
    ("file", "mark"), [("join.yml", "kubeadm-join.yaml"), ("control_plane.yml", "kubeadm-init.unfinished")]
)
def test_the_mark_of_a_start_goes_with_kubeadms_success(tmp_path: Path, file: str, mark: str, code: int) -> None:
    (tmp_path / "kubeadm").write_text(f"#!/bin/sh\nexit {code}\n")
    (tmp_path / "kubeadm").chmod(0o755)
    for name in (mark, "kubeadm-discovery.conf"):
        (tmp_path / name).touch()
    blocks = yaml.safe_load((TASKS / file).read_text().replace("/etc/kubernetes", str(tmp_path)))
    (task,) = (task for block in blocks for task in block.get("block", []) if "ansible.builtin.shell" in task)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = play(tmp_path, local([task], _kubernetes_is_control_plane=False), environment=environment)
    assert (done.returncode == 0) == (code == 0), done.stdout
    assert (tmp_path / mark).exists() == (code == 1)
