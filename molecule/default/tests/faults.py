# ruff: noqa: INP001 # found by molecule's tests in their own folder
"""Breaks one part of the cluster while a workflow runs that writes down each of its executions outside of it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

import httpx
import yaml
from browser import forwarded
from tests.faults.ledger import judge, read
from tests.faults.records import Fault
from walkthrough import NAMESPACE, RELEASE, Walkthrough

from conftest import INVENTORY, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["KINDS", "Field", "Kind"]

_DAG = "ledgered"
_LINES = 16  # of a ledger in which nothing went wrong, but for the last
_LIMIT = 600.0  # seconds until a run that has not ended counts as lost
_NODE = "molecule-default-node"
_SILENCE = 25.0  # seconds; connections that were there are given up in less (airflow_knative.connect_args)


@dataclass(frozen=True)
class Kind:
    """One kind of fault: kill or pause a container, delete or cut off a pod, kill a service of the node or pause it."""

    action: str
    part: str
    """The value of a pod's label, or the node's service."""
    container: str = ""
    """Of the pod; of a service, which of its processes: containers are below containerd's."""
    label: str = "app.kubernetes.io/component"
    namespace: str = NAMESPACE
    may_retry: bool = False
    """Whether a task may be retried or fail because of it; else everything is done once."""


def _airflow(part: str, container: str) -> dict[str, Kind]:
    kinds = {
        f"{part} killed": Kind("kill", part, container),
        f"{part} stopped for a while": Kind("pause", part, container),
    }
    return {**kinds, f"{part}'s pod deleted": Kind("delete", part, container)}


def _knative(part: str, container: str) -> dict[str, Kind]:
    return {
        f"{part} {done}": Kind(action, part, container, "app", "knative-serving")
        for done, action in (("killed", "kill"), ("stopped for a while", "pause"))
    }


KINDS: Final = {
    **_airflow("scheduler", "scheduler"),
    **_airflow("api-server", "api-server"),
    **_airflow("postgresql", "postgresql"),
    "postgresql cut off for a while": Kind("cut", "postgresql", "postgresql"),
    "triggerer killed": Kind("kill", "triggerer", "triggerer"),
    "gateway killed": Kind("kill", "gateway", "gateway"),
    "worker killed": Kind("kill", "worker", "worker", may_retry=True),
    "worker stopped for a while": Kind("pause", "worker", "worker"),
    "worker's pod deleted": Kind("delete", "worker", "worker", may_retry=True),
    "queue-proxy killed": Kind("kill", "worker", "queue-proxy"),
    "queue-proxy stopped for a while": Kind("pause", "worker", "queue-proxy"),
    **_knative("activator", "activator"),
    **_knative("autoscaler", "autoscaler"),
    **_knative("3scale-kourier-gateway", "kourier-gateway"),
    "kubelet killed": Kind("service", "kubelet", "main"),
    "containerd killed": Kind("service", "containerd", "main"),
    "containerd and every container killed": Kind("service", "containerd", "all", may_retry=True),
    "node stopped for a while": Kind("node", "node"),
}


