from __future__ import annotations

import os
import tempfile
from collections import deque
from pathlib import Path

__all__ = ["short_socket_path", "tail", "write_atomically"]

_TAIL_BYTES = 64 * 1024
_SUN_PATH = 107


def write_atomically(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Replace a file in one step: a reader sees the old text or the new one, never a part."""
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        os.fchmod(fd, mode)
        with os.fdopen(fd, "w") as stream:
            stream.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def tail(path: Path, lines: int, *, start: int = 0) -> str:
    """The last lines of a text file (of its last 64 KiB), after byte `start`; empty if there is none."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(start, size - _TAIL_BYTES))
            return "\n".join(deque(stream.read().decode(errors="replace").splitlines(), maxlen=lines))
    except FileNotFoundError:
        return ""


def short_socket_path(path: Path) -> tuple[str, int | None]:
    """A path for a Unix socket that fits into `sun_path` (unix(7)), however deep the folder lies.

    Returns:
        The path, and a file descriptor that it runs through: close that after binding or connecting.
    """
    if len(os.fsencode(path)) <= _SUN_PATH:
        return str(path), None
    fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{fd}/{path.name}", fd
