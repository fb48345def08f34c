"""Reading the log files of an instance."""

from __future__ import annotations

import os
import sys
import time
from typing import IO, TYPE_CHECKING, Final

from airflow_knative.local.errors import LocalError
from airflow_knative.local.files import tail
from airflow_knative.local.parts import PART_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_knative.local.paths import StatePaths

__all__ = ["find_logs", "follow_lines", "show_logs"]

_OTHERS: Final = ("supervisor", "migration", "services")
_POLL: Final = 0.2


def find_logs(paths: StatePaths, part: str | None) -> dict[str, Path]:
    """The log files of a part, or of all parts, by the name to show.

    Raises:
        LocalError: There is no such part.
    """
    known = {name: paths.log(name) for name in (*PART_NAMES, *_OTHERS)}
    if part is None:
        return {name: path for name, path in known.items() if path.exists()}
    if part in known:
        return {part: known[part]}
    workers = sorted(paths.worker_logs.glob(f"{part}.*.log"), key=lambda path: path.stat().st_mtime)
    if workers:
        return {part: workers[-1]}
    raise LocalError(f"there is no log of {part!r}; parts: {', '.join(known)}; or a service that has had a worker")


def show_logs(paths: StatePaths, part: str | None, *, lines: int, follow: bool) -> None:
    """Print the last lines, and with `follow` all new ones until interrupted."""
    found = find_logs(paths, part)
    width = max((len(name) for name in found), default=0)
    prefixes = {name: "" if part else f"{name:<{width}} | " for name in found}
    # Where each file ends now, before the last lines are read: none is missed in between.
    streams = {name: _open_at_end(path) for name, path in found.items()} if follow else {}
    for name, path in found.items():
        for line in tail(path, lines).splitlines():
            _write(prefixes[name] + line)
    while follow:
        for name, stream in streams.items():
            for line in _new_lines(stream):
                _write(prefixes[name] + line)
        time.sleep(_POLL)


def follow_lines(path: Path, *, lines: int) -> Iterator[str | None]:
    """The last lines of a file, then each new one, and None whenever there is nothing new for a moment."""
    stream = _open_at_end(path)
    yield from tail(path, lines).splitlines() if lines else ()
    while True:
        yield from _new_lines(stream)
        yield None
        time.sleep(_POLL)


def _open_at_end(path: Path) -> IO[str]:
    path.touch(mode=0o600)
    stream = path.open(errors="replace")
    stream.seek(0, os.SEEK_END)
    return stream


def _new_lines(stream: IO[str]) -> Iterator[str]:
    while line := stream.readline():
        yield line.rstrip("\n")


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
