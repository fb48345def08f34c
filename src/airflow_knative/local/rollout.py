"""From the workflows folder to running services, at the start and at every change."""

from __future__ import annotations

import hashlib
import json
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from airflow_knative.local.catalog import Service, endpoints, load_services, saved_key
from airflow_knative.local.child import say
from airflow_knative.local.errors import LocalError
from airflow_knative.local.files import write_atomically
from airflow_knative.local.once import run_once
from airflow_knative.local.watch import changes, fingerprint

if TYPE_CHECKING:
    from airflow_knative.local.health import Health
    from airflow_knative.local.parts import Parts

__all__ = ["Rollout"]

_EXIT_PROBLEMS: Final = 3


class Rollout:
    """Keeps services and endpoints in step with the DAGs."""

    def __init__(self, parts: Parts, health: Health) -> None:
        self._parts = parts
        self._health = health
        self.services: list[Service] = load_services(parts.paths.services)
        self.problems: list[str] = []
        self._seen = fingerprint(parts.settings.workflows)

    @property
    def dag_ids(self) -> set[str]:
        """The DAGs that have services."""
        return {service.dag_id for service in self.services}

    async def render(self) -> None:
        """Import the DAGs and write down their services; on wrong DAGs keep those that there were.

        Raises:
            PartError: The renderer itself fails.
        """
        paths = self._parts.paths
        self._seen = fingerprint(self._parts.settings.workflows)
        key = self._key()
        if saved_key(paths.services) == key:
            self.problems = []
            return
        code = await run_once(
            "the renderer of services",
            [sys.executable, "-m", "airflow_knative.local.render", str(paths.root), key],
            environment=self._parts.worker_environment,
            log=paths.log("services"),
            folder=paths.run,
            allowed=(0, _EXIT_PROBLEMS),
        )
        self.problems = json.loads(paths.problems.read_text()) if code == _EXIT_PROBLEMS else []
        for problem in self.problems:
            say(f"workflows: {problem}")
        self.services = load_services(paths.services)

    async def publish(self) -> None:
        """Tell the activator, then the executor."""
        if not await self._health.reload_activator():
            say("the activator does not answer; it reads the services when it starts")
        text = endpoints(self.services, self._parts.settings.activator_url)
        write_atomically(self._parts.paths.endpoints, text)

    async def watch(self) -> None:
        """Roll out every change until cancelled."""
        async for _ in changes(self._parts.settings.workflows, self._seen):
            before = {service.name: service.revision for service in self.services}
            try:
                await self.render()
            except LocalError as error:
                say(f"{error}")
                self.problems = [str(error)]
                continue
            after = {service.name: service.revision for service in self.services}
            if after == before:
                continue
            await self.publish()
            say(f"workflows: {_summary(before, after)}")

    def _key(self) -> str:
        """Everything that services are made from; the same key, the same services."""
        settings = self._parts.settings
        environment = sorted(self._parts.worker_environment.items())
        packages = [version(name) for name in ("airflow-knative", "apache-airflow-core")]
        everything = [str(settings.workflows), settings.granularity, sorted(self._seen), environment, packages]
        return hashlib.sha256(json.dumps(everything).encode()).hexdigest()


def _summary(before: dict[str, str], after: dict[str, str]) -> str:
    changed = [name for name in after if name in before and after[name] != before[name]]
    groups = {"added": set(after) - set(before), "changed": set(changed), "removed": set(before) - set(after)}
    return "; ".join(f"{what} {', '.join(sorted(names))}" for what, names in groups.items() if names)
