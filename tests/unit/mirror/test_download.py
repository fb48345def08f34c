from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_knative.mirror import oci
from airflow_knative.mirror.download import Downloads, Reference, checksum_in
from airflow_knative.mirror.errors import ChecksumError, MirrorError
from airflow_knative.mirror.pins import FileBuild, FileOutput

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import Upstream

BODY = b"the program" * 100
HASH = hashlib.sha256(BODY).hexdigest()
PATH = "example.com/v1/tool.tgz"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture
def downloads(tmp_path: Path, upstream: Upstream) -> Iterator[Downloads]:
    made = Downloads(tmp_path / "partial", upstream.url)
    yield made
    made.close()


def _pinned(sha256: str = HASH) -> FileOutput:
    return FileOutput(path=PATH, sha256=sha256, build=FileBuild(copy="bin/tool"))


def _published(checksum: str = f"{PATH}.sha256") -> FileOutput:
    return FileOutput(path=PATH, checksum=checksum, build=FileBuild(copy="bin/tool"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (HASH, HASH),
        (f"{HASH.upper()}\n", HASH),
        (f"{HASH}  tool.tgz\n", HASH),
        (f"{'0' * 64}  other.tgz\n{HASH} *./dist/tool.tgz\n", HASH),
        (f"# sums\n{'0' * 64}  tool.tgz.asc\n", None),
        ("<html>not found</html>", None),
    ],
)
def test_checksums_as_upstreams_publish_them(text: str, found: str | None) -> None:
    assert checksum_in(text, "tool.tgz") == found


def test_a_file_with_a_known_checksum(tmp_path: Path, upstream: Upstream, downloads: Downloads) -> None:
    upstream.put(PATH, BODY)
    downloads.file(_pinned(), tmp_path / "out" / "tool.tgz")
    assert (tmp_path / "out" / "tool.tgz").read_bytes() == BODY


def test_a_file_with_a_published_checksum(tmp_path: Path, upstream: Upstream, downloads: Downloads) -> None:
    upstream.put(PATH, BODY)
    upstream.put(f"{PATH}.sha256", f"{HASH}  tool.tgz\n".encode())
    downloads.file(_published(), tmp_path / "tool.tgz")
    assert (tmp_path / "tool.tgz").read_bytes() == BODY


@pytest.mark.parametrize("output", [_pinned("0" * 64), _published()], ids=["known", "published"])
def test_another_file_is_refused_and_not_kept(
    tmp_path: Path, upstream: Upstream, downloads: Downloads, output: FileOutput
) -> None:
    upstream.put(PATH, b"something else")
    upstream.put(f"{PATH}.sha256", HASH.encode())
    with pytest.raises(ChecksumError, match=rf"{PATH} has sha256 \w+, expected"):
        downloads.file(output, tmp_path / "tool.tgz")
    assert not (tmp_path / "tool.tgz").exists()
    assert list((tmp_path / "partial").iterdir()) == []


def test_without_its_published_checksum_a_file_is_not_taken(
    tmp_path: Path, upstream: Upstream, downloads: Downloads
) -> None:
    upstream.put(PATH, BODY)
    with pytest.raises(MirrorError, match=r"answered 404; without it tool\.tgz cannot be checked"):
        downloads.file(_published(), tmp_path / "tool.tgz")
    upstream.put("example.com/SUMS", f"{HASH}  other.tgz".encode())
    with pytest.raises(ChecksumError, match=r"SUMS has no sha256 for tool\.tgz"):
        downloads.file(_published("example.com/SUMS"), tmp_path / "tool.tgz")


def test_a_download_goes_on_where_it_broke_off(tmp_path: Path, upstream: Upstream, downloads: Downloads) -> None:
    address = hashlib.sha256(f"{upstream.url}/{PATH} {HASH}".encode()).hexdigest()
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / address).write_bytes(BODY[:300])
    upstream.put(PATH, BODY)
    downloads.file(_pinned(), tmp_path / "tool.tgz")
    assert (tmp_path / "tool.tgz").read_bytes() == BODY
    assert upstream.requests[-1][1]["Range"] == "bytes=300-"


