"""Tags change when what they name changes, and not before."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
sys.path.insert(0, str(REPOSITORY / "playbooks" / "lookup_plugins"))

from ansible.errors import AnsibleLookupError  # noqa: E402
from content import digest  # type: ignore[import-not-found] # noqa: E402


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "workflows"
    (folder / "sql").mkdir(parents=True)
    (folder / "etl.py").write_text("x = 1\n")
    (folder / "sql" / "query.sql").write_text("select 1\n")
    return folder


def test_a_copy_has_the_same_digest(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "workflows"
    shutil.copytree(folder, copy)
    os.utime(copy / "etl.py", (1, 1))
    (copy / "__pycache__").mkdir()
    (copy / "__pycache__" / "etl.cpython-311.pyc").write_bytes(b"\0")
    assert digest([copy]) == digest([folder])


@pytest.mark.parametrize("change", ["content", "name", "more", "fewer", "mode"])
def test_a_change_changes_it(folder: Path, change: str) -> None:
    before = digest([folder])
    match change:
        case "content":
            (folder / "sql" / "query.sql").write_text("select 2\n")
        case "name":
            (folder / "etl.py").rename(folder / "elt.py")
        case "more":
            (folder / "empty.py").touch()
        case "fewer":
            (folder / "etl.py").unlink()
        case "mode":
            (folder / "etl.py").chmod(0o755)
    assert digest([folder]) != before


def test_the_order_is_part_of_it(folder: Path) -> None:
    assert digest([folder / "etl.py", folder / "sql"]) != digest([folder / "sql", folder / "etl.py"])


def test_what_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(AnsibleLookupError, match="nothing does not exist"):
        digest([tmp_path / "nothing"])
