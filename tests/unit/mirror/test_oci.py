from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING

import pytest

from airflow_knative.mirror import oci, tars
from airflow_knative.mirror.errors import MirrorError
from airflow_knative.mirror.pins import ImageOutput

if TYPE_CHECKING:
    from pathlib import Path

EPOCH = 1735689600
NAMES = ["example.com/team/tool:v1", "example.com/team/tool:latest"]


def _archive(folder: Path) -> Path:
    folder.mkdir()
    layers: list[tars.Layer] = []
    with tars.layer(folder / "layer", layers) as tar:
        tars.add_directory(tar, "etc", EPOCH)
    image = ImageOutput(name=NAMES[0], entrypoint=("/tool",), env={"A": "b"}, user="65532", ports=("80/tcp",))
    config = oci.config_of(image, [layer.diff_id for layer in layers], EPOCH)
    oci.write(folder / "image.tar", NAMES, oci.image_of(config, layers), EPOCH)
    return folder / "image.tar"


def test_the_same_image_makes_the_same_archive(tmp_path: Path) -> None:
    assert _archive(tmp_path / "one").read_bytes() == _archive(tmp_path / "two").read_bytes()


def test_every_blob_has_the_digest_that_names_it(tmp_path: Path) -> None:
    archive = oci.read(_archive(tmp_path / "one"))
    assert set(archive.names) == set(NAMES)
    assert len(archive.blobs) == 3
    for digest, blob in archive.blobs.items():
        assert oci.digest_of(blob.bytes()) == digest
    manifest = json.loads(archive.blobs[archive.names[NAMES[0]].digest].bytes())
    for part in (manifest["config"], *manifest["layers"]):
        assert archive.blobs[part["digest"]].size == part["size"]


def test_the_configuration_says_how_to_run_it(tmp_path: Path) -> None:
    archive = oci.read(_archive(tmp_path / "one"))
    manifest = json.loads(archive.blobs[archive.names[NAMES[1]].digest].bytes())
    config = json.loads(archive.blobs[manifest["config"]["digest"]].bytes())
    assert (config["architecture"], config["os"], config["created"]) == ("amd64", "linux", "2025-01-01T00:00:00Z")
    assert config["config"]["Entrypoint"] == ["/tool"]
    assert config["config"]["User"] == "65532"
    assert config["config"]["ExposedPorts"] == {"80/tcp": {}}
    assert config["config"]["Env"][-1] == "A=b"
    assert "Cmd" not in config["config"]


def test_docker_load_finds_its_own_manifest(tmp_path: Path) -> None:
    with tarfile.open(_archive(tmp_path / "one")) as tar:
        names = tar.getnames()
        said = tar.extractfile("manifest.json")
        assert said is not None
        (image,) = json.load(said)
    assert image["RepoTags"] == NAMES
    assert {image["Config"], *image["Layers"]} <= set(names)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"x" * 600)
    with pytest.raises(MirrorError, match=r"x\.tar is no image archive"):
        oci.read(tmp_path / "x.tar")
