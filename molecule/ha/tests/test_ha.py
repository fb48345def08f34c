# ruff: noqa: D103, INP001, S101 # tests, found by molecule in its own folder
"""What only several control-plane nodes can show: each is one of etcd's members, and what leads to them is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from kubernetes import client, config
from kubernetes.stream import stream

from airflow_knative.mirror import pins

PINS = pins.load(Path(__file__).parents[3] / "mirror" / "pins.yaml").pins
KUBECONFIG = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "inventory" / "kubeconfig.cfg"
NODES = ["node-1", "node-2", "node-3"]
PKI = "/etc/kubernetes/pki/etcd"


@pytest.fixture(scope="module")
def core() -> client.CoreV1Api:
    return client.CoreV1Api(config.new_client_from_config(str(KUBECONFIG)))


def test_every_node_is_ready_in_the_pinned_version(core: client.CoreV1Api) -> None:
    nodes = {node.metadata.name: node for node in core.list_node().items}
    assert sorted(nodes) == NODES
    for node in nodes.values():
        conditions = {condition.type: condition.status for condition in node.status.conditions}
        assert conditions["Ready"] == "True"
        assert node.status.node_info.kubelet_version == f"v{PINS['kubernetes'].version}"
        assert not node.spec.unschedulable


@pytest.mark.parametrize("node", NODES)
def test_every_node_runs_the_control_plane_in_the_pinned_version(core: client.CoreV1Api, node: str) -> None:
    for part in ("kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        pod = core.read_namespaced_pod(f"{part}-{node}", "kube-system")
        assert {condition.type: condition.status for condition in pod.status.conditions}["Ready"] == "True", part
        assert pod.spec.containers[0].image.endswith(f":v{PINS['kubernetes'].version}")


@pytest.mark.parametrize("node", NODES)
def test_etcd_has_every_node_for_a_member(core: client.CoreV1Api, node: str) -> None:
    trust = ["--cacert", f"{PKI}/ca.crt", "--cert", f"{PKI}/healthcheck-client.crt"]
    command = ["etcdctl", *trust, "--key", f"{PKI}/healthcheck-client.key", "member", "list"]
    told = stream(
        core.connect_get_namespaced_pod_exec,
        f"etcd-{node}",
        "kube-system",
        command=command,
        stdout=True,
        stderr=True,
        _preload_content=False,  # which would leave the connection open
    )
    told.run_forever(timeout=60)
    said = told.read_all()
    told.sock.shutdown()  # close does nothing where the other side has begun to
    # ID, status, name, addresses, whether it only learns.
    members = sorted(line.split(", ")[1:3] + line.split(", ")[5:] for line in said.splitlines())
    assert members == [["started", name, "false"] for name in NODES]


def test_the_kubeconfig_names_the_load_balancer(core: client.CoreV1Api) -> None:
    addresses = {address.address for node in core.list_node().items for address in node.status.addresses}
    host = core.api_client.configuration.host.removeprefix("https://").partition(":")[0]
    assert host not in addresses
