"""OCI image archives, written without a container engine.

An archive is an OCI image layout in a tar (image-spec, "Image Layout"), with the file ``manifest.json`` of
``docker save`` beside it, so that ``ctr images import``, ``kind load image-archive``, ``skopeo copy oci-archive:``
and every ``docker load`` read it. The format is a few JSON files; writing them here keeps the bytes the same from
run to run, needs no daemon, and lets images share layers by digest.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any

from airflow_knative.mirror.errors import MirrorError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from airflow_knative.mirror.pins import ImageOutput
    from airflow_knative.mirror.tars import Layer

__all__ = [
    "MANIFEST",
    "Archive",
    "Blob",
    "Descriptor",
    "Image",
    "config_of",
    "digest_of",
    "file_name",
    "image_of",
    "read",
    "write",
]

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
# containerd imports an image under the name in this annotation; the other one is the specification's.
_CONTAINERD_NAME = "io.containerd.image.name"
_REFERENCE = "org.opencontainers.image.ref.name"


@dataclass(frozen=True)
class Descriptor:
    """What an OCI descriptor says: media type, ``sha256:...`` digest, size in bytes."""

    media_type: str
    digest: str
    size: int

    def as_json(self, **more: Any) -> dict[str, Any]:
        """As it stands in a manifest or an index."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size, **more}


def file_name(image: str) -> str:
    """The archive's file name for an image: its name with ``/`` and ``:`` made into ``_``."""
    return image.replace("/", "_").replace(":", "_") + ".tar"


def _encoded(data: Any) -> bytes:
    return json.dumps(data, sort_keys=True, separators=(",", ":")).encode()


def config_of(image: ImageOutput, diff_ids: Sequence[str], epoch: int) -> bytes:
    """The image's configuration (image-spec, "Image Configuration")."""
    created = datetime.fromtimestamp(epoch, UTC).isoformat().replace("+00:00", "Z")
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    run: dict[str, Any] = {
        "Env": [f"{key}={value}" for key, value in {"PATH": path, **image.env}.items()],
        "Entrypoint": list(image.entrypoint) or None,
        "Cmd": list(image.cmd) or None,
        "User": image.user or None,
        "WorkingDir": image.workdir or "/",
        "ExposedPorts": {port: {} for port in image.ports} or None,
        "Volumes": {volume: {} for volume in image.volumes} or None,
        "StopSignal": image.stop_signal,
        "Labels": {_REFERENCE: image.name},
    }
    return _encoded(
        {
            "created": created,
            "architecture": "amd64",
            "os": "linux",
            "config": {key: value for key, value in run.items() if value is not None},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}" for diff_id in diff_ids]},
            "history": [{"created": created, "created_by": "airflow-knative mirror"} for _ in diff_ids],
        }
    )


@dataclass(frozen=True)
class Image:
    """An image's parts: the manifest and the configuration, byte for byte, and where its layers lie.

    Attributes:
        layers: digest without ``sha256:`` and file of each layer.
    """

    manifest: bytes
    media_type: str
    config: bytes
    layers: tuple[tuple[str, Path], ...]


def image_of(config: bytes, layers: Sequence[Layer]) -> Image:
    """An image of these layers."""
    manifest = _encoded(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": Descriptor(_CONFIG, digest_of(config), len(config)).as_json(),
            "layers": [Descriptor(_LAYER, f"sha256:{layer.digest}", layer.size).as_json() for layer in layers],
        }
    )
    return Image(manifest, MANIFEST, config, tuple((layer.digest, layer.path) for layer in layers))


def digest_of(data: bytes) -> str:
    """``sha256:`` and the hash."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def write(path: Path, names: Sequence[str], image: Image, epoch: int) -> Descriptor:
    """Write an archive with one image under one or several names.

    Returns:
        the image manifest's descriptor.
    """
    described = Descriptor(image.media_type, digest_of(image.manifest), len(image.manifest))
    config = _blob(digest_of(image.config))
    platform = {"architecture": "amd64", "os": "linux"}
    entries = [
        described.as_json(
            platform=platform, annotations={_CONTAINERD_NAME: name, _REFERENCE: name.rpartition(":")[2] or "latest"}
        )
        for name in names
    ]
    index = _encoded({"schemaVersion": 2, "mediaType": _INDEX, "manifests": entries})
    stacked = [_blob(f"sha256:{digest}") for digest, _ in image.layers]
    docker = _encoded([{"Config": config, "RepoTags": list(names), "Layers": stacked}])
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:

        def add(name: str, source: IO[bytes], size: int) -> None:
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = size, epoch, 0o644
            tar.addfile(info, source)

        small = {
            "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
            "index.json": index,
            "manifest.json": docker,
            _blob(described.digest): image.manifest,
            config: image.config,
        }
        for name, data in small.items():
            add(name, io.BytesIO(data), len(data))
        for digest, layer in sorted(dict(image.layers).items()):
            with layer.open("rb") as file:
                add(_blob(f"sha256:{digest}"), file, layer.stat().st_size)
    return described


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


@dataclass(frozen=True)
class Blob:
    """Where a blob's bytes lie: in which archive, from where, how many."""

    path: Path
    offset: int
    size: int

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The archive, at the blob's first byte."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            yield file

    def bytes(self) -> bytes:
        """All of it, for small ones."""
        with self.open() as file:
            return file.read(self.size)


@dataclass(frozen=True)
class Archive:
    """What is in an archive: image names to manifests, and blobs by ``sha256:...`` digest."""

    names: dict[str, Descriptor]
    blobs: dict[str, Blob]


def read(path: Path) -> Archive:
    """Read an archive's index; blobs stay where they are.

    Raises:
        MirrorError: the file is no OCI archive.
    """
    try:
        with tarfile.open(path) as tar:
            members = {info.name: Blob(path, info.offset_data, info.size) for info in tar if info.isreg()}
        index = json.loads(members["index.json"].bytes())
        names = {
            entry["annotations"][_CONTAINERD_NAME]: Descriptor(entry["mediaType"], entry["digest"], entry["size"])
            for entry in index["manifests"]
        }
    except (OSError, tarfile.TarError, KeyError, ValueError) as error:
        raise MirrorError(f"{path} is no image archive of this mirror: {error!r}; build it again") from error
    blobs = {
        name.removeprefix("blobs/").replace("/", ":"): blob
        for name, blob in members.items()
        if name.startswith("blobs/")
    }
    return Archive(names, blobs)
