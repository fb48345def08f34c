"""``kind create cluster`` with the node image made from the mirror."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

from leftovers import snapshot
from testnodes import kind

if TYPE_CHECKING:
    from pathlib import Path

    from testnodes.mirror import Mirror

NAME = "airflow-knative-test"
CLAIM = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: claim}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: writer}
spec:
  restartPolicy: Never
  tolerations: [{operator: Exists}]
  containers:
    - name: writer
      image: BUSYBOX
      command: [sh, -c, "echo kept > /data/file && cat /data/file"]
      volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: claim}}]
"""


def _kubectl(mirror: Mirror, kubeconfig: Path, *arguments: str) -> str:
    command = [str(mirror.file("kubernetes", "kubectl")), "--kubeconfig", str(kubeconfig), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_kind_makes_a_cluster_and_leaves_nothing(mirror: Mirror, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kind.kind_image(mirror)
    before = snapshot()
    begin = time.monotonic()
    try:
        kind.create(mirror, NAME, kubeconfig)
        print(f"kind create cluster took {time.monotonic() - begin:.1f} s")  # noqa: T201 # for the record
        version = _kubectl(
            mirror, kubeconfig, "get", "nodes", "-o", "jsonpath={.items[0].status.nodeInfo.kubeletVersion}"
        )
        assert version == f"v{mirror.pins['kubernetes'].version}"
        _kubectl(mirror, kubeconfig, "-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s")
        # A pod that writes to a claim proves the default storage, its provisioner and the provisioner's helper.
        manifest = tmp_path / "claim.yaml"
        manifest.write_text(CLAIM.replace("BUSYBOX", mirror.images("busybox")[0]))
        _kubectl(mirror, kubeconfig, "apply", "-f", str(manifest))
        wait = ["wait", "pod/writer", "--for", "jsonpath={.status.phase}=Succeeded", "--timeout", "180s"]
        _kubectl(mirror, kubeconfig, *wait)
    finally:
        kind.delete(mirror, NAME, kubeconfig, stop_daemon=False)
    assert snapshot().more_than(before) == {}
