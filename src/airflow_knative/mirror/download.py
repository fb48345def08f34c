"""Files and images from upstream."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from airflow_knative.mirror import oci, tars
from airflow_knative.mirror.errors import ChecksumError, MirrorError

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_knative.mirror.pins import FileOutput

__all__ = ["UPSTREAM", "Downloads", "Reference", "checksum_in"]

# A file's address is this, a slash and its path, which begins with the host: https://host/...
UPSTREAM = "https:/"

_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = (oci.MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
_TIMEOUT = httpx.Timeout(30, read=120)
_HOSTS = {"docker.io": "registry-1.docker.io"}


@dataclass(frozen=True)
class Reference:
    """An image's name in parts: ``host/repository:tag``."""

    host: str
    repository: str
    tag: str

    @classmethod
    def parse(cls, image: str) -> Reference:
        """Read a full image name.

        Raises:
            MirrorError: it lacks its registry or its tag.
        """
        found = re.fullmatch(r"([^/]+)/(.+):([\w.-]+)", image)
        if found is None:
            raise MirrorError(f"{image!r} is no full image name; write registry/repository:tag")
        return cls(found[1], found[2], found[3])


def checksum_in(text: str, name: str) -> str | None:
    """The sha256 of a file in what upstream publishes: a bare hash, or lines of hash and name as of sha256sum."""
    for line in text.splitlines():
        words = line.split()
        if not words or not re.fullmatch(r"[0-9a-fA-F]{64}", words[0]):
            continue
        if len(words) == 1 or words[-1].lstrip("*").rpartition("/")[2] == name:
            return words[0].lower()
    return None


