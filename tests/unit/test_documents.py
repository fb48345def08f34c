"""The tests that documents name for what they promise."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
DOCUMENTS = TESTS.parent / "docs"
NAMED = re.compile(r"`(?:(?P<folder>tests/\w+/)?(?P<file>test_\w+\.py)::)?(?P<test>test_\w+)`")


def named_tests(document: str, folder: str) -> set[tuple[str, str]]:
    """Return the path and name of each test in a document; further ones of the same file may go without its name."""
    found = set()
    for line in (DOCUMENTS / document).read_text().splitlines():
        path = ""
        for match in NAMED.finditer(line):
            path = f"{match['folder'] or folder}{match['file']}" if match["file"] else path
            found.add((path, match["test"]))
    return found


def defined_in(path: str) -> set[str]:
    """Return the tests of the files that a path, or the end of one, names."""
    files = TESTS.rglob(path) if "/" not in path else [TESTS.parent / path]
    return {
        test for file in files for test in re.findall(r"^(?:async )?def (test_\w+)\(", file.read_text(), re.MULTILINE)
    }


@pytest.mark.parametrize(("document", "folder"), [("guarantees.md", ""), ("semantics.md", "tests/semantics/")])
def test_every_test_that_a_document_names_exists(document: str, folder: str) -> None:
    named = named_tests(document, folder)
    assert len(named) > 10
    assert {(path, test) for path, test in named if test not in defined_in(path)} == set()


def test_every_test_of_a_semantic_is_named() -> None:
    named = named_tests("semantics.md", "tests/semantics/")
    files = (TESTS / "semantics").glob("test_*.py")
    every = {
        (f"tests/semantics/{file.name}", test) for file in files for test in defined_in(f"tests/semantics/{file.name}")
    }
    assert every - named == set()
