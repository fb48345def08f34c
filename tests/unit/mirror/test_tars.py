from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from typing import TYPE_CHECKING

from airflow_knative.mirror import tars

if TYPE_CHECKING:
    from pathlib import Path

EPOCH = 1735689600


def _system(path: Path, entries: dict[str, bytes | str | None], mode: int = 0o644) -> Path:
    """A tar as of a file system: bytes are files, text is a link's target, None a folder."""
    with tarfile.open(path, "w") as tar:
        for name, content in entries.items():
            info = tarfile.TarInfo(f"./{name}")
            info.mode, info.mtime = mode, 12345
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return path


def _difference(tmp_path: Path, base: Path | None, full: Path) -> dict[str, tarfile.TarInfo]:
    layers: list[tars.Layer] = []
    with tars.layer(tmp_path / "layer.tar.gz", layers) as tar:
        tars.difference(base, full, tar, EPOCH)
    with tarfile.open(layers[0].path) as tar:
        return {info.name: info for info in tar}


def test_the_same_content_makes_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "b").write_text("b")
    (tmp_path / "tree" / "a").symlink_to("b")
    for name in ("one", "two"):
        (tmp_path / "tree" / "b").touch()
        with tars.archive(tmp_path / name) as tar:
            tars.add_tree(tar, "usr", tmp_path / "tree", EPOCH)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with tarfile.open(tmp_path / "one") as tar:
        assert [(info.name, info.uid, info.mtime) for info in tar] == [
            ("usr", 0, EPOCH),
            ("usr/a", 0, EPOCH),
            ("usr/b", 0, EPOCH),
        ]


def test_programs_stay_executable(tmp_path: Path) -> None:
    for name, mode in (("program", 0o700), ("data", 0o600)):
        (tmp_path / name).write_text(name)
        (tmp_path / name).chmod(mode)
    with tars.archive(tmp_path / "tar") as tar:
        tars.add_file(tar, "program", tmp_path / "program", EPOCH)
        tars.add_file(tar, "data", tmp_path / "data", EPOCH)
    with tarfile.open(tmp_path / "tar") as tar:
        assert [info.mode for info in tar] == [0o755, 0o644]


def test_a_layer_knows_the_hashes_of_itself_and_of_the_tar_inside(tmp_path: Path) -> None:
    layers: list[tars.Layer] = []
    with tars.layer(tmp_path / "layer", layers) as tar:
        tars.add_directory(tar, "etc", EPOCH)
    data = (tmp_path / "layer").read_bytes()
    assert layers == [
        tars.Layer(
            tmp_path / "layer",
            hashlib.sha256(data).hexdigest(),
            hashlib.sha256(gzip.decompress(data)).hexdigest(),
            len(data),
        )
    ]


def test_a_difference_has_what_is_new_or_changed_and_marks_what_is_gone(tmp_path: Path) -> None:
    base = _system(
        tmp_path / "base", {"etc": None, "etc/same": b"1", "etc/changed": b"1", "etc/gone": b"1", "lib": "usr"}
    )
    full = _system(tmp_path / "full", {"etc": None, "etc/same": b"1", "etc/changed": b"2", "lib": "usr", "usr": None})
    found = _difference(tmp_path, base, full)
    assert set(found) == {"etc/changed", "etc/.wh.gone", "usr"}
    assert found["etc/changed"].mtime == EPOCH


def test_a_changed_mode_or_link_is_a_difference(tmp_path: Path) -> None:
    base = _system(tmp_path / "base", {"program": b"1", "link": "a"})
    assert set(_difference(tmp_path, base, _system(tmp_path / "full", {"program": b"1", "link": "a"}, 0o755))) == {
        "program",
        "link",
    }
    assert set(_difference(tmp_path, base, _system(tmp_path / "full", {"program": b"1", "link": "b"}))) == {"link"}


def test_what_a_runtime_mounts_is_left_out(tmp_path: Path) -> None:
    full = _system(tmp_path / "full", {"dev": None, "dev/null": b"", "proc/1": b"", "run/x": b"", "usr/dev/x": b""})
    assert set(_difference(tmp_path, None, full)) == {"dev", "usr/dev/x"}
