"""The mirror's manifest: every file's sha256 and size, every image's archive; and the check against it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from airflow_knative.mirror import tars
from airflow_knative.mirror.errors import MirrorError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["NAME", "Entry", "ImageEntry", "Manifest", "Problem", "read", "verify", "write"]

NAME = "manifest.json"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Entry(_Model):
    """A file: the pin it belongs to, its sha256 in hex, its size in bytes."""

    pin: str
    sha256: str
    size: int


class ImageEntry(_Model):
    """An image: its archive below the mirror, its manifest's digest, and the container that Knative knows it by."""

    file: str
    digest: str
    container: str | None = None


class Manifest(_Model):
    """Everything in a mirror, by path and by image name."""

    version: Literal[1] = 1
    files: dict[str, Entry] = {}
    images: dict[str, ImageEntry] = {}


@dataclass(frozen=True)
class Problem:
    """One thing that a check found: ``changed``, ``missing`` or ``extra``, and the path."""

    what: Literal["changed", "missing", "extra"]
    path: str
    detail: str = ""


def read(out: Path) -> Manifest:
    """Read a mirror's manifest.

    Raises:
        MirrorError: there is none, or it is damaged.
    """
    path = out / NAME
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise MirrorError(f"{out} is no mirror: {error}; fill it with `airflow-knative mirror build`") from error
    except ValidationError as error:
        raise MirrorError(f"{path} is damaged: {error.errors()[0]['msg']}; fill the mirror again") from error


def write(out: Path, manifest: Manifest) -> None:
    """Write a mirror's manifest, all of it or nothing; not at all when it says the same."""
    data = manifest.model_dump(exclude_none=True)
    text = json.dumps(data, indent=1, sort_keys=True) + "\n"
    path = out / NAME
    if path.exists() and path.read_text() == text:
        return
    unfinished = path.with_name(f".{NAME}.part")
    unfinished.write_text(text)
    unfinished.replace(path)


def verify(out: Path) -> list[Problem]:
    """Compare every byte of a mirror with its manifest.

    Raises:
        MirrorError: the manifest cannot be read.
    """
    manifest = read(out)
    problems = []
    for path, entry in sorted(manifest.files.items()):
        file = out / path
        if not file.is_file():
            problems.append(Problem("missing", path))
        elif file.stat().st_size != entry.size:
            problems.append(Problem("changed", path, f"{file.stat().st_size} bytes instead of {entry.size}"))
        elif (found := tars.sha256_of(file)) != entry.sha256:
            problems.append(Problem("changed", path, f"sha256 {found} instead of {entry.sha256}"))
    present = {str(path.relative_to(out)) for path in out.rglob("*") if not path.is_dir() or path.is_symlink()}
    problems += [Problem("extra", path) for path in sorted(present - set(manifest.files) - {NAME})]
    return problems
