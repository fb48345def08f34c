"""The file between the renderer, the activator and the supervisor: which services there are."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from airflow_knative.local.errors import LocalError
from airflow_knative.local.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["DOMAIN", "Service", "endpoints", "load_services", "save_services", "saved_key"]

DOMAIN: Final = "airflow.local"
"""Host names of services end in it."""


@dataclass(frozen=True)
class Service:
    """One service as the activator runs it.

    Attributes:
        name: The service's name, and the audience of requests to it.
        revision: What its workers are: another one means that they are replaced.
        dag_id: The DAG that it serves.
        task_id: The one task that it serves, or None for all of the DAG.
        file: The DAG's file, relative to the dags folder.
        slots: Requests that one worker takes at once.
        min_scale: Workers kept warm.
        max_scale: Workers at most.
        window: Seconds without a request after which a worker is stopped.
        timeout: Seconds that one request may take.
        env: Variables of its workers.
        secrets: Names of files with further variables.
    """

    name: str
    revision: str
    dag_id: str
    task_id: str | None
    file: str
    slots: int = 1
    min_scale: int = 0
    max_scale: int = 10
    window: float = 60.0
    timeout: float = 600.0
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        """The host name that requests to it carry."""
        return f"{self.name}.{DOMAIN}"

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self:
        """Read what `save_services` wrote."""
        return cls(**{**raw, "secrets": tuple(raw.get("secrets", ()))})


def save_services(path: Path, services: Iterable[Service], *, key: str = "") -> None:
    """Write them down in one step.

    Args:
        path: The file.
        services: The services.
        key: What they were made from, for `saved_key`.
    """
    text = json.dumps({"key": key, "services": [asdict(service) for service in services]}, indent=2)
    write_atomically(path, text + "\n")


def saved_key(path: Path) -> str | None:
    """The key that the services were saved with, None if nothing has been saved."""
    try:
        return str(json.loads(path.read_text())["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def load_services(path: Path) -> list[Service]:
    """Read them; none if nothing has been written yet.

    Raises:
        LocalError: The file is damaged.
    """
    try:
        return [Service.parse(raw) for raw in json.loads(path.read_text())["services"]]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError) as error:
        raise LocalError(f"{path} is damaged ({error}); save any DAG file to have it written again") from None


def endpoints(services: Iterable[Service], url: str) -> str:
    """The text of `[knative] endpoints` for an executor that reaches all services at `url`."""
    entries = [
        {
            "dag_id": service.dag_id,
            "task_id": service.task_id,
            "name": service.name,
            "url": url,
            "host": service.host,
            "timeout": service.timeout,
            "slots": service.slots,
            "max_scale": service.max_scale,
            "window": service.window,
        }
        for service in services
    ]
    return json.dumps({"services": entries}, indent=2) + "\n"
