"""Docker images of the nodes, from the file systems that the mirror's pins build."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_knative.mirror import pins
from airflow_knative.mirror.build import Builder
from airflow_knative.mirror.cli import default_cache
from airflow_knative.mirror.fill import locked
from testnodes.docker import docker, succeeds

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["REPOSITORY", "Overlay", "import_image", "node_image", "root_file_system"]

REPOSITORY = Path(__file__).parents[3]
_SETTINGS = (
    'ENTRYPOINT ["/usr/local/sbin/node-init"]',
    "ENV container=docker",
)

# Path in the image to a file, or to the text of one, with its mode; a mode of 0 makes a symbolic link to the text.
Overlay = dict[str, tuple[Path | str, int]]


def root_file_system(pin: str) -> Path:
    """The tar of a pin's Debian file system, built if the cache has none."""
    every = pins.load(REPOSITORY / "mirror" / "pins.yaml")
    folder = default_cache()
    builder = Builder(every, REPOSITORY, folder)
    if (made := builder.existing(every.pins[pin])) is not None:
        return made / "root.tar"
    with locked(folder):
        return builder.file_system(every.pins[pin])


def overlay_of(folder: Path) -> Overlay:
    """All files of a folder; what is executable there is executable in the image."""
    return {
        str(path.relative_to(folder)): (path, path.stat().st_mode & 0o777)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _entry(name: str, source: Path | str, mode: int) -> tuple[tarfile.TarInfo, io.BytesIO | None]:
    info = tarfile.TarInfo(name)
    if mode == 0:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, str(source), 0o777
        return info, None
    data = source.read_bytes() if isinstance(source, Path) else source.encode()
    info.size, info.mode = len(data), mode
    return info, io.BytesIO(data)


def import_image(name: str, root: Path, overlay: Overlay, settings: Iterable[str] = _SETTINGS) -> str:
    """Import a file system with an overlay on top as a Docker image, unless there is the same one.

    Returns:
        the image's name with a tag made from its content.
    """
    changes = list(settings)
    content = hashlib.sha256(f"{root} {changes}".encode())
    for path, (source, mode) in sorted(overlay.items()):
        content.update(f"{path} {mode} ".encode())
        content.update(source.read_bytes() if isinstance(source, Path) else source.encode())
    image = f"airflow-knative/{name}:{content.hexdigest()[:12]}"
    if succeeds("image", "inspect", image):
        return image
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "root.tar"
        shutil.copyfile(root, whole)
        with tarfile.open(whole, "a") as tar:
            for path, (source, mode) in sorted(overlay.items()):
                tar.addfile(*_entry(path, source, mode))
        flags = [flag for change in changes for flag in ("--change", change)]
        docker("import", *flags, str(whole), image)
    return image


@cache
def node_image() -> str:
    """The image of a plain node: systemd, sshd, Python, nothing of Kubernetes."""
    overlay = overlay_of(REPOSITORY / "images" / "node" / "files")
    for unit in (
        "systemd-udevd.service",
        "systemd-udev-trigger.service",
        "systemd-networkd.service",
        "systemd-resolved.service",
        "systemd-timesyncd.service",
        "systemd-logind.service",
        "systemd-remount-fs.service",
        "systemd-binfmt.service",
        "systemd-modules-load.service",
        "proc-sys-fs-binfmt_misc.automount",
        "sys-kernel-debug.mount",
        "sys-kernel-tracing.mount",
        "sys-fs-fuse-connections.mount",
        "dev-hugepages.mount",
        "dev-mqueue.mount",
        "getty.target",
        "console-getty.service",
        "apt-daily.timer",
        "apt-daily-upgrade.timer",
        "dpkg-db-backup.timer",
        "e2scrub_all.timer",
        "fstrim.timer",
        "man-db.timer",
    ):
        # Hardware, consoles and clocks are the host's; timers would make measurements vary.
        overlay[f"etc/systemd/system/{unit}"] = ("/dev/null", 0)
    overlay["etc/systemd/system/default.target"] = ("/lib/systemd/system/multi-user.target", 0)
    return import_image("node", root_file_system("node"), overlay)
