"""Makes what one pin puts out: first its programs or file system, then the files and images made from them.

Both halves are cached by a key over everything that they depend on, so that a change in how an image is put
together does not compile anything again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_knative.mirror import debian, oci, tars, wheel
from airflow_knative.mirror.command import run
from airflow_knative.mirror.errors import MirrorError
from airflow_knative.mirror.golang import Go
from airflow_knative.mirror.pins import DebianBuild, DebsBuild, GoBuild, NoBuild, WheelBuild

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_knative.mirror.download import Downloads
    from airflow_knative.mirror.pins import FileOutput, ImageOutput, Pin, Pins

__all__ = ["Builder", "Made"]

# Raised when the code below makes other bytes from the same pins.
_COMPILING = 1
_PACKING = 2
_ROOT = "root.tar"
_LAYER = "layer.tar.gz"


@dataclass(frozen=True)
class Made:
    """What a pin put out.

    Attributes:
        folder: where the files lie, below it ``files/...`` and ``images/...``.
        entries: for each path in it, ``sha256`` and ``size`` in bytes.
        images: for each image name, its archive's path, its digest and its container's name (may be None).
        seconds: what making it took.
    """

    folder: Path
    entries: dict[str, dict[str, Any]]
    images: dict[str, dict[str, Any]]
    seconds: float


class Builder:
    """Makes pins in a cache.

    Args:
        pins: all of them; a pin may use what others build.
        root: the repository, for ``mirror/go`` and files of our own.
        cache: folder that keeps everything between runs.
    """

    def __init__(self, pins: Pins, root: Path, cache: Path) -> None:
        self._pins = pins
        self._root = root
        self._cache = cache
        self._go = Go(root / "mirror" / "go", cache)
        self._go_version: str | None = None
        # Two pins that are made side by side may want the same third one.
        self._locks = {name: threading.Lock() for name in pins.pins}

    def log(self, pin: Pin) -> Path:
        """Where everything that a pin's programs print goes."""
        return self._cache / "logs" / f"{pin.name}.log"

    def _key(self, *parts: Any) -> str:
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def _programs_key(self, pin: Pin) -> str:
        build = pin.build
        recipe: Any = None
        if isinstance(build, GoBuild):
            self._go_version = self._go_version or self._go.version(self.log(pin))
            recipe = [self._go_version, self._go.recipe(build)]
        elif isinstance(build, DebianBuild):
            recipe = [self._pins.epoch, self._programs_key(self._pins.pins[build.above]) if build.above else None]
        return self._key(_COMPILING, pin.name, pin.version, build.model_dump(), recipe)

    def _outputs_key(self, pin: Pin) -> str:
        needed = {need: self._programs_key(self._pins.pins[need]) for need in pin.needs}
        own = {}
        for image in pin.images:
            for source in image.files.values():
                if source.startswith("repo/"):
                    own[source] = (self._root / source.removeprefix("repo/")).read_text()
        outputs = [[output.model_dump() for output in outputs] for outputs in (pin.files, pin.images)]
        return self._key(_PACKING, self._programs_key(pin), needed, own, outputs, self._pins.epoch)

    @contextmanager
    def _fresh(self, folder: Path) -> Iterator[Path]:
        """A folder to fill, which takes its final name only when nothing failed."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            yield unfinished
            unfinished.chmod(0o755)
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def existing(self, pin: Pin) -> Path | None:
        """What ``programs`` returns, if the cache has it."""
        folder = self._programs_folder(pin)
        return folder if folder.is_dir() else None

    def _programs_folder(self, pin: Pin) -> Path:
        return self._cache / "programs" / f"{pin.name}-{pin.version}-{self._programs_key(pin)}"

    def programs(self, pin: Pin) -> Path:
        """Compile a pin, unless the cache has it.

        Returns:
            a folder with ``bin/`` for programs, or ``root.tar`` and ``layer.tar.gz`` for a file system.

        Raises:
            MirrorError: a build failed.
        """
        folder = self._programs_folder(pin)
        with self._locks[pin.name]:
            if not folder.is_dir():
                self.log(pin).unlink(missing_ok=True)
                self._compile(pin, folder)
        return folder

    def _compile(self, pin: Pin, folder: Path) -> None:
        with self._fresh(folder) as new:
            match pin.build:
                case GoBuild() as build:
                    self._go.build(build, new / "bin", self.log(pin))
                case WheelBuild() as build:
                    wheel.programs(build, new / "bin", self.log(pin))
                case DebsBuild() as build:
                    debian.programs(build, new / "bin", self.log(pin))
                case DebianBuild() as build:
                    self._file_system(pin, build, new)
                case NoBuild():
                    pass

    def _file_system(self, pin: Pin, build: DebianBuild, target: Path) -> None:
        below = self._pins.pins[build.above] if build.above else None
        lower = below.build if below and isinstance(below.build, DebianBuild) else None
        debian.root_file_system(build, lower, target=target / _ROOT, epoch=self._pins.epoch, log=self.log(pin))
        layers: list[tars.Layer] = []
        base = self.programs(below) / _ROOT if below else None
        with tars.layer(target / _LAYER, layers) as tar:
            tars.difference(base, target / _ROOT, tar, self._pins.epoch)
        (target / f"{_LAYER}.json").write_text(
            json.dumps({"digest": layers[0].digest, "diff_id": layers[0].diff_id, "size": layers[0].size})
        )

    def file_system(self, pin: Pin) -> Path:
        """The tar of a whole file system that a Debian pin builds."""
        return self.programs(pin) / _ROOT

    def _layer(self, name: str) -> tars.Layer:
        folder = self.programs(self._pins.pins[name])
        return tars.Layer(folder / _LAYER, **json.loads((folder / f"{_LAYER}.json").read_text()))

    def material(self, pin: Pin, source: str) -> Path:
        """The file (or folder) that a pin's ``bin/...``, ``module/...``, ``repo/...`` or ``<pin>/bin/...`` means.

        Raises:
            MirrorError: there is none.
        """
        kind, _, rest = source.partition("/")
        if kind == "bin":
            found = self.programs(pin) / "bin" / rest
        elif kind == "module" and isinstance(pin.build, GoBuild):
            found = self._go.unpacked(pin.build, self.log(pin)) / rest
        elif kind == "repo":
            found = self._root / rest
        elif kind in pin.needs:
            found = self.programs(self._pins.pins[kind]) / rest
        else:
            raise MirrorError(
                f"{source} is none of bin/, module/, repo/ or one of {', '.join(pin.needs) or 'no needs'}"
            )
        if not found.exists():
            raise MirrorError(f"{source} was not made ({found} is missing)")
        return found

    def _cached(self, folder: Path) -> Made | None:
        done = folder / "done.json"
        if not done.is_file():
            return None
        said = json.loads(done.read_text())
        return Made(folder, said["entries"], said["images"], said["seconds"])

    def _done(self, folder: Path, images: dict[str, dict[str, Any]], since: float) -> None:
        entries = {
            str(path.relative_to(folder)): {"sha256": tars.sha256_of(path), "size": path.stat().st_size}
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        seconds = round(time.monotonic() - since, 1)
        (folder / "done.json").write_text(json.dumps({"entries": entries, "images": images, "seconds": seconds}))

    def built(self, pin: Pin) -> Made | None:
        """What an earlier run built, if the cache has it."""
        return self._cached(self._cache / "built" / f"{pin.name}-{pin.version}-{self._outputs_key(pin)}")

    def build(self, pin: Pin) -> Made:
        """Build a pin's files and images, unless the cache has them.

        Raises:
            MirrorError: something failed; nothing half made stays.
        """
        folder = self._cache / "built" / f"{pin.name}-{pin.version}-{self._outputs_key(pin)}"
        if (made := self._cached(folder)) is not None:
            return made
        since = time.monotonic()
        self.programs(pin)
        with self._fresh(folder) as new, tempfile.TemporaryDirectory(dir=self._cache) as scratch:
            for file in pin.files:
                self._file(pin, file, new / "files" / file.path)
            for file in pin.files:
                if file.checksum is not None:
                    self._published(file, new / "files")
            images: dict[str, dict[str, Any]] = {}
            for number, image in enumerate(pin.images):
                images |= self._image(pin, image, new, Path(scratch) / str(number))
            self._done(new, images, since)
        made = self._cached(folder)
        assert made is not None  # noqa: S101 # it was written just now
        return made

    def _published(self, file: FileOutput, files: Path) -> None:
        """Write a checksum where upstream publishes one, so that roles check either source in one way."""
        assert file.checksum is not None  # noqa: S101 # the caller asked
        target = files / file.checksum
        with target.open("a") as lines:
            lines.write(f"{tars.sha256_of(files / file.path)}  {Path(file.path).name}\n")

    def _file(self, pin: Pin, file: FileOutput, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        build = file.build
        if build.copy_of is not None:
            source = self.material(pin, build.copy_of)
            shutil.copyfile(source, target)
            target.chmod(0o755 if build.copy_of.startswith("bin/") else 0o644)
        elif build.archive is not None:
            with tars.archive(target) as tar:
                for name, source_name in sorted(build.archive.items()):
                    tars.add_file(tar, name, self.material(pin, source_name), self._pins.epoch)
        else:
            target.write_text(self._rendered(pin, file))

    def _rendered(self, pin: Pin, file: FileOutput) -> str:
        build = file.build
        assert build.chart is not None  # noqa: S101 # the model has one of the three
        assert build.name is not None  # noqa: S101 # a chart has a name
        helm = self.programs(self._pins.pins["helm"]) / "bin" / "helm"
        with tempfile.TemporaryDirectory() as scratch:
            chart = Path(scratch) / "chart"
            shutil.copytree(self.material(pin, build.chart), chart)
            for path in (chart / "Chart.yaml", chart / "values.yaml"):
                text = path.read_text()
                for old, new in build.replace.items():
                    text = text.replace(old, new)
                path.chmod(0o644)
                path.write_text(text)
            command = [str(helm), "template", build.name, str(chart), "--namespace", build.name, "--include-crds"]
            text = run(command, self.log(pin), env={"HELM_CACHE_HOME": scratch, "HELM_CONFIG_HOME": scratch})
        before = self.material(pin, build.before).read_text().rstrip() + "\n" if build.before else ""
        return before + text

    def _image(self, pin: Pin, image: ImageOutput, target: Path, scratch: Path) -> dict[str, dict[str, Any]]:
        scratch.mkdir()
        layers = [self._layer(name) for name in image.layers]
        if image.files or image.trees or image.links:
            with tars.layer(scratch / _LAYER, layers) as tar:
                self._own_layer(pin, image, tar)
        config = oci.config_of(image, [layer.diff_id for layer in layers], self._pins.epoch)
        return self._archive(image, oci.image_of(config, layers), target)

    def _own_layer(self, pin: Pin, image: ImageOutput, tar: Any) -> None:
        epoch = self._pins.epoch
        folders: set[str] = set()
        inside = {name.lstrip("/") for name in (*image.files, *image.trees, *image.links)}
        for name in inside:
            folders.update(str(parent) for parent in Path(name).parents)
        if not image.layers:  # a program alone still expects somewhere to write
            folders.update(("tmp", "etc"))
        for folder in sorted(folders - {"."}):
            # A folder of a lower layer keeps its mode by standing here with the same one.
            tars.add_directory(tar, folder, epoch, 0o1777 if folder == "tmp" else 0o755)
        for name, source in sorted(image.files.items()):
            path = self.material(pin, source)
            tars.add_file(tar, name.lstrip("/"), path, epoch)
        for name, source in sorted(image.trees.items()):
            tars.add_tree(tar, name.lstrip("/"), self.material(pin, source), epoch)
        for name, link in sorted(image.links.items()):
            tars.add_link(tar, name.lstrip("/"), link, epoch)

    def _archive(self, image: ImageOutput, parts: oci.Image, target: Path) -> dict[str, dict[str, Any]]:
        path = target / "images" / oci.file_name(image.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        names = (image.name, *image.aliases)
        described = oci.write(path, names, parts, self._pins.epoch)
        said = {"file": f"images/{path.name}", "digest": described.digest, "container": image.container}
        return dict.fromkeys(names, said)

    def downloaded(self, pin: Pin) -> Made | None:
        """What an earlier run downloaded, if the cache has it."""
        return self._cached(self._download_folder(pin))

    def _download_folder(self, pin: Pin) -> Path:
        wanted: list[Any] = [[file.path, file.sha256, file.checksum] for file in pin.files]
        wanted += [[image.name, image.upstream, image.aliases, image.container] for image in pin.images]
        return self._cache / "downloaded" / f"{pin.name}-{pin.version}-{self._key(_PACKING, wanted)}"

    def download(self, pin: Pin, downloads: Downloads) -> Made:
        """Download a pin's files and images, unless the cache has them.

        Raises:
            MirrorError: something cannot be had, or is not what upstream published.
        """
        if (made := self.downloaded(pin)) is not None:
            return made
        since = time.monotonic()
        with self._fresh(self._download_folder(pin)) as new, tempfile.TemporaryDirectory(dir=self._cache) as scratch:
            for file in pin.files:
                downloads.file(file, new / "files" / file.path)
            for file in pin.files:
                if file.checksum is not None:
                    self._published(file, new / "files")
            images: dict[str, dict[str, Any]] = {}
            for number, image in enumerate(pin.images):
                parts = downloads.image(image.upstream or image.name, Path(scratch) / str(number))
                images |= self._archive(image, parts, new)
            self._done(new, images, since)
        made = self.downloaded(pin)
        assert made is not None  # noqa: S101 # it was written just now
        return made
