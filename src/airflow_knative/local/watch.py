"""Noticing that a workflows folder has changed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

__all__ = ["changes", "fingerprint", "python_files"]

_INTERVAL: Final = 0.5
_SKIPPED: Final = frozenset({"__pycache__", "node_modules"})


def _files(folder: Path) -> dict[str, os.stat_result]:
    found: dict[str, os.stat_result] = {}
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        try:
            with os.scandir(current) as entries:
                for entry in entries:
                    if entry.name.startswith(".") and entry.name != ".airflowignore":
                        continue
                    if entry.is_dir():
                        if entry.name not in _SKIPPED and not entry.is_symlink():
                            waiting.append(Path(entry.path))
                    elif entry.name.endswith((".py", ".zip")) or entry.name == ".airflowignore":
                        found[os.path.relpath(entry.path, folder)] = entry.stat()
        except FileNotFoundError:
            continue
    return found


def python_files(folder: Path) -> list[str]:
    """The Python files below a folder, relative to it; hidden folders, links to folders and caches left out."""
    return sorted(name for name in _files(folder) if name.endswith(".py"))


def fingerprint(folder: Path) -> frozenset[tuple[str, int, int]]:
    """What changes when a file is edited, added or removed."""
    return frozenset((name, status.st_mtime_ns, status.st_size) for name, status in _files(folder).items())


async def changes(folder: Path, *, interval: float = _INTERVAL) -> AsyncIterator[None]:
    """Yield each time the folder has changed and then stayed the same for one interval."""
    known = fingerprint(folder)
    while True:
        await asyncio.sleep(interval)
        if (current := fingerprint(folder)) == known:
            continue
        # Editors write in several steps: wait until they are through.
        while True:
            await asyncio.sleep(interval)
            if (settled := fingerprint(folder)) == current:
                break
            current = settled
        known = current
        yield
