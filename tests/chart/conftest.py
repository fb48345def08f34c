"""Helm, the chart rendered with it, and kube-score.

Both programs are the pinned ones of the mirror: 1 s from a cache, some minutes from nothing where they are compiled.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from .rendering import REPOSITORY, Chart

BUILD = REPOSITORY / "build" / "chart-tools"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(1200))


def _pinned(pin: str, member: str) -> Path:
    """Return a program out of a pin's archive."""
    command = [sys.executable, "-m", "airflow_knative.mirror", "build", pin, "--source", "auto", "--out", str(BUILD)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    (archive,) = (BUILD / "files").rglob(f"{pin}[-_]*linux[-_]amd64.tar.gz")
    program = BUILD / pin
    if not program.exists() or program.stat().st_mtime < archive.stat().st_mtime:
        with tarfile.open(archive) as tar:
            source = tar.extractfile(tar.getmember(member))
            assert source is not None
            fresh = BUILD / f"{pin}.new"
            fresh.write_bytes(source.read())
        fresh.chmod(0o755)
        fresh.replace(program)
    return program


@pytest.fixture(scope="session")
def helm() -> Path:
    return _pinned("helm", "linux-amd64/helm")


@pytest.fixture(scope="session")
def kube_score_program() -> Path:
    return _pinned("kube-score", "kube-score")


@pytest.fixture(scope="session")
def chart(helm: Path) -> Chart:
    return Chart(helm)
