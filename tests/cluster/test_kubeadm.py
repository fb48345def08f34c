"""What the mirror has makes a Kubernetes node: a check of the mirror, by hand what the roles will do."""

from __future__ import annotations

import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

from testnodes.docker import run_flags
from testnodes.errors import NodeError
from testnodes.images import node_image

if TYPE_CHECKING:
    from testnodes.mirror import Mirror
    from testnodes.nodes import Node, Nodes

_CONTROL_PLANE = ("kubernetes", "etcd", "coredns", "pause", "flannel", "flannel-cni")


def _install(node: Node, mirror: Mirror) -> None:
    """Lay containerd, runc, CNI plugins and Kubernetes into a node. The mirror is mounted at /mirror."""

    def inside(path: Path) -> str:
        return f"/mirror/{path.relative_to(mirror.folder)}"

    constrained = run_flags(node_image()) != ("--privileged",)
    settings = f"""
        version = 3
        [plugins."io.containerd.cri.v1.runtime"]
          restrict_oom_score_adj = {str(constrained).lower()}
        [plugins."io.containerd.cri.v1.images".pinned_images]
          sandbox = "{mirror.images("pause")[0]}"
    """
    unit = """
        [Service]
        ExecStart=/usr/local/bin/containerd
        Delegate=yes
        KillMode=process
    """
    kubelet = """
        [Service]
        EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
        ExecStart=/usr/bin/kubelet --kubeconfig=/etc/kubernetes/kubelet.conf \\
          --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --config=/var/lib/kubelet/config.yaml \\
          $KUBELET_KUBEADM_ARGS
        Restart=always
        RestartSec=1
        [Install]
        WantedBy=multi-user.target
    """
    steps = [
        f"tar -C /usr/local -xzf {inside(mirror.file('containerd'))}",
        f"install -D -m 0755 {inside(mirror.file('runc'))} /usr/local/sbin/runc",
        "mkdir -p /opt/cni/bin /etc/containerd",
        f"tar -C /opt/cni/bin -xzf {inside(mirror.file('cni-plugins'))}",
        *(
            f"install -m 0755 {inside(mirror.file('kubernetes', program))} /usr/bin/{program}"
            for program in ("kubeadm", "kubelet", "kubectl")
        ),
        _write("/etc/containerd/config.toml", settings),
        _write("/etc/systemd/system/containerd.service", unit),
        _write("/etc/systemd/system/kubelet.service", kubelet),
        "systemctl daemon-reload && systemctl start containerd && systemctl enable kubelet",
        "until ctr version >/dev/null 2>&1; do sleep 0.1; done",
        *(
            f"ctr -n k8s.io images import {inside(mirror.image(name))} >/dev/null"
            for name in mirror.images(*_CONTROL_PLANE)
        ),
    ]
    node.shell("\n".join(steps), timeout=600)


def _write(path: str, text: str) -> str:
    return f"cat > {path} <<'END'\n{textwrap.dedent(text)}\nEND"


def _configuration(node: Node, mirror: Mirror) -> str:
    first_version = not Path("/sys/fs/cgroup/cgroup.controllers").exists()
    kubernetes = mirror.pins["kubernetes"].version
    return textwrap.dedent(f"""
        apiVersion: kubeadm.k8s.io/v1beta4
        kind: InitConfiguration
        localAPIEndpoint: {{advertiseAddress: {node.address}}}
        nodeRegistration:
          taints: []
          ignorePreflightErrors: [SystemVerification, Swap, NumCPU, Mem]
        ---
        apiVersion: kubeadm.k8s.io/v1beta4
        kind: ClusterConfiguration
        kubernetesVersion: v{kubernetes}
        networking: {{podSubnet: 10.244.0.0/16}}
        ---
        apiVersion: kubelet.config.k8s.io/v1beta1
        kind: KubeletConfiguration
        cgroupDriver: {"cgroupfs" if first_version else "systemd"}
        failCgroupV1: false
        featureGates: {{KubeletInUserNamespace: {str(run_flags(node_image()) != ("--privileged",)).lower()}}}
        failSwapOn: false
        # The disk is the host's: how full it is says nothing about the node.
        evictionHard: {{nodefs.available: 0%, imagefs.available: 0%, nodefs.inodesFree: 0%, memory.available: 100Mi}}
        imageGCHighThresholdPercent: 100
        ---
        apiVersion: kubeproxy.config.k8s.io/v1alpha1
        kind: KubeProxyConfiguration
        mode: nftables
        conntrack: {{maxPerCore: 0}}
    """)


def _wait(node: Node, question: str, answer: str, seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    found = ""
    while time.monotonic() < end:
        try:
            found = node.shell(f"export KUBECONFIG=/etc/kubernetes/admin.conf; {question}")
        except NodeError as error:
            found = str(error)
        if found == answer:
            return
        time.sleep(1)
    config = "export KUBECONFIG=/etc/kubernetes/admin.conf"
    pods = node.shell(
        f"{config}; kubectl get pods -A -o wide; kubectl describe nodes; kubectl get events -A | tail -n 30"
    )
    raise AssertionError(f"{question}: {found!r} instead of {answer!r}\n{pods}")


def test_kubeadm_makes_a_cluster_from_the_mirror(nodes: Nodes, mirror: Mirror) -> None:
    (node,) = nodes.up(["one"], mounts=[f"{mirror.folder.resolve()}:/mirror:ro"]).nodes
    _install(node, mirror)
    # The names that kubeadm asks for by itself are the ones that the mirror has.
    listed = node.shell(f"kubeadm config images list --kubernetes-version v{mirror.pins['kubernetes'].version}")
    assert set(listed.split()) <= set(mirror.manifest.images)
    node.shell(_write("/etc/kubeadm.yaml", _configuration(node, mirror)))
    node.shell("kubeadm init --config /etc/kubeadm.yaml --skip-phases=show-join-command 2>&1", timeout=300)
    flannel = f"/mirror/{mirror.file('flannel').relative_to(mirror.folder)}"
    node.shell(f"KUBECONFIG=/etc/kubernetes/admin.conf kubectl apply -f {flannel}")
    ready = "kubectl get nodes -o jsonpath='{.items[*].status.conditions[?(@.type==\"Ready\")].status}'"
    _wait(node, ready, "True")
    # CoreDNS runs in the pod network, so it proves flannel, its CNI plugin and kube-proxy too.
    _wait(node, "kubectl -n kube-system get deployment coredns -o jsonpath='{.status.readyReplicas}'", "2")
    _wait(node, "kubectl get pods -A --no-headers | grep -cv Running || true", "0")
