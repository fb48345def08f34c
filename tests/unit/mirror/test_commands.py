"""``mirror build``, ``verify`` and ``list`` on a repository with one small pin."""

from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from airflow_knative.mirror import oci
from airflow_knative.mirror.cli import app

from .conftest import PINS, Upstream

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

TOOL = "files/example.com/tool/v4.5.6/tool"


class Mirror:
    """Runs the commands with a cache and an output folder of their own."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.out, self.cache = root, folder / "out", folder / "cache"

    def build(self, *more: str) -> Result:
        options = ["--root", str(self.root), "--out", str(self.out), "--cache", str(self.cache)]
        return CliRunner().invoke(app, ["build", *options, *more])

    def verify(self) -> Result:
        return CliRunner().invoke(app, ["verify", "--out", str(self.out)])


@pytest.fixture
def mirror(root: Path, tmp_path: Path) -> Mirror:
    return Mirror(root, tmp_path)


def test_a_build_puts_files_checksums_and_images_at_their_upstream_places(mirror: Mirror) -> None:
    result = mirror.build("--source", "build")
    assert result.exit_code == 0, result.output
    assert (mirror.out / TOOL).read_text() == (mirror.root / "tool").read_text()
    assert (mirror.out / f"{TOOL}.sha256").read_text().endswith("  tool\n")
    with tarfile.open(mirror.out / "files/example.com/tool/v4.5.6.tgz") as tar:
        assert tar.getnames() == ["bin/tool"]
    said = json.loads((mirror.out / "manifest.json").read_text())
    assert set(said["images"]) == {"example.com/team/tool:v4.5.6", "example.com/team/tool:latest"}
    image = said["images"]["example.com/team/tool:v4.5.6"]
    assert image["container"] == "tooler"
    archive = oci.read(mirror.out / image["file"])
    assert archive.names["example.com/team/tool:latest"].digest == image["digest"]
    assert mirror.verify().exit_code == 0


def test_a_second_run_does_nothing(mirror: Mirror) -> None:
    mirror.build("--source", "build")
    before = {path: path.stat().st_mtime_ns for path in mirror.out.rglob("*")}
    result = mirror.build("--source", "build")
    assert "0 pins, 1 more from the cache" in result.output
    assert "0 files" in result.output
    assert {path: path.stat().st_mtime_ns for path in mirror.out.rglob("*")} == before


def test_two_builds_make_the_same_bytes(mirror: Mirror, tmp_path: Path) -> None:
    mirror.build("--source", "build")
    other = Mirror(mirror.root, tmp_path / "other")
    other.build("--source", "build")
    assert (mirror.out / "manifest.json").read_bytes() == (other.out / "manifest.json").read_bytes()


def test_a_new_version_takes_the_place_of_the_old_one(mirror: Mirror) -> None:
    mirror.build("--source", "build")
    (mirror.root / "mirror" / "pins.yaml").write_text(PINS.replace("4.5.6", "4.5.7"))
    mirror.build("--source", "build")
    assert not (mirror.out / TOOL).exists()
    assert (mirror.out / TOOL.replace("4.5.6", "4.5.7")).exists()
    assert mirror.verify().exit_code == 0


def test_changed_sources_are_built_anew(mirror: Mirror) -> None:
    mirror.build("--source", "build")
    digest = json.loads((mirror.out / "manifest.json").read_text())["images"]["example.com/team/tool:latest"]["digest"]
    (mirror.root / "tool").write_text("#!/bin/sh\necho another tool\n")
    mirror.build("--source", "build")
    said = json.loads((mirror.out / "manifest.json").read_text())
    assert said["images"]["example.com/team/tool:latest"]["digest"] != digest


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda out: (out / TOOL).write_bytes(b"!" + (out / TOOL).read_bytes()[1:]), f"changed: {TOOL} sha256"),
        (lambda out: (out / TOOL).write_bytes(b""), f"changed: {TOOL} 0 bytes instead of"),
        (lambda out: (out / TOOL).unlink(), f"missing: {TOOL}"),
        (lambda out: (out / "files" / "more").write_text("x"), "extra: files/more"),
    ],
    ids=["changed byte", "cut", "missing", "extra"],
)
def test_verify_names_what_is_wrong(mirror: Mirror, harm: object, message: str) -> None:
    mirror.build("--source", "build")
    harm(mirror.out)  # type: ignore[operator]
    result = mirror.verify()
    assert result.exit_code == 1
    assert message in result.output


def test_a_deleted_file_comes_back(mirror: Mirror) -> None:
    mirror.build("--source", "build")
    (mirror.out / TOOL).unlink()
    assert "1 files" in mirror.build("--source", "build").output
    assert mirror.verify().exit_code == 0


def test_a_failing_pin_is_named_and_the_others_go_on(mirror: Mirror) -> None:
    more = """
  broken: {title: B, version: 1.0.0, project: p, build: {kind: none, reason: r},
           images: [{name: "example.com/broken:v1", files: {/x: repo/nothing}}]}
  above: {title: C, version: 1.0.0, project: p, needs: [broken], build: {kind: none, reason: r}, images: []}
