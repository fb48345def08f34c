"""Which gateway and which Airflow a command talks to, and as whom."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from airflow_knative.errors import AirflowKnativeError
from airflow_knative.variables import AIRFLOW_URL, GATEWAY_URL, PASSWORD, USER

__all__ = [
    "PASSWORD",
    "USER",
    "AirflowUrlOption",
    "Connection",
    "GatewayUrlOption",
    "StateOption",
    "UserOption",
    "connect",
]

GatewayUrlOption = Annotated[
    str | None,
    typer.Option("--gateway-url", envvar=GATEWAY_URL, help="URL of the gateway; without it the local one."),
]
AirflowUrlOption = Annotated[
    str | None,
    typer.Option("--airflow-url", envvar=AIRFLOW_URL, help="URL of Airflow's API server; without it the local one."),
]
UserOption = Annotated[
    str | None,
    typer.Option("--user", envvar=USER, help=f"Airflow user. The password comes from ${PASSWORD} only."),
]
StateOption = Annotated[
    Path | None,
    typer.Option("--state", help="State folder of the local instance, if it is not the default one."),
]


@dataclass(frozen=True)
class Connection:
    """Where to connect to, and as whom.

    Attributes:
        gateway_url: Without a slash at the end, or None when only an Airflow is known.
        airflow_url: The same for Airflow's API server, or None when only a gateway is known.
        user: The Airflow user.
        password: Not shown by `repr`.
    """

    gateway_url: str | None
    airflow_url: str | None
    user: str
    password: str

    def __repr__(self) -> str:
        """Leave the password out."""
        return f"Connection({self.gateway_url!r}, {self.airflow_url!r}, {self.user!r})"


def connect(*, gateway_url: str | None, airflow_url: str | None, user: str | None, state: Path | None) -> Connection:
    """Complete what the user gave.

    With no URL given, the local instance is meant, and what its state folder says of URLs, user and password fills the
    gaps. Its password is never sent to a URL that somebody gave.

    Raises:
        AirflowKnativeError: A URL was given without user or password, or a URL is none.
    """
    for option, url in (("--gateway-url", gateway_url), ("--airflow-url", airflow_url)):
        if url is not None and not url.startswith(("http://", "https://")):
            raise AirflowKnativeError(f"{option} is {url!r}; allowed: a URL that starts with http:// or https://")
    password = os.environ.get(PASSWORD)
    if gateway_url is None and airflow_url is None:
        local = _local(state)
        return Connection(local.gateway_url, local.airflow_url, user or local.user, password or local.password)
    if state is not None:
        raise AirflowKnativeError("--state names a local instance, and a URL was given too; leave one of them out")
    for name, value, mend in (("user", user, f"--user or ${USER}"), ("password", password, f"${PASSWORD}")):
        if not value:
            raise AirflowKnativeError(f"a URL was given but no {name}; set {mend}")
    return Connection(
        gateway_url and gateway_url.rstrip("/"), airflow_url and airflow_url.rstrip("/"), user or "", password or ""
    )


@dataclass(frozen=True)
class _Local:
    gateway_url: str = "http://127.0.0.1:8085"
    airflow_url: str = "http://127.0.0.1:8080"
    user: str = "admin"
    password: str = "admin"  # noqa: S105 -- the demo login of a local instance


def _local(state: Path | None) -> _Local:
    try:
        from airflow_knative.local.paths import StatePaths, default_state  # noqa: PLC0415 -- needs an extra
        from airflow_knative.local.secrets import Secrets  # noqa: PLC0415
        from airflow_knative.local.settings import LocalSettings  # noqa: PLC0415
    except ImportError:
        return _Local()
    paths = StatePaths(state or default_state())
    if state is None and not paths.settings.exists():
        return _Local()
    settings, secrets = LocalSettings.load(paths.settings), Secrets.load(paths)
    return _Local(settings.gateway_url, settings.api_url, secrets.admin_user, secrets.admin_password)
