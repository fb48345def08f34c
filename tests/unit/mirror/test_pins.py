from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_knative.mirror import pins
from airflow_knative.mirror.errors import PinError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NONE = "{kind: none, reason: there is nothing to build}"
PIN = f"""
a:
  title: A
  version: 1.2.3
  project: https://a.example
  vars: {{go: 0.9.1}}
  build: {NONE}
  files:
    - {{path: "a.example/v{{version}}/a", checksum: "{{path}}.sha256", build: {{chart: "module/{{go}}", name: a,
       replace: {{"{{{{ version }}}}": "v{{version}}"}}}}}}
"""


def test_names_are_filled_in_and_other_braces_stay(write_pins: Callable[[str], Path]) -> None:
    pin = pins.load(write_pins(PIN)).pins["a"]
    assert pin.files[0].path == "a.example/v1.2.3/a"
    assert pin.files[0].checksum == "a.example/v1.2.3/a.sha256"
    assert pin.files[0].build.chart == "module/0.9.1"
    assert pin.files[0].build.replace == {"{{ version }}": "v1.2.3"}


def test_selected_pins_come_after_what_they_need(write_pins: Callable[[str], Path]) -> None:
    rest = f"title: T, version: 1.0.0, project: p, build: {NONE}"
    loaded = pins.load(write_pins(f"a: {{{rest}, needs: [b]}}\nb: {{{rest}, set: test}}\nc: {{{rest}, set: upgrade}}"))
    assert [pin.name for pin in loaded.select(["default"])] == ["b", "a"]
    assert [pin.name for pin in loaded.select(["upgrade"])] == ["c"]
    assert [pin.name for pin in loaded.select(["default"], ["a", "c"])] == ["b", "a", "c"]
    with pytest.raises(PinError, match="no pin 'd'; the pins are a, b, c"):
        loaded.select([], ["d"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("version: 1.2.3", "version: 1.2"), "quote it"),
        (('checksum: "{path}.sha256", ', ""), "exactly one of sha256 and checksum"),
        (('checksum: "{path}.sha256"', 'checksum: x, sha256: "' + "0" * 64 + '"'), "exactly one of"),
        (('checksum: "{path}.sha256"', "sha256: short"), "pattern"),
        (('path: "a.example', 'path: "https://a.example'), "without its scheme"),
        (('path: "a.example', 'path: "../a.example'), "without its scheme"),
        (('chart: "module/{go}", name: a,', "copy: bin/a, chart: x, name: a,"), "one of copy, archive, chart"),
        (("name: a,", ""), "the release's name"),
        (("title: A", "title: A\n  needs: [zz]"), "'zz', which is no pin"),
        (("title: A", "title: A\n  needs: [a]"), "circle: a -> a"),
        (("title: A", "titel: A"), "title"),
        (("{kind: none", "{kind: magic"), "kind"),
        (("a:\n", "a: ["), "not valid YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_what_is_wrong(
    write_pins: Callable[[str], Path], change: tuple[str, str], message: str
) -> None:
    assert change[0] in PIN
    with pytest.raises(PinError, match=message):
        pins.load(write_pins(PIN.replace(*change)))


def test_two_pins_may_not_put_out_the_same(write_pins: Callable[[str], Path]) -> None:
    with pytest.raises(PinError, match=r"pins a and b both put out a\.example/v1\.2\.3/a"):
        pins.load(write_pins(PIN + PIN.replace("\na:\n", "\nb:\n")))


def test_a_layer_must_be_among_the_needs(write_pins: Callable[[str], Path]) -> None:
    text = PIN + f"b: {{title: B, version: 1.0.0, project: p, build: {NONE}, images: [{{name: x/y:1, layers: [a]}}]}}\n"
    with pytest.raises(PinError, match="pin b uses a; add it to its needs"):
        pins.load(write_pins(text))


def test_a_missing_file_says_how_to_name_another(tmp_path: Path) -> None:
    with pytest.raises(PinError, match="--root"):
        pins.load(tmp_path / "none.yaml")