def test_no_network_is_said_so(tmp_path: Path) -> None:
    downloads = Downloads(tmp_path / "partial", "http://127.0.0.1:9")
    with pytest.raises(MirrorError, match=f"127.0.0.1:9/{PATH} broke off"):
        downloads.file(_pinned(), tmp_path / "tool.tgz")
    downloads.close()


def _put_image(
    upstream: Upstream, *, platforms: tuple[str, ...] = ("arm64", "amd64"), layer: bytes = b"layer"
) -> bytes:
    """Publish an image under an index and return the manifest for this machine."""
    at = "registry.example/v2/team/tool"
    upstream.put(f"{at}/blobs/{oci.digest_of(b'layer')}", layer)
    entries, wanted = [], b""
    for platform in platforms:
        config = json.dumps({"architecture": platform}).encode()
        upstream.put(f"{at}/blobs/{oci.digest_of(config)}", config)
        said: dict[str, Any] = {"schemaVersion": 2, "mediaType": MANIFEST}
        said["config"] = {"digest": oci.digest_of(config), "size": len(config), "mediaType": "c"}
        said["layers"] = [{"digest": oci.digest_of(b"layer"), "size": 5, "mediaType": "l"}]
        manifest = json.dumps(said).encode()
        upstream.put(f"{at}/manifests/{oci.digest_of(manifest)}", manifest, MANIFEST)
        entries.append({"digest": oci.digest_of(manifest), "platform": {"os": "linux", "architecture": platform}})
        wanted = manifest if platform == "amd64" else wanted
    index = json.dumps({"mediaType": INDEX, "manifests": entries}).encode()
    upstream.put(f"{at}/manifests/v1", index, INDEX)
    return wanted


def test_an_image_is_taken_for_this_platform_and_as_it_is(
    tmp_path: Path, upstream: Upstream, downloads: Downloads
) -> None:
    manifest = _put_image(upstream)
    image = downloads.image("registry.example/team/tool:v1", tmp_path / "image")
    assert image.manifest == manifest
    assert json.loads(image.config) == {"architecture": "amd64"}
    described = oci.write(tmp_path / "image.tar", ["registry.example/team/tool:v1"], image, 0)
    assert described.digest == oci.digest_of(manifest)
    assert oci.read(tmp_path / "image.tar").blobs[oci.digest_of(b"layer")].bytes() == b"layer"


def test_a_registry_that_wants_an_anonymous_token_gets_one(
    tmp_path: Path, upstream: Upstream, downloads: Downloads
) -> None:
    _put_image(upstream)
    upstream.put("auth.example/token", b'{"token": "let-me-in"}')
    path = "/registry.example/v2/team/tool/manifests/v1"
    allowed = upstream.answers[path]
    challenge = 'Bearer realm="https://auth.example/token",service="registry.example"'
    upstream.answers[path] = (401, {"WWW-Authenticate": challenge}, b"")

    original = downloads._authorize

    def authorize(reference: Reference, said: str) -> None:
        original(reference, said)
        upstream.answers[path] = allowed

    downloads._authorize = authorize  # type: ignore[method-assign]
    downloads.image("registry.example/team/tool:v1", tmp_path / "image")
    asked = [path for path, _ in upstream.requests if "token" in path]
    assert asked == ["/auth.example/token?service=registry.example&scope=repository%3Ateam%2Ftool%3Apull"]
    assert upstream.requests[-1][1]["Authorization"] == "Bearer let-me-in"


def test_a_changed_layer_is_refused(tmp_path: Path, upstream: Upstream, downloads: Downloads) -> None:
    _put_image(upstream, layer=b"other")
    with pytest.raises(ChecksumError, match="blobs/sha256:"):
        downloads.image("registry.example/team/tool:v1", tmp_path / "image")


def test_an_image_for_other_platforms_only_is_refused(tmp_path: Path, upstream: Upstream, downloads: Downloads) -> None:
    _put_image(upstream, platforms=("arm64",))
    with pytest.raises(MirrorError, match="not published for linux/amd64"):
        downloads.image("registry.example/team/tool:v1", tmp_path / "image")


def test_an_image_name_must_be_full() -> None:
    assert Reference.parse("h.example:5000/a/b:v1") == Reference("h.example:5000", "a/b", "v1")
    with pytest.raises(MirrorError, match="registry/repository:tag"):
        Reference.parse("busybox")
