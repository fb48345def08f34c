# ruff: noqa: D103, INP001, S101 # tests, found by molecule in its own folder
"""The health check passes on a cluster that works, and names what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conftest import eventually, run_playbook

if TYPE_CHECKING:
    from conftest import Cluster

HEALTHCHECK = "playbooks/healthcheck.yml"


def _namespaces(cluster: Cluster) -> set[str]:
    return {found.metadata.name for found in cluster.kind("Namespace").get().items}


def test_a_cluster_that_works_passes(cluster: Cluster) -> None:
    before = _namespaces(cluster)
    done = run_playbook(HEALTHCHECK)
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
        done = run_playbook(HEALTHCHECK, "--extra-vars", '{"healthcheck_checks": ["nodes", "dns", "network"]}')
    finally:
        scale(replicas)
    assert done.returncode != 0
    assert "dns: a pod on node does not find kubernetes.default.svc.cluster.local" in done.stdout
    assert "kubectl -n kube-system get pods -l k8s-app=kube-dns" in done.stdout
    assert "network: a pod" not in done.stdout
