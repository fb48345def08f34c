"""Fills the mirror's folder: makes the pins side by side, copies what changed, writes the manifest."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from airflow_knative.mirror import manifest
from airflow_knative.mirror.errors import MirrorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from airflow_knative.mirror.build import Builder, Made
    from airflow_knative.mirror.download import Downloads
    from airflow_knative.mirror.pins import Pin, Pins

__all__ = ["Source", "Summary", "fill", "locked"]

Source = Literal["download", "build", "auto"]


@dataclass
class Summary:
    """What a run did.

    Attributes:
        made: pins that were made or found in the cache.
        cached: those of them that the cache had.
        failed: pin and reason.
        copied: files that were copied into the folder.
        size: bytes of everything in the folder.
        seconds: wall time.
        cpu_seconds: processor time of this process and all it started.
    """

    made: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    copied: int = 0
    size: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0


@contextmanager
def locked(cache: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Keep two runs from filling the same cache at once; the second one calls ``waiting`` and waits."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(builder: Builder, pin: Pin, source: Source, downloads: Downloads | None) -> tuple[Made, bool]:
    """Make a pin; the second value says whether the cache had it."""
    if source in ("download", "auto") and (made := builder.downloaded(pin)) is not None:
        return made, True
    if source in ("build", "auto") and (made := builder.built(pin)) is not None:
        return made, True
    # A test node's file system is in no upstream's releases.
    if source == "build" or not (pin.files or pin.images):
        return builder.build(pin), False
    if downloads is None:
        raise MirrorError("there is nothing to download with")
    try:
        return builder.download(pin, downloads), False
    except MirrorError as error:
        if source == "download":
            raise
        try:
            return builder.build(pin), False
        except MirrorError as other:
            raise MirrorError(f"neither upstream ({error}) nor a build ({other})") from other


def fill(
    builder: Builder,
    pins: Pins,
    chosen: Sequence[Pin],
    out: Path,
    *,
    source: Source = "build",
    downloads: Downloads | None = None,
    jobs: int = 2,
    report: Callable[[str, str, str], None] = lambda *_: None,
) -> Summary:
    """Make the chosen pins and bring the folder ``out`` in line with them.

    A pin that fails is named in the summary and the others go on; what it put out earlier stays.

    Args:
        builder: makes one pin.
        pins: all pins; what the folder has of pins that are no more is removed.
        chosen: the pins to make, each after those it needs.
        out: the mirror's folder.
        source: where from.
        downloads: needed for ``download`` and ``auto``.
        jobs: how many pins are made at once.
        report: told the pin, what happens with it (start, made, cached, failed), and more about it.
    """
    since, cpu = time.monotonic(), os.times()
    summary = Summary()
    results: dict[str, Made] = {}
    waiting = {pin.name: pin for pin in chosen}
    running: dict[Future[tuple[Made, bool]], Pin] = {}
    with ThreadPoolExecutor(max_workers=jobs) as pool:

        def start() -> None:
            for pin in list(waiting.values()):
                missing = [need for need in pin.needs if need in waiting or need in (p.name for p in running.values())]
                broken = [need for need in pin.needs if need in summary.failed]
                if broken:
                    del waiting[pin.name]
                    summary.failed[pin.name] = f"it needs {broken[0]}, which failed"
                    report(pin.name, "failed", summary.failed[pin.name])
                elif not missing and len(running) < jobs:
                    del waiting[pin.name]
                    report(pin.name, "start", "")
                    running[pool.submit(_make, builder, pin, source, downloads)] = pin

        start()
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                pin = running.pop(future)
                try:
                    made, cached = future.result()
                except (MirrorError, OSError) as error:
                    summary.failed[pin.name] = str(error)
                    report(pin.name, "failed", str(error))
                    continue
                results[pin.name] = made
                summary.made.append(pin.name)
                if cached:
                    summary.cached.append(pin.name)
                size = sum(entry["size"] for entry in made.entries.values())
                report(pin.name, "cached" if cached else "made", f"{size / 1e6:.0f} MB, {made.seconds:.0f} s")
            start()
    _assemble(pins, results, out, summary)
    now = os.times()
    summary.seconds = time.monotonic() - since
    summary.cpu_seconds = sum(now[:4]) - sum(cpu[:4])
    return summary


def _assemble(pins: Pins, results: dict[str, Made], out: Path, summary: Summary) -> None:
    out.mkdir(parents=True, exist_ok=True)
    old = manifest.read(out) if (out / manifest.NAME).exists() else manifest.Manifest()
    kept = {path: entry for path, entry in old.files.items() if entry.pin in pins.pins and entry.pin not in results}
    files = dict(kept)
    for name, made in results.items():
        for path, said in made.entries.items():
            files[path] = entry = manifest.Entry(pin=name, sha256=said["sha256"], size=said["size"])
            target = out / path
            if old.files.get(path) == entry and target.is_file() and target.stat().st_size == entry.size:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            unfinished = target.with_name(f".{target.name}.part")
            shutil.copy(made.folder / path, unfinished)
            unfinished.replace(target)
            summary.copied += 1
    images = {name: image for name, image in old.images.items() if image.file in kept}
    for made in results.values():
        images |= {name: manifest.ImageEntry(**said) for name, said in made.images.items()}
    for path in set(old.files) - set(files):
        (out / path).unlink(missing_ok=True)
    manifest.write(out, manifest.Manifest(files=files, images=images))
    summary.size = sum(entry.size for entry in files.values())
