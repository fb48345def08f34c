"""The pins of this repository."""

from __future__ import annotations

import re
import subprocess

import pytest

from airflow_knative.mirror import pins
from airflow_knative.mirror.cli import table_of_versions
from airflow_knative.mirror.pins import GoBuild

from .conftest import REPOSITORY

PINS = pins.load(REPOSITORY / "mirror" / "pins.yaml")
GO_BUILDS = [pin for pin in PINS.pins.values() if isinstance(pin.build, GoBuild)]
# Lock files repeat what they lock, a change log tells of old versions, and Python requirements are not pinned here.
ELSEWHERE_ALLOWED = (
    "mirror/pins.yaml",
    "pyproject.toml",
    "mirror/go/",
    "requirements.lock",
    "uv.lock",
    "CHANGELOG.md",
    # What was measured stays measured with what it was measured with.
    "benchmarks/results/",
)
# The README's table is generated; between these marks it repeats the pins.
TABLE = re.compile(r"<!-- versions -->\n(.*?)<!-- /versions -->", re.DOTALL)


def test_every_artifact_has_a_checksum_and_a_build() -> None:
    for pin in PINS.pins.values():
        assert pin.build is not None
        for file in pin.files:
            assert bool(file.sha256) != bool(file.checksum), file.path
            assert file.checksum is None or "{" not in file.checksum


@pytest.mark.parametrize("pin", GO_BUILDS, ids=lambda pin: pin.name)
def test_go_modules_are_locked_to_the_pinned_version(pin: pins.Pin) -> None:
    assert isinstance(pin.build, GoBuild)
    folder = REPOSITORY / "mirror" / "go" / pin.build.directory
    if pin.build.module is None:
        assert (folder / "main.go").exists()
        return
    required = dict(re.findall(r"(?m)^\s*(?:require )?(\S+) (v\S+)", (folder / "go.mod").read_text()))
    assert required[pin.build.module] == pin.build.module_version
    assert f"{pin.build.module} {pin.build.module_version} h1:" in (folder / "go.sum").read_text()


def test_every_go_module_belongs_to_a_pin() -> None:
    folders = {path.name for path in (REPOSITORY / "mirror" / "go").iterdir()}
    assert folders == {pin.build.directory for pin in GO_BUILDS if isinstance(pin.build, GoBuild)}


def test_staging_modules_of_kubernetes_have_its_version() -> None:
    for name in ("kubernetes", "kubernetes-patch", "kubernetes-previous"):
        pin = PINS.pins[name]
        assert isinstance(pin.build, GoBuild)
        text = (REPOSITORY / "mirror" / "go" / pin.build.directory / "go.mod").read_text()
        replaced = re.findall(r"(k8s\.io/\S+) => (\S+) v0\.(\S+)", text)
        assert len(replaced) > 25
        assert {(old == new, version) for old, new, version in replaced} == {(True, pin.version.removeprefix("1."))}


def test_operator_installs_the_pinned_serving_and_ingress() -> None:
    said = PINS.pins["knative-operator"].vars
    assert said["serving"] == PINS.pins["knative-serving"].version
    assert PINS.pins["kourier"].version.startswith(f"{said['ingress']}.")


def test_upgrades_of_kubernetes_go_a_minor_and_a_patch() -> None:
    new, patch, old = (
        [int(part) for part in PINS.pins[name].version.split(".")]
        for name in ("kubernetes", "kubernetes-patch", "kubernetes-previous")
    )
    assert new[1] - old[1] == 1
    assert new[:2] == patch[:2]
    assert new[2] - patch[2] == 1


def _files() -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=False, text=True)
    if done.returncode:
        pytest.skip("this is no checkout")
    return [name for name in done.stdout.splitlines() if not name.startswith(ELSEWHERE_ALLOWED)]


def test_no_version_stands_anywhere_else() -> None:
    versions = {value for pin in PINS.pins.values() for value in (pin.version, *pin.vars.values())}
    exact = [version for version in versions if re.fullmatch(r"\d+\.\d+\.\d+\S*", version)]
    pattern = re.compile(rf"(?<![\w.])v?({'|'.join(re.escape(version) for version in exact)})(?![\w.]*\d)")
    found = []
    for name in _files():
        try:
            text = (REPOSITORY / name).read_text()
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue
        found += [f"{name}: {match[0]}" for match in pattern.finditer(TABLE.sub("", text))]
    assert found == []


def test_the_table_of_versions_in_the_readme_is_the_generated_one() -> None:
    match = TABLE.search((REPOSITORY / "README.md").read_text())
    if match is None:
        pytest.skip("the README has no table yet")
    assert match[1].strip() == table_of_versions(PINS).strip(), "run `airflow-knative mirror list --markdown`"
