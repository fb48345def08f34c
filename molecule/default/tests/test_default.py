# ruff: noqa: D103, INP001, S101 # tests, found by molecule in its own folder
"""What the play promises of one node, seen from the node itself."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_knative.mirror import pins

if TYPE_CHECKING:
    from testinfra.host import Host

PINS = pins.load(Path(__file__).parents[3] / "mirror" / "pins.yaml").pins
_SECONDS = 120


def _kubectl(host: Host, *arguments: str) -> str:
    found: str = host.check_output("kubectl --kubeconfig /etc/kubernetes/admin.conf " + " ".join(arguments))
    return found


def _get(host: Host, *arguments: str) -> Any:
    return json.loads(_kubectl(host, "get", *arguments, "--output", "json"))


def test_the_node_is_ready_in_the_pinned_version(host: Host) -> None:
    (node,) = _get(host, "nodes")["items"]
    conditions = {condition["type"]: condition["status"] for condition in node["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    assert node["status"]["nodeInfo"]["kubeletVersion"] == f"v{PINS['kubernetes'].version}"
    assert node["status"]["nodeInfo"]["containerRuntimeVersion"] == f"containerd://{PINS['containerd'].version}"
    assert node["spec"].get("taints", []) == []


@pytest.mark.parametrize("name", ["containerd", "kubelet"])
def test_services_run_now_and_after_a_reboot(host: Host, name: str) -> None:
    assert host.service(name).is_running
    assert host.service(name).is_enabled


def test_no_secret_is_readable_by_others(host: Host) -> None:
    assert host.file("/etc/kubernetes/admin.conf").mode & 0o077 == 0
    assert host.file("/etc/kubernetes/kubeadm-init.yaml").mode & 0o077 == 0


def test_an_ordinary_pod_finds_the_api_by_name(host: Host) -> None:
    image = PINS["busybox"].images[0].name
    command = "nslookup kubernetes.default.svc.cluster.local"
    _kubectl(host, "delete", "pod", "probe", "--ignore-not-found", "--wait")
    _kubectl(host, "run", "probe", f"--image={image}", "--restart=Never", "--command", "--", *command.split())
    end = time.monotonic() + _SECONDS
    phase = ""
    while phase not in ("Succeeded", "Failed") and time.monotonic() < end:
        phase = _get(host, "pod", "probe")["status"]["phase"]
        time.sleep(0.5)
    logs = _kubectl(host, "logs", "probe")
    _kubectl(host, "delete", "pod", "probe", "--wait=false")
    assert phase == "Succeeded", logs
    assert "10.96.0.1" in logs
