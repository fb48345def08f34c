"""The same on a cluster: workflows through its gateway, with everything at zero when a start is to be cold.

Needed: the gateway's URL, user and password of an Airflow user in the environment, and for cold starts a kubeconfig
that may list pods and make a Knative Service in the release's namespace.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpx

from airflow_knative.cli.airflow import AirflowApi
from airflow_knative.cli.connection import PASSWORD, USER, Connection
from benchmarks.gateway import Gateway, RunError
from benchmarks.measure import stages_of
from benchmarks.samples import Cell
from benchmarks.scenarios import KUBERNETES, LOCAL_MODE, SEED, Scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from benchmarks.gateway import Run
    from benchmarks.samples import Log

__all__ = ["Cluster", "Turn", "measure_cluster", "measure_warm", "turns"]

Turn = tuple[int, Scenario, str]
"""Round, scenario, variant."""

_EMPTY: Final = "benchmark-empty-server"
_EMPTY_PROGRAM: Final = """
import http.server, os, signal
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # without a handler, a container's first process is not ended
http.server.test(http.server.SimpleHTTPRequestHandler, port=8080)
"""
_GATEWAY: Final = "airflow-workflow-gateway"
_GROUP: Final = {"group": "serving.knative.dev", "version": "v1", "plural": "services"}
_KINDS: Final = ("warm", "cold", "empty")
_AT_ZERO_WITHIN: Final = 300.0
_POLL: Final = 2.0
_REST: Final = 5.0
"""Seconds between the last pod's end and a cold run: the node is still busy taking the pod down."""


class Cluster:
    """A release of the chart on a cluster.

    Args:
        gateway_url: Where the gateway is, or the ingress before it.
        gateway_host: The gateway's host name, where the URL has the ingress's address.
        airflow_url: Where Airflow's API is; without it no stages are read.
        kubeconfig: For cold starts; None for the usual place.
        namespace: The release's.
    """

    def __init__(
        self,
        *,
        gateway_url: str,
        gateway_host: str | None,
        airflow_url: str | None,
        kubeconfig: Path | None,
        namespace: str,
    ) -> None:
        user, password = os.environ.get(USER), os.environ.get(PASSWORD)
        if not user or not password:
            sys.exit(f"Set {USER} and {PASSWORD} to an Airflow user's name and password")
        self.ingress_url = gateway_url
        self.gateway = Gateway(gateway_url, user, password, host=gateway_host)
        self.airflow = AirflowApi(Connection(gateway_url, airflow_url, user, password)) if airflow_url else None
        self._namespace = namespace
        # Its generated types know nothing of what objects of other groups hold.
        kubernetes: Any = importlib.import_module("kubernetes")
        kubernetes.config.load_kube_config(config_file=None if kubeconfig is None else str(kubeconfig))
        self._kubernetes = kubernetes.client
        self._pods = self._kubernetes.CoreV1Api()
        self._objects = self._kubernetes.CustomObjectsApi()

    def versions(self) -> dict[str, str]:
        """Return the cluster's Kubernetes and the image that workers run."""
        found = {"kubernetes": str(self._kubernetes.VersionApi().get_code().git_version)}
        for pod in self._list("app.kubernetes.io/component=scheduler"):
            found["image"] = pod.spec.containers[0].image.rpartition("/")[2]
        return found

    def until_task_pods_ended(self) -> None:
        """Wait until no pod of KubernetesExecutor runs; those of tasks that failed stay, and cost nothing."""
        self.until_at_zero("app.kubernetes.io/component=task-pod", "status.phase!=Failed")

    def until_at_zero(self, selector: str = "app.kubernetes.io/component=worker", fields: str = "") -> None:
        """Wait until no pod of a worker is left."""
        deadline = time.monotonic() + _AT_ZERO_WITHIN
        while self._list(selector, fields):
            if time.monotonic() > deadline:
                sys.exit(f"There are still pods of {selector} after {_AT_ZERO_WITHIN:g} s; is something calling them?")
            time.sleep(_POLL)
        time.sleep(_REST)

    def _list(self, selector: str, fields: str = "") -> list[Any]:
        found = self._pods.list_namespaced_pod(self._namespace, label_selector=selector, field_selector=fields)
        return list(found.items)

    def services(self) -> tuple[int, int]:
        """Return how many workers' services are ready as they were asked for, and how many there are."""
        selector = "app.kubernetes.io/component=worker"
        options = {"namespace": self._namespace, "label_selector": selector}
        found = self._objects.list_namespaced_custom_object(**_GROUP, **options)["items"]
        return sum(map(_is_ready, found)), len(found)

    @contextlib.contextmanager
    def empty_server(self) -> Iterator[httpx.Client]:
        """Have a Knative Service that answers and does nothing else; yield a client of it.

        It is Python's own server in the gateway's image, which every node of a cluster in use has.
        """
        service = self._objects.get_namespaced_custom_object(**_GROUP, namespace=self._namespace, name=_GATEWAY)
        body = _empty_server(service["spec"]["template"]["spec"]["containers"][0]["image"])
        with contextlib.suppress(self._kubernetes.ApiException):
            # What a run that was broken off has left; whatever else is wrong, creating it says so.
            self._remove_empty_server()
        self._objects.create_namespaced_custom_object(**_GROUP, namespace=self._namespace, body=body)
        try:
            host = urlsplit(self._url_of_empty()).hostname or ""
            with httpx.Client(base_url=self.ingress_url, headers={"host": host}, timeout=120.0) as http:
                yield http
        finally:
            self._remove_empty_server()

    def _remove_empty_server(self) -> None:
        self._objects.delete_namespaced_custom_object(**_GROUP, namespace=self._namespace, name=_EMPTY)

    def _url_of_empty(self) -> str:
        deadline = time.monotonic() + _AT_ZERO_WITHIN
        while time.monotonic() < deadline:
            told = self._objects.get_namespaced_custom_object(**_GROUP, namespace=self._namespace, name=_EMPTY)
            if _is_ready(told):
                return str(told["status"]["url"])
            time.sleep(_POLL)
        sys.exit(f"The Knative Service {_EMPTY} does not become ready")


