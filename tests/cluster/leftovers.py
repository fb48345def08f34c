"""What is on this machine that nodes could leave behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from testnodes.docker import docker

__all__ = ["Snapshot", "snapshot"]


@dataclass(frozen=True)
class Snapshot:
    """Containers, networks, volumes, mounts, network devices, and processes that live in containers."""

    containers: frozenset[str]
    networks: frozenset[str]
    volumes: frozenset[str]
    mounts: frozenset[str]
    devices: frozenset[str]
    contained: frozenset[str]

    def more_than(self, before: Snapshot) -> dict[str, list[str]]:
        """What is here and was not before, by kind."""
        kinds = {kind: getattr(self, kind) - getattr(before, kind) for kind in self.__dataclass_fields__}
        return {kind: sorted(found) for kind, found in kinds.items() if found}


def _contained() -> frozenset[str]:
    """Processes whose control group is a container's, by process id and name."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if "docker" in (process / "cgroup").read_text():
                found.add(f"{process.name} {(process / 'comm').read_text().strip()}")
        except OSError:
            continue  # it ended
    return frozenset(found)


def snapshot() -> Snapshot:
    """What is there now."""
    mounts = {line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()}
    return Snapshot(
        containers=frozenset(docker("ps", "--all", "--format", "{{.Names}}").split()),
        networks=frozenset(docker("network", "ls", "--format", "{{.Name}}").split()),
        volumes=frozenset(docker("volume", "ls", "--quiet").split()),
        mounts=frozenset(mounts),
        devices=frozenset(path.name for path in Path("/sys/class/net").iterdir()),
        contained=_contained(),
    )
