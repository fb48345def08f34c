"""Helm, and the chart rendered with it.

Helm is the pinned one of the mirror: 1 s from a cache, some minutes from nothing where it has to be compiled.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from .rendering import REPOSITORY, Chart

BUILD = REPOSITORY / "build" / "helm"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture(scope="session")
def helm() -> Path:
    command = [sys.executable, "-m", "airflow_knative.mirror", "build", "helm", "--source", "auto", "--out", str(BUILD)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    (archive,) = (BUILD / "files").rglob("helm-*-linux-amd64.tar.gz")
    program = BUILD / "helm"
    if not program.exists() or program.stat().st_mtime < archive.stat().st_mtime:
        with tarfile.open(archive) as tar:
            member = tar.getmember("linux-amd64/helm")
            source = tar.extractfile(member)
            assert source is not None
            fresh = BUILD / "helm.new"
            fresh.write_bytes(source.read())
        fresh.chmod(0o755)
        fresh.replace(program)
    return program


@pytest.fixture(scope="session")
def chart(helm: Path) -> Chart:
    return Chart(helm)
