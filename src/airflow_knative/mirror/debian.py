"""File systems and programs from Debian packages."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_knative.mirror.command import run
from airflow_knative.mirror.errors import MirrorError

if TYPE_CHECKING:
    from airflow_knative.mirror.pins import DebianBuild, DebsBuild

__all__ = ["programs", "root_file_system"]

_MEND = "Debian builds need root and the package mmdebstrap"
_EXCLUDE = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/lintian/*")
# What a package's installation leaves that differs from run to run.
_CHANGING = ("/var/log/*", "/var/cache/*", "/var/lib/apt/lists/*", "/etc/machine-id", "/var/lib/dpkg/*-old")


def root_file_system(build: DebianBuild, below: DebianBuild | None, *, target: Path, epoch: int, log: Path) -> None:
    """Make a tar of a Debian system with these packages on top of the minimal ones and those of ``below``.

    Raises:
        MirrorError: mmdebstrap is missing or failed.
    """
    packages = sorted({*build.packages, *(below.packages if below else ())})
    command = ["mmdebstrap", "--mode=root", "--variant=minbase", "--format=tar"]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in (*_EXCLUDE, *build.exclude)]
    # A half-written file system is thrown away, so nothing need be flushed to disk.
    command.append("--dpkgopt=force-unsafe-io")
    # The options above are for making the image; somebody who installs a package in it gets all of it.
    command.append('--customize-hook=rm -f "$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap')
    for user, number in build.owner.items():
        # Made before the package's own script would take the next free number.
        home = f"/var/lib/{user}"
        command.append(f'--essential-hook=echo "{user}:x:{number}:{number}::{home}:/bin/sh" >> "$1"/etc/passwd')
        command.append(f'--essential-hook=echo "{user}:x:{number}:" >> "$1"/etc/group')
    command += [f'--customize-hook=rm -rf "$1"{path}' for path in (*build.remove, *_CHANGING)]
    command.append('--customize-hook=: > "$1"/etc/machine-id')
    command += [f"--include={','.join(packages)}", build.suite, str(target)]
    run(command, log, env={"SOURCE_DATE_EPOCH": str(epoch), "DEBIAN_FRONTEND": "noninteractive"}, mend=_MEND)
    with tarfile.open(target) as tar:
        if not any(name.endswith("/dpkg/status") for name in tar.getnames()):
            raise MirrorError(f"{target} is no Debian system; see {log}")


def programs(build: DebsBuild, target: Path, log: Path) -> None:
    """Take single programs out of Debian packages.

    Raises:
        MirrorError: a package cannot be had, or has no such program.
    """
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)  # apt downloads as a user of its own
        for package, path in build.programs.items():
            run(["apt-get", "download", package], log, cwd=folder, mend="`apt-get update` may be due")
            deb = next(iter(folder.glob(f"{package}_*.deb")))
            run(["dpkg-deb", "-x", str(deb), str(folder / package)], log)
            found = folder / package / path.lstrip("/")
            if not found.is_file():
                raise MirrorError(f"the Debian package {package} has no {path}")
            shutil.copyfile(found, target / Path(path).name)
            (target / Path(path).name).chmod(0o755)
