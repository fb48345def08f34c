"""What many services cost a release: `helm upgrade` with them, and a run of the seed workflow beside them.

The services are copies of the seed workflow's in everything but their name and the task that they say they run, which
nobody has; nothing calls them, so that they stay at zero. In the end the release is as it was before.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from benchmarks.cluster import measure_warm
from benchmarks.samples import Cell
from benchmarks.scenarios import SCENARIOS, SEED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.cluster import Cluster

__all__ = ["Release", "measure"]

_SEEN_WITHIN: Final = 3600.0
_POLL: Final = 2.0
_REST: Final = 60.0
"""Seconds for Knative and the node to calm down before runs are timed."""
_HELM_TIMEOUT: Final = "60m"
_WARM: Final = SCENARIOS[f"{SEED}/warm"]


@dataclass(frozen=True)
class Release:
    """A release of the chart.

    Attributes:
        helm: The program.
        chart: The chart that the release is of, folder or package.
        kubeconfig: None for the usual place.
        namespace: The release's.
        name: The release's.
    """

    helm: Path
    chart: Path
    kubeconfig: Path | None
    namespace: str
    name: str

    def values(self) -> dict[str, Any]:
        """Return the values that it was made with."""
        found: dict[str, Any] = json.loads(self._run("get", "values", self.name, "--output", "json"))
        return found

    def upgrade(self, values: dict[str, Any]) -> float:
        """Upgrade it to these values; return the seconds until helm has ended, which waits for nothing."""
        begun = time.perf_counter()
        options = ("--values", "-", "--reset-values", "--timeout", _HELM_TIMEOUT)
        self._run("upgrade", self.name, str(self.chart), *options, stdin=json.dumps(values))
        return time.perf_counter() - begun

    def _run(self, *arguments: str, stdin: str | None = None) -> str:
        command = [str(self.helm), "--namespace", self.namespace, *arguments]
        if self.kubeconfig is not None:
            command += ["--kubeconfig", str(self.kubeconfig)]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed: {done.stderr.strip()}")
        return done.stdout


def measure(cluster: Cluster, release: Release, *, services: int) -> Iterator[Cell]:
    """Yield what was measured, as it goes: milliseconds until helm had ended, and until the cluster was as it says."""
    before = release.values()
    own = before.get("workflows") or []
    if not (seed := next((one for one in own if one["dagId"] == SEED), None)):
        sys.exit(f"Release {release.name} has no workflow {SEED!r}, whose service is to be copied")
    copies = [
        seed | {"taskId": f"copy_{number}", "name": f"benchmark-copy-{number}"} for number in range(1, services + 1)
    ]
    many = before | {"workflows": [*own, *copies]}
    env = [{"name": "BENCHMARK", "value": "changed"}]
    changed = many | {"workflows": [*own, *({**one, "env": env} for one in copies)]}
    total = len(own) + services
    few, with_many = f"services/{len(own)}", f"services/{total}"
    yield _warm(cluster, few, 1)
    try:
        for what, values in (("added", many), ("same", many), ("changed", changed)):
            yield from _upgraded(cluster, release, f"helm-upgrade/{services}-{what}", values, services=total)
        yield _warm(cluster, with_many, 1)
    except BaseException:
        release.upgrade(before)
        raise
    yield from _upgraded(cluster, release, f"helm-upgrade/{services}-removed", before, services=len(own))
    yield _warm(cluster, few, 2)


def _upgraded(
    cluster: Cluster, release: Release, name: str, values: dict[str, Any], *, services: int
) -> Iterator[Cell]:
    _say(name)
    begun = time.perf_counter()
    yield Cell(name, "knative", 1, [release.upgrade(values) * 1000])
    deadline = time.monotonic() + _SEEN_WITHIN
    while (state := cluster.services()) != (services, services):
        if time.monotonic() > deadline:
            sys.exit(f"{state[0]} of {state[1]} services are ready after {_SEEN_WITHIN:g} s, not {services}")
        _say(f"  {state[0]} of {state[1]} services are ready")
        time.sleep(_POLL)
    yield Cell(f"{name}-until-ready", "knative", 1, [(time.perf_counter() - begun) * 1000])


def _warm(cluster: Cluster, name: str, number: int) -> Cell:
    _say(f"{name}, round {number}")
    cell = Cell(name, "knative", number, [])
    time.sleep(_REST)
    measure_warm(cluster, _WARM, cell)
    return cell


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
