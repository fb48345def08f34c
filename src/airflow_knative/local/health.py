"""Whether the parts do their work, asked over HTTP."""

from __future__ import annotations

import contextlib
import itertools
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from airflow_knative.local.files import short_socket_path

import os  # isort: skip

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from airflow_knative.local.secrets import Secrets
    from airflow_knative.local.settings import LocalSettings

__all__ = ["Health"]

_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
_PAGE: Final = 100
_JOBS: Final = {"scheduler": "scheduler", "dag-processor": "dag_processor", "triggerer": "triggerer"}


class Health:
    """Questions to the parts of an instance. An answer that does not come counts as unhealthy."""

    def __init__(self, settings: LocalSettings, secrets: Secrets, activator: Path) -> None:
        self._settings = settings
        self._secrets = secrets
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
        short, fd = short_socket_path(activator)
        self._fd = fd
        self._activator = aiohttp.ClientSession(connector=aiohttp.UnixConnector(short), timeout=_TIMEOUT)
        self._token: str | None = None

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()
        await self._activator.close()
        if self._fd is not None:
            os.close(self._fd)

    async def airflow(self, started: Mapping[str, float]) -> dict[str, bool]:
        """The health of Airflow's own parts by name.

        Args:
            started: Unix time at which each part started: a heartbeat from before is another process's.
        """
        answer = await self._json(f"{self._settings.api_url}/api/v2/monitor/health")
        if answer is None:
            return {"api-server": False, **dict.fromkeys(_JOBS, False)}
        return {
            "api-server": True,
            **{part: _is_alive(answer.get(key), key, started[part]) for part, key in _JOBS.items()},
        }

    async def gateway(self) -> bool:
        """Whether the gateway answers."""
        return await self._answers(f"{self._settings.gateway_url}/healthz")

    async def activator(self) -> dict[str, Any] | None:
        """The activator's services and workers, or None."""
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError, ValueError):
            async with self._activator.get("http://activator/") as response:
                answer: dict[str, Any] = await response.json()
                return answer
        return None

    async def activator_answers(self) -> bool:
        """Whether the activator answers; with thousands of services much less than `activator`."""
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with self._activator.get("http://activator/healthz") as response:
                return response.status == HTTPStatus.OK
        return False

    async def reload_activator(self) -> bool:
        """Have the activator read its services again; say whether it did."""
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with self._activator.post("http://activator/reload") as response:
                return response.status == HTTPStatus.OK
        return False

    async def parsed_dags(self) -> set[str] | None:
        """The ids of the DAGs that Airflow knows, or None when it does not tell.

        A DAG that comes while the pages are read may be missing: pages go by order, and it may move others to the next.
        """
        headers = await self._authorization()
        if headers is None:
            return None
        found: set[str] = set()
        for offset in itertools.count(step=_PAGE):
            answer = await self._json(f"{self._settings.api_url}/api/v2/dags?limit={_PAGE}&offset={offset}", headers)
            if answer is None:
                return None
            found |= {dag["dag_id"] for dag in answer["dags"]}
            if offset + _PAGE >= answer["total_entries"]:
                break
        return found

    async def login_works(self) -> bool:
        """Whether the administrator gets a token."""
        return await self._authorization() is not None

    async def _authorization(self) -> dict[str, str] | None:
        if self._token is None:
            body = {"username": self._secrets.admin_user, "password": self._secrets.admin_password}
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, ValueError, KeyError):
                async with self._session.post(f"{self._settings.api_url}/auth/token", json=body) as response:
                    self._token = (await response.json())["access_token"]
        return None if self._token is None else {"Authorization": f"Bearer {self._token}"}

    async def _json(self, url: str, headers: Mapping[str, str] | None = None) -> dict[str, Any] | None:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, ValueError):
            async with self._session.get(url, headers=headers) as response:
                if response.status == HTTPStatus.OK:
                    answer: dict[str, Any] = await response.json()
                    return answer
        return None

    async def _answers(self, url: str) -> bool:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self._session.get(url) as response:
                return response.status == HTTPStatus.OK
        return False


def _is_alive(job: Mapping[str, str] | None, key: str, started: float) -> bool:
    if job is None or job.get("status") != "healthy":
        return False
    beat = job.get(f"latest_{key}_heartbeat")
    return beat is not None and datetime.fromisoformat(beat).timestamp() >= started
