"""Serves a mirror over HTTP: its files below ``/``, its images as a read-only registry below ``/v2/``.

One address is then both the roles' base URL and the registry mirror of containerd and Docker. The registry part
is what a pull needs of the OCI distribution specification: manifests by tag or digest, and blobs.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from airflow_knative.mirror import manifest, oci
from airflow_knative.mirror.download import Reference

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

__all__ = ["Library", "server"]

_MANIFEST = re.compile(r"/v2/(?P<repository>.+)/manifests/(?P<reference>[^/]+)")
_BLOB = re.compile(r"/v2/.+/blobs/(?P<digest>sha256:[0-9a-f]{64})")


@dataclass(frozen=True)
class _Found:
    """What to answer with: where the bytes lie, and the headers that describe them."""

    blob: oci.Blob
    media_type: str
    digest: str | None = None


class Library:
    """Every image of a mirror, found as registries name them: by repository without the host.

    Raises:
        MirrorError: the mirror has no manifest, or one of its archives is damaged.
    """

    def __init__(self, out: Path) -> None:
        self.root = out.resolve()
        self._tags: dict[tuple[str, str], list[tuple[str, oci.Descriptor]]] = {}
        self._blobs: dict[str, oci.Blob] = {}
        self._manifests: dict[str, oci.Descriptor] = {}
        said = manifest.read(out)
        for path in sorted({entry.file for entry in said.images.values()}):
            archive = oci.read(out / path)
            self._blobs |= archive.blobs
            for name, described in archive.names.items():
                reference = Reference.parse(name)
                self._tags.setdefault((reference.repository, reference.tag), []).append((reference.host, described))
                self._manifests[described.digest] = described

    def manifest(self, repository: str, reference: str, host: str | None) -> _Found | None:
        """The manifest of a tag or digest; ``host`` decides where two registries have the same repository."""
        described = self._manifests.get(reference)
        if described is None:
            candidates = self._tags.get((repository, reference), [])
            fitting = [found for name, found in candidates if host in (None, name)] or [
                found for _, found in candidates
            ]
            described = fitting[0] if fitting else None
        if described is None:
            return None
        return _Found(self._blobs[described.digest], described.media_type, described.digest)

    def blob(self, digest: str) -> _Found | None:
        """A blob by its digest."""
        blob = self._blobs.get(digest)
        return _Found(blob, "application/octet-stream", digest) if blob else None

    def file(self, path: str) -> _Found | None:
        """A file below ``files/``, or the mirror's manifest."""
        below = self.root if path == f"/{manifest.NAME}" else self.root / "files"
        target = (below / path.lstrip("/")).resolve()
        if not target.is_relative_to(below) or not target.is_file():
            return None
        return _Found(oci.Blob(target, 0, target.stat().st_size), "application/octet-stream")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "airflow-knative-mirror"
    library: ClassVar[Library]

    def do_GET(self) -> None:
        """Answer with a file, a manifest or a blob."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """The same without its bytes."""
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        if path.rstrip("/") == "/v2":
            self._send_json(HTTPStatus.OK, {}, body=body)
            return
        found = self._find(path, parse_qs(parts.query).get("ns", [None])[0])
        if found is None:
            code = "MANIFEST_UNKNOWN" if "/manifests/" in path else "BLOB_UNKNOWN"
            error = {"errors": [{"code": code, "message": f"this mirror has no {path}"}]}
            self._send_json(HTTPStatus.NOT_FOUND, error, body=body)
            return
        start = self._start(found.blob.size)
        self.send_response(HTTPStatus.PARTIAL_CONTENT if start else HTTPStatus.OK)
        self.send_header("Content-Type", found.media_type)
        self.send_header("Content-Length", str(found.blob.size - start))
        self.send_header("Accept-Ranges", "bytes")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{found.blob.size - 1}/{found.blob.size}")
        if found.digest:
            self.send_header("Docker-Content-Digest", found.digest)
        self.end_headers()
        if body:
            with found.blob.open() as source:
                source.seek(found.blob.offset + start)
                self._copy(source, found.blob.size - start)

    def _find(self, path: str, host: str | None) -> _Found | None:
        if wanted := _MANIFEST.fullmatch(path):
            return self.library.manifest(wanted["repository"], wanted["reference"], host)
        if wanted := _BLOB.fullmatch(path):
            return self.library.blob(wanted["digest"])
        return self.library.file(path)

    def _start(self, size: int) -> int:
        """The first byte wanted; a broken-off download asks for the rest of it."""
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(wanted[1]) if wanted and int(wanted[1]) < size else 0

    def _copy(self, source: IO[bytes], size: int) -> None:
        while size:
            chunk = source.read(min(size, shutil.COPY_BUFSIZE))  # type: ignore[attr-defined] # not in its stub
            if not chunk:
                self.close_connection = True
                return
            self.wfile.write(chunk)
            size -= len(chunk)

    def _send_json(self, status: HTTPStatus, said: object, *, body: bool) -> None:
        data = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # the base class's name
        """Only what went wrong is worth a line."""
        if len(args) > 1 and str(args[1]) >= "400":
            super().log_message(format, *args)


def server(out: Path, host: str, port: int) -> ThreadingHTTPServer:
    """A server for a mirror; ``serve_forever`` runs it.

    Args:
        out: the mirror's folder.
        host: the address to listen on.
        port: the TCP port; 0 for any.

    Raises:
        MirrorError: the mirror cannot be read.
        OSError: the port is in use.
    """
    handler = type("Handler", (_Handler,), {"library": Library(out)})
    made = ThreadingHTTPServer((host, port), handler)
    made.daemon_threads = True
    return made
