# ruff: noqa: INP001 # found by molecule in its own folder
"""What the scenario's tests share: the cluster as its API shows it, and the mirror."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kubernetes import config
from kubernetes.dynamic import DynamicClient

sys.path.insert(0, str(Path(__file__).parents[3] / "tests" / "cluster"))

from testnodes.mirror import Mirror

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INVENTORY = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "inventory"
REPOSITORY = Path(__file__).parents[3]


class Cluster:
    """The cluster's API.

    Args:
        kubeconfig: the file that the play left on this machine.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self._client = DynamicClient(config.new_client_from_config(str(kubeconfig)))

    def kind(self, kind: str, api_version: str = "v1") -> Any:
        """What can be asked and told about one kind of object."""
        return self._client.resources.get(kind=kind, api_version=api_version)

    def get(self, kind: str, name: str, namespace: str | None = None, api_version: str = "v1") -> Any:
        """One object."""
        return self.kind(kind, api_version).get(name=name, namespace=namespace)

    def create(self, document: dict[str, Any], **options: Any) -> Any:
        """Make an object from its document."""
        kind = self.kind(document["kind"], document["apiVersion"])
        return kind.create(body=document, namespace=document["metadata"].get("namespace"), **options)

    def gone(self, namespace: str, seconds: float = 180) -> None:
        """Wait until nothing of a namespace is left; a test fails with what holds it."""
        end = time.monotonic() + seconds
        while found := self.kind("Namespace").get(field_selector=f"metadata.name={namespace}").to_dict()["items"]:
            held = [condition["message"] for condition in found[0]["status"].get("conditions", [])]
            assert time.monotonic() < end, held  # noqa: S101 # a test's
            time.sleep(0.5)


def eventually(question: Callable[[], Any], seconds: float = 180) -> Any:
    """Ask until the answer is true, and return it; a test fails with the last answer."""
    end = time.monotonic() + seconds
    while not (answer := question()) and time.monotonic() < end:
        time.sleep(0.5)
    assert answer  # noqa: S101 # a test's
    return answer


def run_playbook(playbook: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a playbook on the cluster; ``stdout`` of what is returned is all that it said, in one line."""
    done = subprocess.run(
        ["ansible-playbook", "--inventory", str(INVENTORY), playbook, *arguments],
        cwd=REPOSITORY,
        env=os.environ | {"ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"},
        check=False,
        stdout=subprocess.PIPE,
        # What failed goes to another stream than the rest where Ansible is told so.
        stderr=subprocess.STDOUT,
        text=True,
    )
    done.stdout = " ".join(done.stdout.split())
    return done


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster, as the administrator's kubeconfig reaches it."""
    return Cluster(INVENTORY / "kubeconfig.cfg")


@pytest.fixture(scope="session")
def mirror() -> Mirror:
    """What the nodes' files and images came from."""
    return Mirror()


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own."""
    name = "molecule-tests"
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    cluster.kind("Namespace").delete(name=name)
    cluster.gone(name)
