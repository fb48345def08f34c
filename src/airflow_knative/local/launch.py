"""The supervisor's side of `airflow_knative.local.launcher`."""

from __future__ import annotations

import json
import os
import sys

from airflow_knative.local.errors import PartError
from airflow_knative.local.files import tail
from airflow_knative.local.launcher import Order
from airflow_knative.local.parts import AIRFLOW_PARTS, Parts
from airflow_knative.local.process import OwnedProcess

__all__ = ["Launcher"]

_ERROR_LINES = 15
_STOP_TIMEOUT = 2.0


class Launcher:
    """A launcher that imports Airflow from now on, until it is told to launch."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._migration_log = parts.paths.log("migration")
        reading, self._writing = os.pipe2(os.O_CLOEXEC)
        try:
            self._process = OwnedProcess.start(
                [sys.executable, "-m", "airflow_knative.local.launcher"],
                environment=parts.airflow_environment,
                log=self._migration_log,
                folder=parts.paths.run,
                stdin=reading,
            )
        except BaseException:
            os.close(self._writing)
            raise
        finally:
            os.close(reading)

    async def launch(self, admin: tuple[str, str] | None) -> dict[str, OwnedProcess]:
        """Start Airflow's parts, after bringing the database up to date if `admin` is given.

        Returns:
            The parts' processes by name.

        Raises:
            PartError: The launcher fails.
        """
        paths = self._parts.paths
        pids = paths.run / "airflow-pids.json"
        pids.unlink(missing_ok=True)
        order = Order(
            parts=AIRFLOW_PARTS,
            logs={name: str(paths.log(name)) for name in AIRFLOW_PARTS},
            pids=str(pids),
            supervisor=os.getpid(),
            admin=admin,
            migration_log=str(self._migration_log),
        )
        os.write(self._writing, order.dump().encode())
        code = await self._process.wait()
        if code != 0 or not pids.exists():
            last = tail(self._migration_log, _ERROR_LINES, start=self._process.log_start)
            raise PartError(f"Airflow does not start ({code}); the log is {self._migration_log} and ends with:\n{last}")
        return {name: OwnedProcess.adopt(pid, paths.log(name)) for name, pid in json.loads(pids.read_text()).items()}

    async def close(self) -> None:
        """End it if it has not been told to launch."""
        os.close(self._writing)
        if self._process.is_running:
            await self._process.stop(within=_STOP_TIMEOUT)
