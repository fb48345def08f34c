# ruff: noqa: INP001 # found by molecule's tests in their own folder
"""What somebody does who uses the cluster: calls workflows with curl, and deploys them with the playbook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from conftest import Cluster

REPOSITORY = Path(__file__).parents[3]
NAMESPACE = RELEASE = "airflow"
KNATIVE = "serving.knative.dev/v1"
_COMPONENT = "app.kubernetes.io/component"


def helm(inventory: Path, namespace: str, *arguments: str, stdin: str | None = None) -> str:
    """Run the helm that the play fetched, and return what it printed."""
    (program,) = (REPOSITORY / "build" / "airflow").glob("helm-*/linux-amd64/helm")
    command = [str(program), "--kubeconfig", str(inventory / "kubeconfig.cfg"), "--namespace", namespace, *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=True, timeout=600).stdout


@dataclass
class Walkthrough:
    """Airflow in the cluster, as its user sees it."""

    cluster: Cluster
    inventory: Path
    url: str
    """The gateway's own."""
    address: str
    """The ingress's: the names of services resolve to it where there is a DNS that asks the internet."""
    namespace: str = NAMESPACE

    @classmethod
    def of(cls, cluster: Cluster, inventory: Path, namespace: str = NAMESPACE) -> Walkthrough:
        """Find the gateway."""
        gateway = cluster.get("Service", "airflow-workflow-gateway", namespace, KNATIVE)
        ingress = cluster.get("Service", "kourier", "knative-serving")
        return cls(cluster, inventory, gateway.status.url, ingress.status.loadBalancer.ingress[0].ip, namespace)

    def curl(self, dag_id: str, data: Any, *options: str) -> str:
        """Run a workflow, to the letter as the README of the reference has it, and return what is answered."""
        host = urlsplit(self.url).hostname
        command = ["curl", "--silent", "--show-error", "--resolve", f"{host}:80:{self.address}", *options]
        command += ["-u", "admin:admin", "-X", "POST", "-H", "application/json", "--data", json.dumps({"input": data})]
        command += [f"{self.url}/runWorkflow/{dag_id}"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout

    def services(self) -> dict[str, str]:
        """State of each Knative Service (True when it is ready), by name."""
        found = self.cluster.kind("Service", KNATIVE).get(namespace=self.namespace).to_dict()["items"]
        return {
            service["metadata"]["name"]: next(
                (
                    entry["status"]
                    for entry in service.get("status", {}).get("conditions", [])
                    if entry["type"] == "Ready"
                ),
                "Unknown",
            )
            for service in found
        }

    def pods(self, component: str) -> list[dict[str, Any]]:
        """The pods of one component."""
        selector = f"app.kubernetes.io/instance={RELEASE},{_COMPONENT}={component}"
        found: list[dict[str, Any]] = (
            self.cluster.kind("Pod").get(namespace=self.namespace, label_selector=selector).to_dict()["items"]
        )
        return found

    def kubectl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run kubectl in the namespace."""
        command = [
            "kubectl",
            "--kubeconfig",
            str(self.inventory / "kubeconfig.cfg"),
            "--namespace",
            self.namespace,
            *arguments,
        ]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    def helm(self, *arguments: str) -> str:
        """Run the helm that the play fetched."""
        return helm(self.inventory, self.namespace, *arguments)

    def deploy(self, folder: Path) -> subprocess.CompletedProcess[str]:
        """Deploy the workflows of a folder."""
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "--inventory", str(self.inventory)]
        command += ["playbooks/workflows.yml", "--extra-vars", f"workflows_folder={folder}"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        return subprocess.run(
            command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False, timeout=900
        )


@dataclass
class Caller:
    """Calls a workflow again and again, until it is told to stop."""

    walkthrough: Walkthrough
    answers: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Begin."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._call)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the last answer."""
        self._stop.set()
        self._thread.join()

    def expect(self, output: str) -> None:
        """Fail with every answer, in full, that was another; and where there was none."""
        assert self.answers  # noqa: S101 # a test's
        wrong = [answer for answer in self.answers if answer != output]
        assert not wrong, "\n".join(wrong)  # noqa: S101 # a test's

    def _call(self) -> None:
        while not self._stop.is_set():
            try:
                self.answers.append(self.walkthrough.curl("compute_avg_distributed", [1, 2, 3, 4]))
            except (subprocess.SubprocessError, OSError) as error:
                self.answers.append(repr(error))
            time.sleep(0.5)
