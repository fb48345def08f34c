from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from airflow_knative.worker.randomness import reseed


@pytest.fixture
def seeded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What numpy.random is asked for, which is imported."""
    calls: list[str] = []
    numpy_random: Any = ModuleType("numpy.random")
    numpy_random.seed = lambda: calls.append("seed")
    monkeypatch.setitem(sys.modules, "numpy.random", numpy_random)
    return calls


def _has(**attributes: Any) -> None:
    generator = SimpleNamespace(**attributes)
    sys.modules["numpy.random"].get_bit_generator = lambda: generator  # type: ignore[attr-defined]


def test_numpy_s_generator_is_seeded_anew(seeded: list[str]) -> None:
    _has(seed_seq="what the system gave at the import")
    reseed()
    assert seeded == ["seed"]


def test_a_generator_that_the_dag_s_file_has_seeded_stays_as_it_is(seeded: list[str]) -> None:
    _has(seed_seq=None)
    reseed()
    assert seeded == []


def test_a_numpy_that_does_not_tell_is_seeded_anew(seeded: list[str]) -> None:
    reseed()
    _has()
    reseed()
    assert seeded == ["seed", "seed"]


def test_without_numpy_there_is_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "numpy.random", raising=False)
    reseed()
    assert "numpy.random" not in sys.modules