class Downloads:
    """Downloads that go on where they broke off, and never leave a file that was not checked.

    Args:
        partial: folder for what is not complete yet.
        upstream: what stands before each path; another base than upstream's own is another mirror, or a test.
    """

    def __init__(self, partial: Path, upstream: str = UPSTREAM) -> None:
        self._partial = partial
        self._upstream = upstream.removesuffix("/") if upstream != UPSTREAM else upstream
        self._client = httpx.Client(timeout=_TIMEOUT, follow_redirects=True)
        self._tokens: dict[tuple[str, str], str] = {}

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _url(self, path: str) -> str:
        return f"{self._upstream}/{path}"

    def _get(self, url: str, headers: dict[str, str] | None = None) -> httpx.Response:
        try:
            return self._client.get(url, headers=headers)
        except httpx.HTTPError as error:
            raise MirrorError(f"cannot fetch {url}: {error!r}; is the network up, or a proxy needed?") from error

    def file(self, output: FileOutput, target: Path) -> None:
        """Download one file and check it.

        Raises:
            ChecksumError: it is not the one that upstream published; nothing is left of it.
            MirrorError: it, or its published checksum, cannot be had.
        """
        name = output.path.rpartition("/")[2]
        expected = output.sha256
        if output.checksum is not None:
            url = self._url(output.checksum)
            answer = self._get(url)
            if answer.is_error:
                raise MirrorError(f"{url} answered {answer.status_code}; without it {name} cannot be checked")
            expected = checksum_in(answer.text, name)
            if expected is None:
                raise ChecksumError(f"{url} has no sha256 for {name}")
        assert expected is not None  # noqa: S101 # the model has exactly one of the two
        self._fetch(self._url(output.path), target, expected, {})

    def _fetch(self, url: str, target: Path, expected: str, headers: dict[str, str]) -> None:
        self._partial.mkdir(parents=True, exist_ok=True)
        part = self._partial / hashlib.sha256(f"{url} {expected}".encode()).hexdigest()
        begun = part.stat().st_size if part.exists() else 0
        if begun:
            headers = {**headers, "Range": f"bytes={begun}-"}
        try:
            with self._client.stream("GET", url, headers=headers) as answer:
                if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                    pass  # nothing was missing; the checksum tells
                elif answer.is_error:
                    raise MirrorError(f"{url} answered {answer.status_code}")
                else:
                    more = answer.status_code == httpx.codes.PARTIAL_CONTENT
                    with part.open("ab" if more else "wb") as file:
                        for chunk in answer.iter_raw():
                            file.write(chunk)
        except httpx.HTTPError as error:
            raise MirrorError(f"the download of {url} broke off: {error!r}; run again to go on with it") from error
        found = tars.sha256_of(part)
        if found != expected:
            part.unlink()
            raise ChecksumError(f"{url} has sha256 {found}, expected {expected}; nothing of it was kept")
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)

    def _registry(self, reference: Reference, path: str) -> str:
        return self._url(f"{_HOSTS.get(reference.host, reference.host)}/v2/{reference.repository}/{path}")

    def _authorize(self, reference: Reference, challenge: str) -> None:
        """Get an anonymous pull token (distribution-spec's token authentication)."""
        fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        if not challenge.lower().startswith("bearer ") or "realm" not in fields:
            raise MirrorError(f"{reference.host} wants a log-in ({challenge!r}); only public images can be mirrored")
        realm = fields["realm"]
        if self._upstream != UPSTREAM:
            realm = self._url(realm.partition("://")[2])
        scope = f"repository:{reference.repository}:pull"
        answer = self._get(str(httpx.URL(realm, params={"service": fields.get("service", ""), "scope": scope})))
        if answer.is_error:
            raise MirrorError(f"{reference.host} gave no token for {reference.repository}: {answer.status_code}")
        body = answer.json()
        self._tokens[reference.host, reference.repository] = body.get("token") or body["access_token"]

    def _headers(self, reference: Reference) -> dict[str, str]:
        token = self._tokens.get((reference.host, reference.repository))
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _manifest(self, reference: Reference, tag: str) -> tuple[bytes, str]:
        url = self._registry(reference, f"manifests/{tag}")
        accept = {"Accept": ", ".join((*_INDEXES, *_MANIFESTS))}
        answer = self._get(url, {**accept, **self._headers(reference)})
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            self._authorize(reference, answer.headers.get("WWW-Authenticate", ""))
            answer = self._get(url, {**accept, **self._headers(reference)})
        if answer.is_error:
            raise MirrorError(f"{url} answered {answer.status_code}")
        if tag.startswith("sha256:") and oci.digest_of(answer.content) != tag:
            raise ChecksumError(f"{url} is {oci.digest_of(answer.content)}")
        return answer.content, answer.headers.get("Content-Type", "").partition(";")[0]

    def image(self, name: str, target: Path) -> oci.Image:
        """Download the layers of an image for linux/amd64 into the folder ``target``.

        The registry's own digests are checked, and the manifest is kept as it is.

        Raises:
            ChecksumError: a blob is not what its digest says.
            MirrorError: the image cannot be had, or not for this platform.
        """
        reference = Reference.parse(name)
        data, kind = self._manifest(reference, reference.tag)
        manifest: dict[str, Any] = json.loads(data)
        kind = manifest.get("mediaType", kind)
        if kind in _INDEXES:
            fitting = [
                entry["digest"]
                for entry in manifest["manifests"]
                if entry.get("platform", {}).get("os") == "linux" and entry["platform"].get("architecture") == "amd64"
            ]
            if not fitting:
                raise MirrorError(f"{name} is not published for linux/amd64")
            data, kind = self._manifest(reference, fitting[0])
            manifest = json.loads(data)
            kind = manifest.get("mediaType", kind)
        if kind not in _MANIFESTS:
            raise MirrorError(f"{name} has a manifest of type {kind!r}, which is not supported")
        config = target / "config"
        self._blob(reference, manifest["config"]["digest"], config)
        layers = []
        for layer in manifest["layers"]:
            digest = layer["digest"].removeprefix("sha256:")
            self._blob(reference, layer["digest"], target / digest)
            layers.append((digest, target / digest))
        return oci.Image(data, kind, config.read_bytes(), tuple(layers))

    def _blob(self, reference: Reference, digest: str, target: Path) -> None:
        url = self._registry(reference, f"blobs/{digest}")
        self._fetch(url, target, digest.removeprefix("sha256:"), self._headers(reference))