class _Ledgers:
    """Files that tasks add lines to over HTTP, at an address of this machine that pods reach."""

    def __init__(self, folder: Path, host: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # the library's name
                line = self.rfile.read(int(self.headers["content-length"]))
                with (folder / Path(self.path).name).open("ab") as ledger:
                    ledger.write(line)
                self.send_response(HTTPStatus.NO_CONTENT)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self.url = f"http://{host}:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _View:
    """Airflow, as the judge of a run looks at it."""

    def __init__(self, gateway: httpx.Client, airflow: httpx.Client) -> None:
        self.gateway, self.airflow = gateway, airflow

    def api(self, path: str) -> Any:
        answer = self.airflow.get(f"/api/v2/{path}")
        answer.raise_for_status()
        return answer.json()


class Field:
    """The cluster, on which one fault after the other is tried."""

    def __init__(self, walkthrough: Walkthrough, folder: Path) -> None:
        """Keep ledgers in `folder`."""
        self._walkthrough = walkthrough
        self._folder = folder
        self._gateway = httpx.Client(
            base_url=f"http://{walkthrough.address}",
            headers={"host": urlsplit(walkthrough.url).hostname or ""},
            auth=("admin", "admin"),
            timeout=httpx.Timeout(5, read=60),
        )
        (instance,) = yaml.safe_load(Path(os.environ["MOLECULE_INSTANCE_CONFIG"]).read_text())
        self._ledgers = _Ledgers(folder, str(urlsplit(instance["mirror"]).hostname))

    def __enter__(self) -> Self:
        """Take lines from now on."""
        self._ledgers.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """End that."""
        self._ledgers.__exit__()
        self._gateway.close()

    def run(self, name: str, *, within: float = _LIMIT) -> Any:
        """Run the workflow without a fault, and return what the gateway says of it."""
        run_id, _ = self._start(name)
        assert self._wait(run_id, within)  # noqa: S101 # a test's
        return self._gateway.get(f"/runs/{_DAG}/{run_id}").json()

    def strike(self, kind: str, number: int, seed: int) -> Fault:
        """Run the workflow, break a part at a moment that `seed`, `kind` and `number` choose, and judge."""
        rng = random.Random(f"{seed} {kind} {number}")  # noqa: S311
        fault = Fault(kind, number, seed, line=rng.randint(1, _LINES), delay=round(rng.uniform(0.0, 0.8), 2))
        fault.may_retry = KINDS[kind].may_retry
        fault.run, ledger = self._start(f"{kind}-{number}".replace(" ", "-").replace("'", ""))
        deadline = time.monotonic() + _LIMIT
        while len(read(ledger)) < fault.line and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(fault.delay)
        struck = time.monotonic()
        self._break(KINDS[kind], rng)
        fault.hit = True
        ended = self._wait(fault.run, _LIMIT)
        fault.recovery = round(time.monotonic() - struck, 1)
        eventually(self._is_well, seconds=300)
        with self._view() as view:
            fault.judgement = judge(view, _DAG, fault.run, ledger, ended=ended)
        return fault

    def _start(self, name: str) -> tuple[str, Path]:
        data = {"input": {"ledger": f"{self._ledgers.url}/{name}"}}
        ledger = self._folder / name
        ledger.unlink(missing_ok=True)
        answer = self._gateway.post(f"/runWorkflow/{_DAG}", json=data, headers={"prefer": "respond-async"})
        answer.raise_for_status()
        return answer.headers["location"].rsplit("/", 1)[1], ledger

    def _wait(self, run_id: str, within: float) -> bool:
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            # The gateway, or what it asks, may be what was broken.
            with contextlib.suppress(httpx.HTTPError, ValueError):
                if self._gateway.get(f"/runs/{_DAG}/{run_id}").json().get("state") in {"success", "failed"}:
                    return True
            time.sleep(0.5)
        return False

    @contextlib.contextmanager
    def _view(self) -> Iterator[_View]:
        kubeconfig = INVENTORY / "kubeconfig.cfg"
        with (
            forwarded(kubeconfig, NAMESPACE, f"{RELEASE}-api-server", 8080) as url,
            httpx.Client(base_url=url, timeout=60) as airflow,
        ):
            token = airflow.post("/auth/token", json={"username": "admin", "password": "admin"}).json()
            airflow.headers["authorization"] = f"Bearer {token['access_token']}"
            yield _View(self._gateway, airflow)

    def _is_well(self) -> bool:
        # Without kubelet or containerd pods look as they did.
        if self._walkthrough.kubectl("exec", f"deployment/{RELEASE}-api-server", "--", "true").returncode:
            return False
        pods = [pod for namespace in (NAMESPACE, "knative-serving") for pod in self._pods(namespace)]
        ready = {
            condition["status"]
            for pod in pods
            if pod["status"]["phase"] not in {"Succeeded", "Failed"} and not pod["metadata"].get("deletionTimestamp")
            for condition in pod["status"].get("conditions") or []
            if condition["type"] == "Ready"
        }
        return ready == {"True"}

    def _pods(self, namespace: str, selector: str = "") -> list[dict[str, Any]]:
        pods = self._walkthrough.cluster.kind("Pod")
        # The API server is away while its node stands still.
        with contextlib.suppress(OSError):
            found: list[dict[str, Any]] = pods.get(namespace=namespace, label_selector=selector).to_dict()["items"]
            return found
        return []

    def _break(self, kind: Kind, rng: random.Random) -> None:
        pause = rng.uniform(1.0, 4.0)
        if kind.action == "service":
            _docker("exec", _NODE, "systemctl", "kill", "--kill-whom", kind.container, "--signal", "KILL", kind.part)
            return
        if kind.action == "node":
            _docker("pause", _NODE)
            time.sleep(pause)
            _docker("unpause", _NODE)
            return
        pods = [
            pod
            for pod in self._pods(kind.namespace, f"{kind.label}={kind.part}")
            if pod["status"]["phase"] == "Running"
            and (kind.part != "worker" or _DAG in pod["metadata"]["labels"]["serving.knative.dev/service"])
        ]
        pod = rng.choice(pods)
        if kind.action == "delete":
            options = ("--grace-period", "0", "--force", "--wait=false")
            self._walkthrough.kubectl("delete", "pod", pod["metadata"]["name"], *options)
            return
        if kind.action == "cut":
            with _cut_off(pod["status"]["podIP"]):
                time.sleep(_SILENCE)
            return
        (container,) = [one for one in pod["status"]["containerStatuses"] if one["name"] == kind.container]
        processes = _processes(container["containerID"].rsplit("/", 1)[1])
        assert processes, f"{kind} has no process in {pod['metadata']['name']}"  # noqa: S101 # a test's
        if kind.action == "kill":
            _signal(processes, signal.SIGKILL)
            return
        _signal(processes, signal.SIGSTOP)
        time.sleep(pause)
        _signal(processes, signal.SIGCONT)


def _docker(*arguments: str) -> None:
    subprocess.run(["docker", *arguments], check=True, capture_output=True, timeout=60)


@contextlib.contextmanager
def _cut_off(address: str) -> Iterator[None]:
    """Lose without a word what other pods send to a pod, and what it sends to them."""
    rules = [("FORWARD", way, address, "--jump", "DROP") for way in ("--source", "--destination")]
    for rule in rules:
        _docker("exec", _NODE, "iptables", "--wait", "--insert", *rule)
    try:
        yield
    finally:
        for rule in rules:
            _docker("exec", _NODE, "iptables", "--wait", "--delete", *rule)


def _processes(container: str) -> list[int]:
    """The processes of a container, as this machine, whose kernel the node shares, numbers them."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if container in (folder / "cgroup").read_text():
                    found.append(int(folder.name))
    return found


def _signal(processes: list[int], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
