"""What the tests with real nodes share. They need root, and install what else they need from Debian."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from testnodes import daemon
from testnodes.docker import succeeds
from testnodes.mirror import Mirror
from testnodes.nodes import Nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

# Program to the Debian package that has it; the second group only where no Docker daemon runs.
_PROGRAMS = {"docker": "docker.io", "mmdebstrap": "mmdebstrap", "ssh-keygen": "openssh-client"}
_DAEMON = {"dockerd": "docker.io", "iptables-save": "iptables", "ip": "iproute2"}


@pytest.fixture(scope="session", autouse=True)
def _programs() -> None:
    """Install what is missing; a machine that has it all is not touched."""
    if os.geteuid():
        pytest.fail("the cluster tests start nodes and need root")
    wanted = _PROGRAMS if succeeds("version") else {**_PROGRAMS, **_DAEMON}
    missing = sorted({package for program, package in wanted.items() if shutil.which(program) is None})
    if missing:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *missing]
        for command in (["apt-get", "update", "--quiet"], install):
            subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="session", autouse=True)
def _docker(_programs: None) -> Iterator[None]:
    """One Docker daemon for all tests, stopped at the end if it was started here."""
    daemon.ensure()
    yield
    daemon.stop_if_ours()


@pytest.fixture(scope="session")
def mirror() -> Mirror:
    """The filled mirror."""
    return Mirror()


@pytest.fixture
def nodes(request: pytest.FixtureRequest) -> Iterator[Nodes]:
    """A set of nodes of this test's own, taken down whatever happens."""
    made = Nodes(f"test-{request.node.name.replace('_', '-').replace('[', '-').strip(']-')[:40]}")
    made.down(stop_daemon=False)
    try:
        yield made
    finally:
        made.down(stop_daemon=False)
