"""Endpoints from a watch on the Knative Services of a namespace."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from airflow_knative.executor.endpoints import Endpoint, NoEndpointError
from airflow_knative.executor.kubernetes import ApiError, Cluster, ExpiredError, Resource

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_knative.executor.kubernetes import Event

__all__ = ["KubernetesEndpoints", "Service", "read_service"]

log = logging.getLogger(__name__)

_DAG: Final = "airflow-knative/dag-id"
_TASK: Final = "airflow-knative/task-id"
_MAX_SCALE: Final = "autoscaling.knative.dev/max-scale"
_WINDOW: Final = "autoscaling.knative.dev/window"
_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}  # seconds
_FIRST_LIST: Final = 10.0  # seconds that a start waits for it at most
_FIRST_DELAY: Final = 0.2  # seconds; doubles up to the last
_LAST_DELAY: Final = 10.0
_RELIST_INTERVAL: Final = 2.0  # seconds between two lists that misses ask for
_SHORTEST_WATCH: Final = 1.0  # seconds; one that ends sooner is not begun again at once
_KNATIVE_TIMEOUT: Final = 300.0  # seconds; Knative's own default of timeoutSeconds


@dataclass(frozen=True)
class Service:
    """A Knative Service, as far as it matters here."""

    name: str
    created: str
    dag_id: str
    task_id: str | None
    endpoint: Endpoint | None
    """None while it cannot take requests."""
    trouble: str
    """Why not."""


class KubernetesEndpoints:
    """Finds services by their annotations; use as an asynchronous context manager.

    What was last seen stays in use while the API server is away.
    """

    def __init__(self, cluster: Cluster, namespace: str | None = None) -> None:
        """Watch the Knative Services of `namespace`; None is the service account's own.

        Raises:
            AirflowKnativeError: the namespace cannot be read.
        """
        self._namespace = namespace or cluster.read("namespace")
        self._resource = Resource(cluster, f"/apis/serving.knative.dev/v1/namespaces/{self._namespace}/services")
        self._services: dict[str, Service] = {}
        self._by_task: dict[tuple[str, str | None], list[Service]] = {}
        self._trouble: str | None = "they have not been listed yet"
        self._listed = asyncio.Event()
        self._missed = asyncio.Event()
        self._watching: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        """Begin to watch; return when the services are known, or the API server does not answer in time."""
        await self._resource.__aenter__()
        self._watching = asyncio.create_task(self._watch_for_ever())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._listed.wait(), _FIRST_LIST)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop watching."""
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        await self._resource.__aexit__(*exc)

    def find(self, dag_id: str, task_id: str) -> Endpoint:
        """Return the endpoint of a task: its own, else its DAG's. A miss has the services listed anew.

        Raises:
            NoEndpointError: no service is ready for it, as far as is known now.
        """
        if (endpoint := self.known(dag_id, task_id)) is not None:
            return endpoint
        self._missed.set()
        raise NoEndpointError(self._explain(dag_id, task_id))

    def known(self, dag_id: str, task_id: str) -> Endpoint | None:
        """Return the endpoint of a task; None if no service is ready for it, as far as is known now."""
        return next((service.endpoint for service in self._candidates(dag_id, task_id) if service.endpoint), None)

    def _candidates(self, dag_id: str, task_id: str) -> list[Service]:
        return self._by_task.get((dag_id, task_id), []) + self._by_task.get((dag_id, None), [])

    def _explain(self, dag_id: str, task_id: str) -> str:
        candidates = self._candidates(dag_id, task_id)
        task = f"task {task_id!r} of DAG {dag_id!r}"
        if candidates:
            service = candidates[0]
            text = (
                f"Knative Service {service.name} of {task} in namespace {self._namespace} is not ready: "
                f"{service.trouble}. Look with `kubectl -n {self._namespace} describe ksvc {service.name}`."
            )
        else:
            text = (
                f"No Knative Service for {task} in namespace {self._namespace} (annotations {_DAG} and {_TASK}). "
                "Deploy the workflow's services: `airflow-knative services render` writes the chart's values, `helm "
                f"upgrade` makes the services, `kubectl -n {self._namespace} get ksvc` lists them."
            )
        return f"{text} The services as last seen, because: {self._trouble}." if self._trouble else text

    async def _watch_for_ever(self) -> None:
        delay = _FIRST_DELAY
        while True:
            try:
                version = await self._list()
                delay = _FIRST_DELAY
                await self._follow_until_missed(version)
            except ExpiredError as error:
                log.info("Listing Knative Services anew: %s", error)
                await asyncio.sleep(_FIRST_DELAY)
            except Exception as error:  # the next list may work, and without one no task would run
                if not isinstance(error, ApiError):
                    log.exception("A Knative Service could not be read")
                self._note(str(error) if isinstance(error, ApiError) else repr(error))
                await asyncio.sleep(delay * random.uniform(0.5, 1.5))  # noqa: S311
                delay = min(delay * 2, _LAST_DELAY)

    async def _list(self) -> str:
        self._missed.clear()
        objects, version = await self._resource.list()
        self._take_all(objects)
        self._note(None)
        self._listed.set()
        return version

    def _note(self, trouble: str | None) -> None:
        if trouble and trouble != self._trouble:
            log.error("Watching Knative Services in namespace %s failed: %s", self._namespace, trouble)
        elif self._trouble and not trouble and self._listed.is_set():
            log.info("Watching Knative Services in namespace %s again", self._namespace)
        self._trouble = trouble

    async def _follow_until_missed(self, version: str) -> None:
        """Keep up with changes until a look-up missed, and then a little longer if the last list is fresh."""
        listed = time.monotonic()
        following = asyncio.create_task(self._follow(version))
        missed = asyncio.create_task(self._missed.wait())
        try:
            await asyncio.wait({following, missed}, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                fresh = listed + _RELIST_INTERVAL - time.monotonic()
                await asyncio.wait({following}, timeout=max(fresh, 0))
            if following.done():
                following.result()
        finally:
            following.cancel()
            missed.cancel()
            await asyncio.gather(following, missed, return_exceptions=True)

    async def _follow(self, version: str) -> None:
        """Keep up with changes; a watch that ends is taken up where it ended."""
        delay = _FIRST_DELAY
        while True:
            began = time.monotonic()
            try:
                async for event in self._resource.watch(version):
                    self._take(event)
                    self._note(None)
                    version = event.version
                    delay = _FIRST_DELAY
            except ExpiredError:
                raise
            except ApiError as error:
                if time.monotonic() - began < _SHORTEST_WATCH:
                    self._note(str(error))
                await asyncio.sleep(delay * random.uniform(0.5, 1.5))  # noqa: S311
                delay = min(delay * 2, _LAST_DELAY)
            else:
                self._note(None)
                if time.monotonic() - began < _SHORTEST_WATCH:
                    await asyncio.sleep(_SHORTEST_WATCH)

    def _take(self, event: Event) -> None:
        if event.kind == "BOOKMARK":
            return
        name = str(event.object["metadata"]["name"])
        service = read_service(event.object) if event.kind != "DELETED" else None
        if service is not None:
            self._services[name] = service
        elif self._services.pop(name, None) is None:
            return
        self._index()

    def _take_all(self, objects: Iterable[dict[str, Any]]) -> None:
        found = (read_service(one) for one in objects)
        self._services = {service.name: service for service in found if service is not None}
        self._index()

    def _index(self) -> None:
        index: dict[tuple[str, str | None], list[Service]] = {}
        # Of several for one task, as while one takes the place of another, the newest.
        for service in sorted(self._services.values(), key=lambda it: (it.created, it.name), reverse=True):
            index.setdefault((service.dag_id, service.task_id), []).append(service)
        self._by_task = index


def read_service(found: dict[str, Any]) -> Service | None:
    """Read a Knative Service; None if no task belongs to it."""
    metadata = found["metadata"]
    annotations = metadata.get("annotations") or {}
    if not (dag_id := annotations.get(_DAG)):
        return None
    task_id = annotations.get(_TASK) or None
    trouble = _trouble(found)
    endpoint = None
    if trouble is None:
        status = found["status"]
        template = (found.get("spec") or {}).get("template") or {}
        spec = template.get("spec") or {}
        scaling = (template.get("metadata") or {}).get("annotations") or {}
        endpoint = Endpoint(
            dag_id=dag_id,
            task_id=task_id,
            name=metadata["name"],
            url=(status.get("address") or {}).get("url") or status["url"],
            timeout=spec.get("timeoutSeconds") or _KNATIVE_TIMEOUT,
            # Without a limit one pod would do; to start one too many ahead of time does no harm.
            slots=spec.get("containerConcurrency") or 1,
            max_scale=int(scaling.get(_MAX_SCALE) or 0),
            window=_seconds(scaling.get(_WINDOW)),
            revision=_settled_revision(found),
        )
    created = str(metadata.get("creationTimestamp", ""))
    return Service(metadata["name"], created, dag_id, task_id, endpoint, trouble or "")


def _seconds(duration: str | None) -> float:
    """Read a Go duration, which Knative has checked; its default window where there is none."""
    parts = re.findall(r"([0-9.]+)(h|ms|m|s)", duration or "")
    return sum(float(number) * _UNITS[unit] for number, unit in parts) or Endpoint.model_fields["window"].default


def _trouble(found: dict[str, Any]) -> str | None:
    """Tell why a service cannot take requests; None if it can.

    One that was ready before takes them still: while a new revision is on its way, or has failed, the one before
    serves, and while the cluster has no room for a pod, the activator holds the request until it has.
    """
    if found["metadata"].get("deletionTimestamp"):
        return "it is being deleted"
    status = found.get("status") or {}
    ready = _readiness(status)
    is_known = (status.get("address") or {}).get("url") or status.get("url")
    if is_known and (ready.get("status") == "True" or status.get("latestReadyRevisionName")):
        return None
    return _said(ready)


def _settled_revision(found: dict[str, Any]) -> str | None:
    """Return the revision that requests go to; None from the moment that the service is changed until that is sure."""
    status = found["status"]
    revision = status.get("latestReadyRevisionName")
    is_ready = _readiness(status).get("status") == "True"
    is_current = status.get("observedGeneration") == found["metadata"].get("generation")
    return revision if is_ready and is_current and revision == status.get("latestCreatedRevisionName") else None


def _readiness(status: dict[str, Any]) -> dict[str, Any]:
    """Return the condition `Ready`; an empty one where Knative has not said yet."""
    return next((it for it in status.get("conditions") or () if it["type"] == "Ready"), {})


def _said(condition: dict[str, Any]) -> str:
    words = [str(condition[key]).rstrip(".") for key in ("reason", "message") if condition.get(key)]
    return ": ".join(words) or "Knative has not made it ready yet"
