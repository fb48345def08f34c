# ruff: noqa: D103, INP001, S101 # tests, found by molecule in its own folder
"""What workflows need of a cluster: volumes, addresses, a registry, and services that scale from zero."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest
from kubernetes.dynamic.exceptions import DynamicApiError
from oci import push

from conftest import Cluster, eventually

if TYPE_CHECKING:
    from testnodes.mirror import Mirror

KNATIVE = "serving.knative.dev/v1"


def _ingress(cluster: Cluster, name: str, namespace: str) -> str:
    service = cluster.get("Service", name, namespace)
    address: str = service.status.loadBalancer.ingress[0].ip
    return address


def _registry(cluster: Cluster) -> str:
    service = cluster.get("Service", "registry", "registry")
    return f"{_ingress(cluster, 'registry', 'registry')}:{service.spec.ports[0].port}"


def _service(namespace: str, image: str, timeout: int = 60) -> dict[str, Any]:
    # Its timeout is its pods' grace, too, and Kubernetes waits half of that before it goes on deleting a namespace.
    return {
        "apiVersion": KNATIVE,
        "kind": "Service",
        "metadata": {"name": "scaled", "namespace": namespace},
        "spec": {
            "template": {
                "metadata": {
                    "annotations": {
                        "autoscaling.knative.dev/initial-scale": "0",
                        "autoscaling.knative.dev/window": "6s",
                    }
                },
                "spec": {
                    "timeoutSeconds": timeout,
                    "responseStartTimeoutSeconds": min(timeout, 300),
                    "containers": [
                        {
                            "image": image,
                            # The first process of a container gets no SIGTERM that it does not ask for.
                            "command": ["sh", "-c", "trap exit TERM; busybox httpd -f -p 8080 -h /etc & wait"],
                            "ports": [{"containerPort": 8080}],
                            "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}},
                        }
                    ],
                },
            }
        },
    }


def _pods(cluster: Cluster, namespace: str) -> list[str]:
    found = cluster.kind("Pod").get(namespace=namespace, label_selector="serving.knative.dev/service=scaled")
    return [pod.metadata.name for pod in found.items]


def test_the_default_storage_class_makes_volumes(cluster: Cluster) -> None:
    annotation = "storageclass.kubernetes.io/is-default-class"
    classes = cluster.kind("StorageClass", "storage.k8s.io/v1").get().to_dict()["items"]
    default = [
        found["metadata"]["name"]
        for found in classes
        if (found["metadata"].get("annotations") or {}).get(annotation) == "true"
    ]
    assert default == ["local-path"]
    claim = cluster.get("PersistentVolumeClaim", "registry", "registry")
    assert (claim.spec.storageClassName, claim.status.phase) == ("local-path", "Bound")


def test_an_image_pushed_from_outside_answers_from_zero(cluster: Cluster, mirror: Mirror, namespace: str) -> None:
    (busybox,) = mirror.images("busybox")
    image = push(mirror.image(busybox), _registry(cluster), "tests/busybox", "1")
    cluster.create(_service(namespace, image))

    def ready() -> str:
        status = cluster.get("Service", "scaled", namespace, KNATIVE).to_dict().get("status", {})
        conditions = {found["type"]: found["status"] for found in status.get("conditions", [])}
        return str(status["url"]) if conditions.get("Ready") == "True" else ""

    host = urlsplit(eventually(ready)).hostname
    assert host
    address = _ingress(cluster, "kourier", "knative-serving")
    assert host == f"scaled.{namespace}.{address}.sslip.io"
    assert _pods(cluster, namespace) == []

    def call() -> tuple[str, float]:
        begin = time.monotonic()
        answer = httpx.get(f"http://{address}/hostname", headers={"Host": host}, timeout=120).raise_for_status()
        return answer.text.strip(), time.monotonic() - begin

    pod, cold = call()
    assert pod.startswith("scaled-")
    warm = [call() for _ in range(5)]
    assert {name for name, _ in warm} == {pod}
    seconds = sorted(taken for _, taken in warm)
    print(f"cold {cold:.2f} s with the pull, warm {seconds[2] * 1000:.1f} ms (median of 5)")  # noqa: T201 # for the record
    eventually(lambda: not _pods(cluster, namespace))
    pod, cold = call()
    assert pod.startswith("scaled-")
    print(f"cold again {cold:.2f} s")  # noqa: T201 # for the record


def test_services_may_take_as_long_as_the_role_says(cluster: Cluster, namespace: str) -> None:
    maximum = int(cluster.get("ConfigMap", "config-defaults", "knative-serving").data["max-revision-timeout-seconds"])
    assert maximum > 600  # noqa: PLR2004 # Knative's own maximum
    cluster.create(_service(namespace, "registry.example/image", timeout=maximum), dry_run="All")
    with pytest.raises(DynamicApiError) as refused:
        cluster.create(_service(namespace, "registry.example/image", timeout=maximum + 1), dry_run="All")
    assert f"expected 0 <= {maximum + 1} <= {maximum}" in json.loads(refused.value.body)["message"]