"""
    (mirror.root / "nothing").mkdir()  # exists, but is no file
    (mirror.root / "mirror" / "pins.yaml").write_text(PINS + more)
    result = mirror.build("--source", "build")
    assert result.exit_code == 1
    assert "✘ broken" in result.output
    assert "✘ above it needs broken, which failed" in result.output
    assert (mirror.out / TOOL).exists()


def test_downloads_have_the_layout_of_builds(mirror: Mirror, upstream: Upstream, tmp_path: Path) -> None:
    mirror.build("--source", "build")
    built = {
        str(path.relative_to(mirror.out / "files")) for path in (mirror.out / "files").rglob("*") if path.is_file()
    }
    for path in built:
        upstream.put(path, (mirror.out / "files" / path).read_bytes())
    archive = oci.read(mirror.out / "images" / "example.com_team_tool_v4.5.6.tar")
    at = "example.com/v2/team/tool"
    for digest, blob in archive.blobs.items():
        upstream.put(f"{at}/blobs/{digest}", blob.bytes())
    described = archive.names["example.com/team/tool:v4.5.6"]
    upstream.put(f"{at}/manifests/v4.5.6", archive.blobs[described.digest].bytes(), described.media_type)
    other = Mirror(mirror.root, tmp_path / "other")
    result = other.build("--source", "download", "--upstream", upstream.url)
    assert result.exit_code == 0, result.output
    assert (other.out / "manifest.json").read_bytes() == (mirror.out / "manifest.json").read_bytes()
    assert other.verify().exit_code == 0


def test_a_wrong_checksum_names_the_pin(mirror: Mirror, upstream: Upstream) -> None:
    upstream.put("example.com/tool/v4.5.6/tool", b"evil")
    upstream.put("example.com/tool/v4.5.6/tool.sha256", b"0" * 64)
    result = mirror.build("--source", "download", "--upstream", upstream.url)
    assert result.exit_code == 1
    assert "✘ tool" in result.output
    assert "has sha256" in result.output
    assert not (mirror.out / TOOL).exists()


def test_auto_builds_what_upstream_does_not_have(mirror: Mirror, upstream: Upstream) -> None:
    result = mirror.build("--source", "auto", "--upstream", upstream.url)
    assert result.exit_code == 0, result.output
    assert upstream.requests
    assert (mirror.out / TOOL).exists()


def test_the_list_has_name_and_version(root: Path) -> None:
    assert "4.5.6" in CliRunner().invoke(app, ["list", "--root", str(root)]).output
    said = json.loads(CliRunner().invoke(app, ["list", "--root", str(root), "--json"]).output)
    assert said["tool"]["files"][0]["path"] == "example.com/tool/v4.5.6/tool"
    table = CliRunner().invoke(app, ["list", "--root", str(root), "--markdown"]).output
    assert "| [A tool](https://tool.example) | 4.5.6 |" in table
