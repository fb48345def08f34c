"""Drawing a timeline in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

from airflow_knative.cli.timeline.model import ACTIVE_STATES, Attempt, Run, Segment, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

__all__ = ["draw", "milliseconds"]

_MIN_BAR: Final = 20
_MAX_NAME: Final = 40
_NUMBERS: Final = 25
_GAP_NAME: Final = "scheduler, between tasks"
_GAP_STYLE: Final = "#6b7280"
_GAP_SIGN: Final = "░"
_STATE_STYLES: Final = {"success": "green", "failed": "red", "up_for_retry": "yellow", "running": "cyan"}
_SECOND: Final = 1000


def milliseconds(seconds: float) -> str:
    """Write a duration: `12.3 ms`, `841 ms`, `12,345 ms`."""
    value = seconds * _SECOND
    return f"{value:.1f} ms" if abs(value) < _SECOND / 10 else f"{value:,.0f} ms"


def draw(run: Run, console: Console) -> None:
    """Print a run: a line for each attempt, one for the gaps, the scale and a legend."""
    names = [*(attempt.name for attempt in run.attempts), _GAP_NAME]
    name_width = min(max(map(len, names)), _MAX_NAME)
    remark_width = max((_remark(attempt).cell_len for attempt in run.attempts), default=0)
    bar_width = max(_MIN_BAR, console.width - name_width - _NUMBERS - remark_width - 1)
    # Sixteen colours are too few to tell the stages apart.
    scale = _Scale(run, bar_width, colour=console.color_system in {"256", "truecolor", "windows"})

    def line(text: Text) -> None:
        console.print(text, no_wrap=True, overflow="crop", crop=True)

    line(_title(run))
    line(Text(f"run {run.run_id}", style="dim"))
    line(Text(f"{'':{name_width}} {scale.axis()}{'begin':>12}{'took':>13}", style="dim"))
    for attempt in run.attempts:
        line(_row(attempt, run, scale, name_width))
    line(_gap_row(run, scale, name_width))
    console.print()
    for text in _legend(run, colour=scale.colour):
        line(text)


class _Scale:
    """Turns moments into cells of the bar."""

    def __init__(self, run: Run, width: int, *, colour: bool) -> None:
        self.run, self.width, self.colour = run, width, colour
        self.cell = max(run.until - run.queued, 1e-6) / width

    def axis(self) -> str:
        end = milliseconds(self.run.until - self.run.queued)
        return f"0{end:>{self.width - 1}}"

    def bar(self, segments: list[Segment], ahead: Segment | None) -> Text:
        """Each cell shows the stage that has most of it; a stage that has no cell to itself may not show.

        A start `ahead` shows where no stage does.
        """
        bar = Text()
        for number in range(self.width):
            begin = self.run.queued + number * self.cell
            shares = [(min(s.end, begin + self.cell) - max(s.begin, begin), s.stage) for s in segments]
            share, stage = max(shares, key=lambda pair: pair[0], default=(0.0, None))
            if (stage is None or share <= 0) and ahead and min(ahead.end, begin + self.cell) > max(ahead.begin, begin):
                stage, share = ahead.stage, self.cell
            if stage is None or share <= 0:
                bar.append(" ")
            else:
                bar.append("█" if self.colour else stage.sign, style=stage.colour)
        return bar

    def gap_bar(self) -> Text:
        bar = Text()
        gaps = self.run.gaps()
        for number in range(self.width):
            middle = self.run.queued + (number + 0.5) * self.cell
            bar.append(_GAP_SIGN if any(begin <= middle < end for begin, end in gaps) else " ", style=_GAP_STYLE)
        return bar


def _title(run: Run) -> Text:
    state = Text(run.state, style=_STATE_STYLES.get(run.state, ""))
    total = f"{milliseconds(run.total)}{' so far' if run.end is None else ''}"
    return Text.assemble((run.dag_id, "bold"), "  ", state, "  ", (total, "bold"))


def _row(attempt: Attempt, run: Run, scale: _Scale, name_width: int) -> Text:
    segments, ahead = attempt.segments(run.now), attempt.prewarming()
    row = Text(f"{_short(attempt.name, name_width):{name_width}} ")
    row.append_text(scale.bar(segments, ahead))
    if segments:
        begin, took = segments[0].begin - run.queued, segments[-1].end - segments[0].begin
        row.append(f"{milliseconds(begin):>12}{milliseconds(took):>13}")
    else:
        row.append(" " * _NUMBERS)
    row.append_text(_remark(attempt))
    return row


def _remark(attempt: Attempt) -> Text:
    remark = Text(" ")
    if attempt.cold is not None:
        ahead = attempt.cold and attempt.was_prewarmed
        remark.append(
            "ahead" if ahead else "cold" if attempt.cold else "warm",
            style=Stage.PREWARM.colour if ahead else Stage.COLD_START.colour if attempt.cold else "dim",
        )
    elif attempt.state in ACTIVE_STATES or attempt.state is None:
        remark.append(attempt.state or "not yet", style="cyan")
    if attempt.state not in {"success", None} and attempt.state not in ACTIVE_STATES:
        remark.append(f" {attempt.state}", style=_STATE_STYLES.get(attempt.state or "", "yellow"))
    return remark


def _gap_row(run: Run, scale: _Scale, name_width: int) -> Text:
    row = Text(f"{_short(_GAP_NAME, name_width):{name_width}} ", style="dim")
    row.append_text(scale.gap_bar())
    row.append(f"{'':12}{milliseconds(sum(end - begin for begin, end in run.gaps())):>13}", style="default")
    return row


def _legend(run: Run, *, colour: bool) -> Iterator[Text]:
    for stage, seconds in run.sums().items():
        sign = "█" if colour else stage.sign
        yield Text.assemble((sign * 2, stage.colour), f" {stage.title:34}", f"{milliseconds(seconds):>12}")
    gaps = sum(end - begin for begin, end in run.gaps())
    yield Text.assemble((_GAP_SIGN * 2, _GAP_STYLE), f" {'scheduler, no task on its way':34}{milliseconds(gaps):>12}")
    cold = sum(attempt.cold is True for attempt in run.attempts)
    warm = sum(attempt.cold is False for attempt in run.attempts)
    yield Text(f"Sums over {len(run.attempts)} attempts, which may overlap; {cold} cold, {warm} warm.", style="dim")


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
