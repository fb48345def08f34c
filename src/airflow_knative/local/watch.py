"""Noticing that a workflows folder has changed."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["changes", "fingerprint", "relevant_files"]

_INTERVAL: Final = 0.5
_SKIPPED_FOLDERS: Final = frozenset({"__pycache__", "node_modules"})
_SKIPPED_ENDINGS: Final = (".pyc", "~", ".swp", ".tmp")


def relevant_files(folder: Path) -> dict[str, os.stat_result]:
    """The files that DAGs may be made of, by name relative to the folder.

    Left out: hidden files and folders but for `.airflowignore`, caches, links to folders, what editors leave.
    """
    found: dict[str, os.stat_result] = {}
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        with contextlib.suppress(FileNotFoundError), os.scandir(current) as entries:
            for entry in entries:
                if entry.name.startswith(".") and entry.name != ".airflowignore":
                    continue
                if entry.is_dir():
                    if entry.name not in _SKIPPED_FOLDERS and not entry.is_symlink():
                        waiting.append(Path(entry.path))
                elif not entry.name.endswith(_SKIPPED_ENDINGS):
                    found[os.path.relpath(entry.path, folder)] = entry.stat()
    return found


def fingerprint(folder: Path) -> frozenset[tuple[str, int, int]]:
    """What changes when a file is edited, added or removed."""
    return frozenset((name, status.st_mtime_ns, status.st_size) for name, status in relevant_files(folder).items())


async def changes(
    folder: Path, known: frozenset[tuple[str, int, int]], *, interval: float = _INTERVAL
) -> AsyncIterator[None]:
    """Yield each time the folder has changed and then stayed the same for one interval.

    Args:
        folder: What to watch.
        known: Its fingerprint at the last look.
        interval: Seconds between looks.
    """
    while True:
        current = fingerprint(folder)
        if current != known:
            # Editors write in several steps: wait until they are through.
            await asyncio.sleep(interval)
            if fingerprint(folder) != current:
                continue
            known = current
            yield
        await asyncio.sleep(interval)
