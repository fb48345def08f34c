from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import httpx
import pytest
from typer.testing import CliRunner

from airflow_knative.mirror import oci
from airflow_knative.mirror.cli import app
from airflow_knative.mirror.serve import server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TAG = "/v2/team/tool/manifests/v4.5.6"


@pytest.fixture
def out(root: Path, tmp_path: Path) -> Path:
    options = ["--root", str(root), "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    CliRunner().invoke(app, ["build", "--source", "build", *options])
    return tmp_path / "out"


@pytest.fixture
def client(out: Path) -> Iterator[httpx.Client]:
    made = server(out, "127.0.0.1", 0)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{made.server_address[1]}") as client:
        yield client
    made.shutdown()
    made.server_close()
    thread.join()


def test_files_are_at_their_upstream_paths(client: httpx.Client, out: Path) -> None:
    answer = client.get("/example.com/tool/v4.5.6/tool")
    assert answer.content == (out / "files/example.com/tool/v4.5.6/tool").read_bytes()
    assert client.get("/manifest.json").json()["version"] == 1
    assert client.get("/example.com/tool/none").status_code == 404
    assert client.get("/example.com/tool").status_code == 404


@pytest.mark.parametrize("path", ["/%2e%2e/manifest.json", "/../images/x", "//etc/passwd"])
def test_nothing_outside_the_files_is_served(client: httpx.Client, path: str) -> None:
    answer = client.send(client.build_request("GET", httpx.URL(str(client.base_url), raw_path=path.encode())))
    assert answer.status_code == 404


def test_the_rest_of_a_file_can_be_asked_for(client: httpx.Client) -> None:
    path = "/example.com/tool/v4.5.6/tool"
    whole = client.get(path).content
    answer = client.get(path, headers={"Range": "bytes=5-"})
    assert (answer.status_code, answer.content) == (206, whole[5:])
    assert answer.headers["Content-Range"] == f"bytes 5-{len(whole) - 1}/{len(whole)}"


@pytest.mark.parametrize("host", ["", "?ns=example.com", "?ns=elsewhere.example"])
def test_an_image_can_be_pulled(client: httpx.Client, host: str) -> None:
    assert client.get("/v2/").status_code == 200
    head = client.head(TAG + host)
    assert (head.status_code, head.content) == (200, b"")
    answer = client.get(TAG + host)
    digest = oci.digest_of(answer.content)
    assert head.headers["Docker-Content-Digest"] == answer.headers["Docker-Content-Digest"] == digest
    assert answer.headers["Content-Type"] == oci.MANIFEST
    assert client.get(f"/v2/team/tool/manifests/{digest}").content == answer.content
    manifest = json.loads(answer.content)
    for part in (manifest["config"], *manifest["layers"]):
        assert oci.digest_of(client.get(f"/v2/team/tool/blobs/{part['digest']}").content) == part["digest"]


def test_what_is_not_there_is_answered_as_registries_do(client: httpx.Client) -> None:
    answer = client.get("/v2/team/tool/manifests/none")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, "MANIFEST_UNKNOWN")
    answer = client.get(f"/v2/team/tool/blobs/sha256:{'0' * 64}")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, "BLOB_UNKNOWN")
