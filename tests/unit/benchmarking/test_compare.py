from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.compare import compare


def report(**p50s: float) -> dict[str, Any]:
    variants = {name.replace("_", "-"): {"p50_ms": p50, "cpu_ms": 2 * p50} for name, p50 in p50s.items()}
    return {"scenarios": {"a/warm": variants}}


def test_a_slower_machine_is_no_regression() -> None:
    found = list(compare(report(knative=100, local_tuned=200), report(knative=300, local_tuned=600)))
    assert [(one.figure, one.change, one.is_worse(0.01)) for one in found] == [
        ("p50_ms", 1.0, False),
        ("cpu_ms", 1.0, False),
    ]


@pytest.mark.parametrize(("now", "is_worse"), [(124, False), (126, True), (50, False)])
def test_a_ratio_may_get_worse_by_the_tolerance(now: float, is_worse: bool) -> None:  # noqa: FBT001
    one = next(compare(report(knative=100, local_tuned=200), report(knative=now, local_tuned=200)))
    assert one.is_worse(0.25) is is_worse


def test_the_rival_is_one_that_both_have() -> None:
    kept = report(knative=100, local_tuned=200, celery=400)
    (one, _) = compare(kept, report(knative=100, celery=800, local_default=1))
    assert (one.rival, one.change) == ("celery", 0.5)


def test_what_has_no_rival_is_not_compared() -> None:
    assert list(compare(report(knative=100), report(knative=900))) == []
    assert list(compare({"scenarios": {}}, report(knative=900, celery=1))) == []


@pytest.mark.parametrize(("now", "code"), [(110, 0), (200, 1)])
def test_the_command_fails_on_what_got_worse(tmp_path: Path, now: float, code: int) -> None:
    for folder, told in (("kept", report(knative=100, local_tuned=200)), ("new", report(knative=now, local_tuned=200))):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "quick.json").write_text(json.dumps(told))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "compare", "--new", tmp_path / "new", "--kept", tmp_path / "kept"],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert ("WORSE" in done.stdout) is bool(code)
