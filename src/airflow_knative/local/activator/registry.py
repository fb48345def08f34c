"""All services by host name."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow_knative.local.activator.gate import StartGate
from airflow_knative.local.activator.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_knative.local.activator.worker import Launch
    from airflow_knative.local.catalog import Service

__all__ = ["Registry"]


class Registry:
    """The services that there are now, and older ones whose workers still have work."""

    def __init__(self, launch: Launch, *, starts_at_once: int, queue_limit: int) -> None:
        self._launch = launch
        self._gate = StartGate(starts_at_once)
        self._queue_limit = queue_limit
        self._pools: dict[str, Pool] = {}
        self._leaving: list[Pool] = []

    def find(self, host: str) -> Pool | None:
        """The service of a Host header, whatever its case, port and final dot (RFC 9110, section 7.2)."""
        return self._pools.get(host.partition(":")[0].rstrip(".").lower())

    def update(self, services: Iterable[Service]) -> None:
        """Add, roll over and retire until these are the services."""
        wanted = {service.host: service for service in services}
        for host in set(self._pools) - set(wanted):
            pool = self._pools.pop(host)
            pool.retire()
            self._leaving.append(pool)
        self._leaving = [pool for pool in self._leaving if not pool.is_empty]
        for host, service in wanted.items():
            if host in self._pools:
                self._pools[host].update(service)
            else:
                self._pools[host] = Pool(service, self._launch, self._gate, queue_limit=self._queue_limit)

    async def close(self) -> None:
        """Stop all workers."""
        await asyncio.gather(*(pool.close() for pool in (*self._pools.values(), *self._leaving)))

    def status(self) -> list[dict[str, Any]]:
        """For `status`."""
        return [pool.status() for pool in (*self._pools.values(), *self._leaving)]
