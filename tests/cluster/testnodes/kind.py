"""``kind create cluster`` with a node image made from the mirror."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_knative.mirror import pins
from airflow_knative.mirror.build import Builder
from airflow_knative.mirror.cli import default_cache
from testnodes import daemon
from testnodes.background import Background
from testnodes.docker import docker, run_flags, succeeds
from testnodes.errors import NodeError
from testnodes.images import REPOSITORY, Overlay, import_image, overlay_of, root_file_system
from testnodes.nodes import serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testnodes.mirror import Mirror

__all__ = ["create", "delete", "environment", "kind_image", "serve_mirror", "subnet"]

_IMAGES = ("kubernetes", "etcd", "coredns", "pause", "flannel", "flannel-cni", "local-path-provisioner", "busybox")
_REGISTRIES = "/etc/containerd/certs.d"
_ENTRYPOINT = 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]'


def _kind_files() -> Path:
    """The files that kind lays over its own node image."""
    every = pins.load(REPOSITORY / "mirror" / "pins.yaml")
    folder = default_cache()
    return Builder(every, REPOSITORY, folder).material(every.pins["kind"], "module/images/base/files")


def _overlay(mirror: Mirror, scratch: Path) -> Overlay:
    overlay: Overlay = {}
    for name, (source, _) in overlay_of(_kind_files()).items():
        executable = name.startswith(("usr/local/bin/", "kind/bin/"))
        overlay[name] = (source, 0o755 if executable else 0o644)
    # Ours goes first, and hands over to kind's own.
    overlay["usr/local/bin/entrypoint-kind"] = overlay["usr/local/bin/entrypoint"]
    ours = REPOSITORY / "images" / "node" / "kind"
    overlay["usr/local/bin/entrypoint"] = (ours / "entrypoint", 0o755)
    overlay["kind/prepare"] = (ours / "prepare", 0o755)
    settings = _kind_files() / "etc" / "containerd" / "config.toml"
    pause = mirror.images("pause")[0]
    overlay["etc/containerd/config.toml"] = (
        re.sub(r'registry\.k8s\.io/pause:[^"]+', pause, settings.read_text()),
        0o644,
    )
    for archive, target in (("containerd", "usr/local"), ("cni-plugins", "opt/cni/bin")):
        mirror.unpack(archive, scratch / archive)
        for path in sorted((scratch / archive).rglob("*")):
            if path.is_file():
                overlay[f"{target}/{path.relative_to(scratch / archive)}"] = (path, 0o755)
    overlay["usr/local/sbin/runc"] = (mirror.file("runc"), 0o755)
    for program in ("kubeadm", "kubelet", "kubectl"):
        overlay[f"usr/bin/{program}"] = (mirror.file("kubernetes", program), 0o755)
    overlay["kind/version"] = (f"v{mirror.pins['kubernetes'].version}", 0o644)
    overlay["kind/manifests/default-cni.yaml"] = (mirror.file("flannel"), 0o644)
    storage = mirror.file("local-path-provisioner").read_text()
    default = '  name: local-path\n  annotations: {storageclass.kubernetes.io/is-default-class: "true"}\n'
    overlay["kind/manifests/default-storage.yaml"] = (storage.replace("  name: local-path\n", default, 1), 0o644)
    overlay["sbin/init"] = ("/lib/systemd/systemd", 0)
    return overlay


def kind_image(mirror: Mirror) -> str:
    """The image for ``kind create cluster --image``, made unless Docker has the same one."""
    with tempfile.TemporaryDirectory() as scratch:
        settings = [_ENTRYPOINT, "ENV container=docker"]
        base = import_image("kind-base", root_file_system("node-kind"), _overlay(mirror, Path(scratch)), settings)
    digests = [mirror.manifest.images[name].digest for name in mirror.images(*_IMAGES)]
    tag = uuid.uuid5(uuid.NAMESPACE_URL, " ".join([base, *digests])).hex[:12]
    image = f"airflow-knative/kind:{tag}"
    if succeeds("image", "inspect", image):
        return image
    container = f"kind-image-{tag}"
    try:
        mount = f"{mirror.folder.resolve()}:/mirror:ro"
        flags = ["--detach", "--name", container, "--volume", mount, "--entrypoint", "sleep", "--network", "none"]
        docker("run", *flags, *run_flags(base), base, "infinity")
        archives = [f"/mirror/{mirror.manifest.images[name].file}" for name in mirror.images(*_IMAGES)]
        docker("exec", container, "/kind/prepare", *archives)
        docker("commit", "--change", _ENTRYPOINT, container, image)
    finally:
        with contextlib.suppress(NodeError):
            docker("rm", "--force", "--volumes", container)
    return image


_WRAPPER = """#!/bin/bash
# kind always asks for --privileged, which the Docker daemon of this machine cannot give.
arguments=()
verb=${{1:-}}
for argument in "$@"; do
    if [[ $argument == --privileged && $verb == run ]]; then
        arguments+=({flags})
    elif [[ $argument != --privileged || $verb != exec ]]; then
        arguments+=("$argument")
    fi