def _is_ready(service: dict[str, Any]) -> bool:
    status = service.get("status", {})
    is_current = status.get("observedGeneration") == service["metadata"].get("generation")
    return is_current and any(
        one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", [])
    )


def _empty_server(image: str) -> dict[str, Any]:
    container = {
        "image": image,
        "command": ["python", "-c", _EMPTY_PROGRAM],
        "ports": [{"containerPort": 8080}],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        "securityContext": {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    window = {"autoscaling.knative.dev/window": "6s"}
    template = {"metadata": {"annotations": window}, "spec": {"containers": [container], "enableServiceLinks": False}}
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": _EMPTY},
        "spec": {"template": template},
    }


def turns(scenarios: Sequence[Scenario], rounds: int, variants: Sequence[str]) -> Iterator[Turn]:
    """Yield what is measured when. Every other round goes through the variants backwards."""
    for number in range(1, rounds + 1):
        for scenario in scenarios:
            for variant in variants if number % 2 else reversed(variants):
                if scenario.kind in _KINDS and variant in scenario.variants:
                    yield number, scenario, variant


def measure_cluster(
    cluster: Cluster,
    plan: Iterable[Turn],
    *,
    local_mode: Callable[[Scenario, int], Cell],
    kubernetes_runs: int,
    cold_runs: int,
    log: Log,
) -> None:
    """Measure, turn by turn, what the log does not have yet; `local_mode` measures a scenario there, in a round."""
    for number, scenario, variant in plan:
        if log.has((scenario.name, variant, number)):
            continue
        print(f"round {number}: {scenario.name}, {variant}", file=sys.stderr, flush=True)
        cell = Cell(scenario.name, variant, number, [])
        try:
            if variant == LOCAL_MODE:
                cell.milliseconds = local_mode(scenario, number).milliseconds
            elif variant == KUBERNETES:
                _measure_kubernetes(cluster, scenario, cell, kubernetes_runs)
            elif scenario.kind == "empty":
                _measure_empty(cluster, cell, cold_runs)
            elif scenario.kind == "cold":
                _measure_cold(cluster, scenario, cell, cold_runs)
            else:
                measure_warm(cluster, scenario, cell)
        except RunError as error:
            # No figure is better than one of runs that failed; the others are still worth having.
            print(f"  FAILED, {error}", file=sys.stderr, flush=True)
            continue
        log.add(cell)


def _measure_kubernetes(cluster: Cluster, scenario: Scenario, cell: Cell, count: int) -> None:
    """Time runs that need a new pod for each task; only the first one ever finds a node without the image."""

    def runs(count: int) -> list[Run]:
        dag_id = f"{scenario.dag_id}_{KUBERNETES}"
        return cluster.gateway.run_many(dag_id, scenario.data, scenario.output, count=count, at_once=scenario.at_once)

    if cell.round == 1:
        runs(1)
    cell.milliseconds = [run.milliseconds for run in runs(count)]
    # The executor removes pods after their tasks' ends, which is not to be in the next variant's way.
    cluster.until_task_pods_ended()


def measure_warm(cluster: Cluster, scenario: Scenario, cell: Cell) -> None:
    """Time runs of workers that run, after some that see to that."""

    def runs(count: int) -> list[Run]:
        return cluster.gateway.run_many(
            scenario.dag_id, scenario.data, scenario.output, count=count, at_once=scenario.at_once
        )

    runs(4 if scenario.at_once == 1 else scenario.at_once)
    done = runs(scenario.runs)
    cell.milliseconds = [run.milliseconds for run in done]
    if cluster.airflow is not None:
        cell.stages = stages_of(cluster.airflow, scenario.dag_id, done)


def _measure_cold(cluster: Cluster, scenario: Scenario, cell: Cell, count: int) -> None:
    for _ in range(count):
        cluster.until_at_zero()
        run = cluster.gateway.run(SEED, scenario.data, scenario.output)
        cell.milliseconds.append(run.milliseconds)
        if cluster.airflow is not None:
            cell.stages += stages_of(cluster.airflow, SEED, [run])


def _measure_empty(cluster: Cluster, cell: Cell, count: int) -> None:
    with cluster.empty_server() as http:
        for _ in range(count):
            cluster.until_at_zero(f"serving.knative.dev/service={_EMPTY}")
            begun = time.perf_counter()
            http.get("/").raise_for_status()
            cell.milliseconds.append((time.perf_counter() - begun) * 1000)
