"""What a user can set for an instance."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Literal, Self, get_args

from airflow_knative.local.errors import LocalError
from airflow_knative.local.files import write_atomically

__all__ = ["DEFAULT_EXECUTOR", "LAST_PORT", "PORTS", "Granularity", "LocalSettings", "PortUse"]

Granularity = Literal["task", "dag"]
LAST_PORT: Final = 65535
DEFAULT_EXECUTOR: Final = "airflow_knative.executor.KnativeExecutor"


@dataclass(frozen=True)
class PortUse:
    """A port that an instance listens on."""

    field: str
    part: str
    option: str
    default: int


PORTS: Final = (
    PortUse("gateway_port", "the gateway", "--gateway-port", 8085),
    PortUse("api_port", "Airflow's UI and API", "--api-port", 8080),
    PortUse("activator_port", "the activator", "--activator-port", 8086),
)


@dataclass(frozen=True)
class LocalSettings:
    """The settings of one instance.

    Attributes:
        workflows: The dags folder.
        granularity: One service per task, or one per DAG.
        host: Address that the gateway, Airflow's UI and the activator listen on.
        gateway_port: TCP port of the gateway.
        api_port: TCP port of Airflow's UI and API.
        activator_port: TCP port of the activator.
        executor: Airflow's `[core] executor`.
        starts_at_once: Workers that may be starting at the same time, 0 for one more than there are processors.
    """

    workflows: Path
    granularity: Granularity = "task"
    host: str = "127.0.0.1"
    gateway_port: int = 8085
    api_port: int = 8080
    activator_port: int = 8086
    executor: str = DEFAULT_EXECUTOR
    starts_at_once: int = 0

    def __post_init__(self) -> None:
        """Check what types cannot say.

        Raises:
            LocalError: A value is not allowed.
        """
        if self.granularity not in get_args(Granularity):
            raise LocalError(f"--granularity is {self.granularity!r}; allowed: task, dag")
        ports = [getattr(self, use.field) for use in PORTS]
        for use, port in zip(PORTS, ports, strict=True):
            if not 1 <= port <= LAST_PORT:
                raise LocalError(f"{use.option} is {port}; allowed: 1 to 65535")
            if ports.count(port) > 1:
                others = " and ".join(other.option for other in PORTS if getattr(self, other.field) == port)
                raise LocalError(f"{others} are both {port}; give each a port of its own")
        if self.starts_at_once < 0:
            raise LocalError(f"--starts-at-once is {self.starts_at_once}; allowed: 0 (automatic) or more")

    @property
    def gateway_url(self) -> str:
        """Where a client reaches the gateway."""
        return f"http://{self.reachable_host}:{self.gateway_port}"

    @property
    def api_url(self) -> str:
        """Where a client reaches Airflow's UI and API."""
        return f"http://{self.reachable_host}:{self.api_port}"

    @property
    def activator_url(self) -> str:
        """Where the executor reaches the workers."""
        return f"http://{self.reachable_host}:{self.activator_port}"

    @property
    def reachable_host(self) -> str:
        """An address to connect to, where `host` may mean all of them."""
        return "127.0.0.1" if self.host in {"0.0.0.0", "::", ""} else self.host

    def differences(self, asked: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
        """What would change: field -> (now, asked)."""
        return {name: (getattr(self, name), value) for name, value in asked.items() if getattr(self, name) != value}

    def with_changes(self, asked: dict[str, Any]) -> Self:
        """The settings with some of them changed."""
        return replace(self, **asked)

    def save(self, path: Path) -> None:
        """Write them as JSON."""
        write_atomically(path, json.dumps({**asdict(self), "workflows": str(self.workflows)}, indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            LocalError: The file is missing or is not what `save` writes.
        """
        try:
            raw = json.loads(path.read_text())
            known = {field.name for field in fields(cls)}
            return cls(**{**{k: v for k, v in raw.items() if k in known}, "workflows": Path(raw["workflows"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise LocalError(
                f"{path} does not hold an instance's settings ({error}); run `airflow-knative local up`"
            ) from error
