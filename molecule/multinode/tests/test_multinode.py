# ruff: noqa: D103, INP001, S101 # tests, found by molecule in its own folder
"""What only several nodes can show: pods of one node reach those of another, by address and by name."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from kubernetes import client, config, utils

from airflow_knative.mirror import pins

if TYPE_CHECKING:
    from collections.abc import Iterator

PINS = pins.load(Path(__file__).parents[3] / "mirror" / "pins.yaml").pins
BUSYBOX = PINS["busybox"].images[0].name
KUBECONFIG = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "inventory" / "kubeconfig.cfg"
NAMESPACE = "multinode-test"
WORKERS = ("node-2", "node-3")
_SECONDS = 180


@pytest.fixture(scope="module")
def core() -> client.CoreV1Api:
    return client.CoreV1Api(config.new_client_from_config(str(KUBECONFIG)))


def _pod(name: str, node: str, command: list[str]) -> dict[str, Any]:
    container = {"name": "it", "image": BUSYBOX, "command": command}
    spec = {"nodeName": node, "restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


def _wait(core: client.CoreV1Api, name: str, *phases: str) -> Any:
    end = time.monotonic() + _SECONDS
    while True:
        pod = core.read_namespaced_pod(name, NAMESPACE)
        if pod.status.phase in phases:
            return pod
        assert time.monotonic() < end, f"pod {name} is {pod.status.phase}: {pod.status.conditions}"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def server(core: client.CoreV1Api) -> Iterator[Any]:
    """A pod on the first worker that answers over HTTP, and a service of the same name."""
    core.create_namespace({"metadata": {"name": NAMESPACE}})
    try:
        serve = "mkdir -p /www && busybox echo from-$HOSTNAME > /www/index.html && busybox httpd -f -p 8080 -h /www"
        ports = [{"port": 8080}]
        spec = {"type": "LoadBalancer", "selector": {"app": "server"}, "ports": ports}
        service = {"metadata": {"name": "server"}, "spec": spec}
        utils.create_from_dict(core.api_client, _pod("server", WORKERS[0], ["sh", "-c", serve]), namespace=NAMESPACE)
        core.create_namespaced_service(NAMESPACE, service)
        yield _wait(core, "server", "Running")
    finally:
        core.delete_namespace(NAMESPACE)


def test_every_node_is_ready_in_the_pinned_version(core: client.CoreV1Api) -> None:
    nodes = {node.metadata.name: node for node in core.list_node().items}
    assert sorted(nodes) == ["node-1", *WORKERS]
    for node in nodes.values():
        conditions = {condition.type: condition.status for condition in node.status.conditions}
        assert conditions["Ready"] == "True"
        assert node.status.node_info.kubelet_version == f"v{PINS['kubernetes'].version}"


def test_ordinary_pods_are_for_workers(core: client.CoreV1Api) -> None:
    tainted = {node.metadata.name for node in core.list_node().items for taint in node.spec.taints or []}
    assert tainted == {"node-1"}


@pytest.mark.parametrize("way", ["address", "name"])
@pytest.mark.parametrize("node", ["node-1", *WORKERS])
def test_a_pod_is_reached_from_every_node(core: client.CoreV1Api, server: Any, node: str, way: str) -> None:
    target = server.status.pod_ip if way == "address" else f"server.{NAMESPACE}.svc.cluster.local"
    name = f"{node}-by-{way}"
    ask = f"for i in 1 2 3 4 5 6; do busybox timeout 5 wget -q -O - http://{target}:8080 && exit; sleep 2; done; exit 1"
    utils.create_from_dict(core.api_client, _pod(name, node, ["sh", "-c", ask]), namespace=NAMESPACE)
    pod = _wait(core, name, "Succeeded", "Failed")
    assert pod.status.pod_ip.split(".")[2] != server.status.pod_ip.split(".")[2] or node == WORKERS[0]
    # Undecoded: some versions of the client decode a log by calling str on its bytes.
    log = core.read_namespaced_pod_log(name, NAMESPACE, _preload_content=False)
    assert log.data.decode().strip() == "from-server"


@pytest.mark.usefixtures("server")
def test_a_load_balancer_answers_from_outside(core: client.CoreV1Api) -> None:
    end = time.monotonic() + _SECONDS
    while not (given := core.read_namespaced_service("server", NAMESPACE).status.load_balancer.ingress):
        assert time.monotonic() < end, "the service has no address"
        time.sleep(0.5)
    while True:
        try:
            answer = httpx.get(f"http://{given[0].ip}:8080", timeout=5).text.strip()
            break
        except httpx.TransportError:  # the node has yet to announce it
            assert time.monotonic() < end, f"{given[0].ip} does not answer"
            time.sleep(0.5)
    assert answer == "from-server"
