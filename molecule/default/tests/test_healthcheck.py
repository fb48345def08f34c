# ruff: noqa: D103, INP001, S101 # tests, found by molecule in its own folder
"""The health check passes on a cluster that works, and names what does not."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from conftest import INVENTORY, eventually

if TYPE_CHECKING:
    from conftest import Cluster

REPOSITORY = Path(__file__).parents[3]


def _healthcheck(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["ansible-playbook", "--inventory", str(INVENTORY), "playbooks/healthcheck.yml", *arguments]
    environment = os.environ | {
        "ANSIBLE_FORCE_COLOR": "0",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
    }
    # What failed goes to another stream than the rest where Ansible is told so.
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=environment,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    done.stdout = " ".join(done.stdout.split())
    return done


def _namespaces(cluster: Cluster) -> set[str]:
    return {found.metadata.name for found in cluster.kind("Namespace").get().items}


def test_a_cluster_that_works_passes(cluster: Cluster) -> None:
    before = _namespaces(cluster)
    done = _healthcheck()
    assert done.returncode == 0, done.stdout
    assert "The cluster works." in done.stdout
    assert _namespaces(cluster) == before


def test_what_does_not_work_is_named(cluster: Cluster) -> None:
    deployments = cluster.kind("Deployment", "apps/v1")

    def scale(replicas: int) -> None:
        deployments.patch(
            name="coredns",
            namespace="kube-system",
            body={"spec": {"replicas": replicas}},
            content_type="application/merge-patch+json",
        )
        eventually(
            lambda: (
                (cluster.get("Deployment", "coredns", "kube-system", "apps/v1").status.readyReplicas or 0) == replicas
            )
        )

    replicas = cluster.get("Deployment", "coredns", "kube-system", "apps/v1").spec.replicas
    scale(0)
    try:
        done = _healthcheck("--extra-vars", '{"healthcheck_checks": ["nodes", "dns", "network"]}')
    finally:
        scale(replicas)
    assert done.returncode != 0
    assert "dns: a pod on node does not find kubernetes.default.svc.cluster.local" in done.stdout
    assert "kubectl -n kube-system get pods -l k8s-app=kube-dns" in done.stdout
    assert "network: a pod" not in done.stdout
