from __future__ import annotations

import io
import itertools
import re
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from airflow_knative.cli.timeline.model import Attempt, Run, Stage
from airflow_knative.cli.timeline.svg import render
from airflow_knative.cli.timeline.terminal import draw, milliseconds

from .test_timeline_model import attempt, run

SVG = "{http://www.w3.org/2000/svg}"


def text(drawn: Run, width: int = 120) -> str:
    out = io.StringIO()
    draw(drawn, Console(file=out, width=width, color_system=None))
    return out.getvalue()


def everything() -> Run:
    return run(
        attempt(),
        attempt(task_id="<b>&'\"", cold=False, state="failed"),
        attempt(task_id="again", try_number=2),
        Attempt("never", state="upstream_failed"),
        Attempt("later", state=None),
        attempt(task_id="old", stages={}, cold=None),
        attempt(task_id="x" * 200),
    )


def test_a_line_for_each_attempt_and_for_the_gaps() -> None:
    drawn = text(everything())
    for name in ("t ", "again try 2", "never", "later", "old", "scheduler, between tasks"):
        assert f"\n{name}" in drawn
    assert "upstream_failed" in drawn
    assert "not yet" in drawn
    assert re.search(r"^t .*1,200 ms cold$", drawn, re.MULTILINE)
    assert re.search(r"warm failed$", drawn, re.MULTILINE)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_lines_fit(width: int) -> None:
    assert max(map(len, text(everything(), width).splitlines())) <= width


def test_without_colours_every_stage_has_a_sign_of_its_own() -> None:
    assert len({stage.sign for stage in Stage}) == len(Stage)
    drawn = text(run(attempt()))
    row = next(line for line in drawn.splitlines() if line.startswith("t "))
    for stage in (Stage.DISPATCH, Stage.COLD_START, Stage.TASK):
        assert stage.sign in row


def test_bars_are_in_proportion() -> None:
    drawn = text(run(Attempt("half", state="success", scheduled=0.0, queued=0.0, start=0.0, end=1.5, stages={})))
    row = next(line for line in drawn.splitlines() if line.startswith("half"))
    bar = row.count(Stage.OPAQUE.sign)
    gap = next(line for line in drawn.splitlines() if line.startswith("scheduler")).count("░")
    assert abs(bar - gap) <= 1


def test_an_empty_run_is_drawn() -> None:
    assert "scheduler" in text(run())
    assert ET.fromstring(render(run())).tag == f"{SVG}svg"  # noqa: S314 -- our own


@pytest.mark.parametrize(("seconds", "said"), [(0.0123, "12.3 ms"), (0.8414, "841 ms"), (12.345, "12,345 ms")])
def test_milliseconds(seconds: float, said: str) -> None:
    assert milliseconds(seconds) == said


def test_svg_is_sound_and_needs_nothing_else() -> None:
    drawing = render(everything())
    root = ET.fromstring(drawing)  # noqa: S314
    assert "<script" not in drawing
    assert re.findall(r"https?://[^\"]+", drawing) == ["http://www.w3.org/2000/svg"]
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert "<b>&'\"" in texts
    assert "again try 2" in texts


def test_svg_bars_lie_inside_and_follow_each_other() -> None:
    root = ET.fromstring(render(run(attempt())))  # noqa: S314
    width = float(root.get("width", "0"))
    bars = [
        rect for rect in root.iter(f"{SVG}rect") if rect.find(f"{SVG}title") is not None and rect.get("height") == "16"
    ]
    assert len(bars) == 7
    edges = [(float(bar.get("x", "")), float(bar.get("width", ""))) for bar in bars]
    for (left, wide), (following, _) in itertools.pairwise(edges):
        assert left + wide == pytest.approx(following, abs=0.05)
    assert edges[-1][0] + edges[-1][1] < width


def test_svg_grows_with_the_number_of_tasks() -> None:
    def height(number: int) -> float:
        root = ET.fromstring(render(run(*(attempt(map_index=index) for index in range(number)))))  # noqa: S314
        return float(root.get("height", "0"))

    assert height(48) - height(1) == 47 * 26


def test_a_start_ahead_shows_in_front_of_its_task() -> None:
    drawn = text(run(attempt(prewarm=(0.2, 0.9))))
    row = next(line for line in drawn.splitlines() if line.startswith("t "))
    assert re.search(r"\^+ *[^^]*$", row)
    assert row.endswith(" ahead")
    assert "worker started ahead (pre-warm)" in drawn
    assert "^" not in text(run(attempt()))


def test_svg_shows_a_start_ahead() -> None:
    assert f'fill="{Stage.PREWARM.colour}"' in render(run(attempt(prewarm=(0.2, 0.9))))
    assert f'fill="{Stage.PREWARM.colour}"' not in render(run(attempt()))