done
exec {docker} "${{arguments[@]}}"
"""


@contextlib.contextmanager
def environment(image: str) -> Iterator[dict[str, str]]:
    """The environment for kind: with a docker command in front of the real one where that cannot do what kind wants."""
    flags = run_flags(image)
    real = shutil.which("docker")
    if flags == ("--privileged",) or real is None:
        yield dict(os.environ)
        return
    with tempfile.TemporaryDirectory() as folder:
        wrapper = Path(folder) / "docker"
        quoted = " ".join(f"'{flag}'" for flag in flags)
        wrapper.write_text(_WRAPPER.format(flags=quoted, docker=real))
        wrapper.chmod(0o755)
        yield {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def _config(image: str, workers: int) -> str:
    constrained = run_flags(image) != ("--privileged",)
    first_version = not Path("/sys/fs/cgroup/cgroup.controllers").exists()
    kubelet = ["kind: KubeletConfiguration"]
    kubelet += ["failCgroupV1: false", "cgroupDriver: cgroupfs"] if first_version else []
    kubelet += ["featureGates: {KubeletInUserNamespace: true}"] if constrained else []
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    containerd = [f"[{cri}]", f"  restrict_oom_score_adj = {str(constrained).lower()}"]
    containerd += [f"[{cri}.registry]", f'  config_path = "{_REGISTRIES}"']
    if first_version:
        containerd += [f"[{cri}.containerd.runtimes.runc.options]", "  SystemdCgroup = false"]
    lines = ["kind: Cluster", "apiVersion: kind.x-k8s.io/v1alpha4", "nodes:", "- role: control-plane"]
    lines += ["- role: worker"] * workers
    lines += ["kubeadmConfigPatches:", "- |", *(f"  {line}" for line in kubelet)]
    lines += ["containerdConfigPatches:", "- |-", *(f"  {line}" for line in containerd)]
    return "\n".join(lines) + "\n"


def _kind(mirror: Mirror, image: str, *arguments: str) -> None:
    with environment(image) as env:
        command = [str(mirror.file("kind")), *arguments]
        done = subprocess.run(command, env=env, capture_output=True, check=False, text=True)
    if done.returncode:
        raise NodeError(f"kind {' '.join(arguments[:2])} failed:\n{done.stderr}")


def create(mirror: Mirror, name: str, kubeconfig: Path, *, workers: int = 0, wait: str = "120s") -> str:
    """Create a kind cluster and write its kubeconfig.

    Returns:
        the node image's name.

    Raises:
        NodeError: kind failed; it has removed its nodes.
    """
    daemon.ensure()
    image = kind_image(mirror)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "kind.yaml"
        config.write_text(_config(image, workers))
        options = ["--name", name, "--image", image, "--config", str(config), "--wait", wait]
        _kind(mirror, image, "create", "cluster", *options, "--kubeconfig", str(kubeconfig))
    return image


def serve_mirror(mirror: Mirror, name: str) -> str:
    """Serve a mirror to the nodes of a kind cluster, as what they ask for images first.

    Returns:
        where they find it.
    """
    url = serve(Background(f"{name}-mirror"), mirror.folder, "kind")
    lines = f'[host."{url}"]\n  capabilities = ["pull", "resolve"]\n'
    script = f"mkdir -p {_REGISTRIES}/_default && cat > {_REGISTRIES}/_default/hosts.toml <<'END'\n{lines}END"
    for node in docker("ps", "--quiet", "--filter", f"label=io.x-k8s.kind.cluster={name}").split():
        docker("exec", node, "bash", "-euc", script)
    return url


def subnet() -> str:
    """The IPv4 addresses of the network that kind's nodes are in."""
    found = docker("network", "inspect", "--format", "{{range .IPAM.Config}}{{.Subnet}} {{end}}", "kind").split()
    return next(network for network in found if ":" not in network)


def delete(mirror: Mirror, name: str, kubeconfig: Path, *, stop_daemon: bool = True) -> None:
    """Delete a kind cluster, the network that kind made, and (by default) a daemon that was started here."""
    Background(f"{name}-mirror").stop()
    if not succeeds("version"):
        return
    image = kind_image(mirror)
    _kind(mirror, image, "delete", "cluster", "--name", name, "--kubeconfig", str(kubeconfig))
    if not docker("ps", "--all", "--quiet", "--filter", "network=kind"):
        with contextlib.suppress(NodeError):
            docker("network", "rm", "kind")
    if stop_daemon and not docker("ps", "--quiet"):
        daemon.stop_if_ours()
