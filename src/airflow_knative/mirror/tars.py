"""Tar archives that come out the same from the same content: sorted, one time stamp, no names of users."""

from __future__ import annotations

import gzip
import hashlib
import io
import stat
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Layer", "add_directory", "add_file", "add_link", "add_tree", "archive", "difference", "layer", "sha256_of"]

CHUNK = 1 << 20
_LEVEL = 6  # 9 costs three times the processor time for 1 % less


@dataclass(frozen=True)
class Layer:
    """An image layer on disk: a gzipped tar.

    Attributes:
        digest: sha256 of the file.
        diff_id: sha256 of the tar inside.
        size: of the file, in bytes.
    """

    path: Path
    digest: str
    diff_id: str
    size: int


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Hashing(io.RawIOBase):
    """Passes on what is written, and knows its sha256."""

    def __init__(self, target: IO[bytes]) -> None:
        self._target = target
        self.sha256 = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override] # bytes are all that tar and gzip write
        self.sha256.update(data)
        self.size += len(data)
        self._target.write(data)
        return len(data)


@contextmanager
def archive(path: Path) -> Iterator[tarfile.TarFile]:
    """A new gzipped tar at ``path``."""
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as packed,
        tarfile.open(None, "w|", packed, format=tarfile.PAX_FORMAT) as tar,
    ):
        yield tar


@contextmanager
def layer(path: Path, layers: list[Layer]) -> Iterator[tarfile.TarFile]:
    """A new image layer at ``path``; appended to ``layers`` when it is complete."""
    with path.open("wb") as file:
        outer = _Hashing(file)
        with gzip.GzipFile("", "wb", _LEVEL, outer, mtime=0) as packed:
            inner = _Hashing(packed)  # type: ignore[arg-type]
            with tarfile.open(None, "w|", inner, format=tarfile.PAX_FORMAT) as tar:
                yield tar
    layers.append(Layer(path, outer.sha256.hexdigest(), inner.sha256.hexdigest(), outer.size))


def _info(name: str, epoch: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mtime = epoch
    return info


def add_directory(tar: tarfile.TarFile, name: str, epoch: int, mode: int = 0o755) -> None:
    """A directory owned by root."""
    info = _info(name, epoch)
    info.type = tarfile.DIRTYPE
    info.mode = mode
    tar.addfile(info)


def add_file(tar: tarfile.TarFile, name: str, source: Path, epoch: int, mode: int | None = None) -> None:
    """A file owned by root; executable when the source is, unless ``mode`` says otherwise."""
    info = _info(name, epoch)
    status = source.stat()
    info.size = status.st_size
    info.mode = mode if mode is not None else (0o755 if status.st_mode & stat.S_IXUSR else 0o644)
    with source.open("rb") as file:
        tar.addfile(info, file)


def add_link(tar: tarfile.TarFile, name: str, target: str, epoch: int) -> None:
    """A symbolic link."""
    info = _info(name, epoch)
    info.type = tarfile.SYMTYPE
    info.linkname = target
    info.mode = 0o777
    tar.addfile(info)


def add_tree(tar: tarfile.TarFile, name: str, source: Path, epoch: int) -> None:
    """A directory with everything below it."""
    add_directory(tar, name, epoch)
    for path in sorted(source.rglob("*")):
        inside = f"{name}/{path.relative_to(source)}"
        if path.is_symlink():
            add_link(tar, inside, str(path.readlink()), epoch)
        elif path.is_dir():
            add_directory(tar, inside, epoch)
        else:
            add_file(tar, inside, path, epoch)


def _fingerprint(tar: tarfile.TarFile, info: tarfile.TarInfo) -> tuple[object, ...]:
    content = ""
    if info.isreg():
        source = tar.extractfile(info)
        content = hashlib.file_digest(source, "sha256").hexdigest() if source else ""  # type: ignore[arg-type]
    return info.type, info.mode, info.uid, info.gid, info.linkname, content


def _entries(path: Path) -> dict[str, tuple[object, ...]]:
    with tarfile.open(path) as tar:
        return {info.name.removeprefix("./").rstrip("/"): _fingerprint(tar, info) for info in tar}


def difference(base: Path | None, full: Path, target: tarfile.TarFile, epoch: int) -> None:
    """Write what ``full`` (a tar of a whole file system) has and ``base`` has not.

    A layer cannot hold the devices and mount points that a running container gets from its runtime, so nothing
    below ``/dev``, ``/proc``, ``/sys`` and ``/run`` is written. What only ``base`` has is marked as deleted.
    """
    before = _entries(base) if base else {}
    seen: set[str] = set()
    with tarfile.open(full) as tar:
        for info in sorted(tar.getmembers(), key=lambda info: info.name):
            name = info.name.removeprefix("./").rstrip("/")
            seen.add(name)
            mounted = name.partition("/")[0] in ("dev", "proc", "sys", "run") and "/" in name
            if name in ("", ".") or mounted or before.get(name) == _fingerprint(tar, info):
                continue
            copy = tarfile.TarInfo(name)
            copy.type, copy.mode, copy.uid, copy.gid = info.type, info.mode, info.uid, info.gid
            copy.linkname = info.linkname.removeprefix("./") if info.islnk() else info.linkname
            copy.size, copy.mtime = info.size if info.isreg() else 0, epoch
            if "SCHILY.xattr.security.capability" in info.pax_headers:
                copy.pax_headers = dict(info.pax_headers)
            target.addfile(copy, tar.extractfile(info) if info.isreg() else None)
    for name in sorted(set(before) - seen):
        folder, _, last = name.rpartition("/")
        if folder in seen or not folder:
            target.addfile(_info(f"{folder}/.wh.{last}".lstrip("/"), epoch), io.BytesIO())
