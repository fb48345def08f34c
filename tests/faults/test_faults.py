"""One fault of many kinds, at moments chosen by a fixed seed; `make faults` tries more of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .harness import Field
from .kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(900)

SELECTED = [
    "scheduler killed",
    "dispatcher killed",
    "activator killed",
    "database killed",
    "worker killed",
    "dispatcher stopped for a while",
    "connections cut in mid-stream",
    "502 after the request was passed on",
]


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    with Field(tmp_path_factory.mktemp("faults")) as field:
        yield field


@pytest.mark.parametrize("kind", SELECTED)
def test_nothing_is_lost_or_doubled_or_falsely_successful(field: Field, kind: str) -> None:
    fault = field.strike(kind, 1, seed=7)
    judgement = fault.judgement
    assert (judgement.lost, judgement.doubled, judgement.false_success) == ([], [], []), fault


def test_every_kind_is_named_once() -> None:
    assert set(SELECTED) <= set(KINDS)
