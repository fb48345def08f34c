"""Drawing a timeline as an SVG that needs nothing else: no script, no font, no style sheet."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape, quoteattr

from airflow_knative.cli.timeline.model import ACTIVE_STATES, Attempt, Run, Stage
from airflow_knative.cli.timeline.terminal import milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["render"]

_WIDTH: Final = 1100
_MARGIN: Final = 24
_ROW: Final = 26
_BAR: Final = 16
_AHEAD: Final = 5
_HEAD: Final = 96
_NUMBERS: Final = 150
_NAME_SIGN: Final = 7.1
_MIN_NAME: Final = 150
_MAX_NAME: Final = 300
_LEGEND_COLUMNS: Final = 3
_LEGEND_ROW: Final = 22
_TICKS: Final = 8
_GAP_COLOUR: Final = "#e9ecf1"
_STATE_COLOURS: Final = {"success": "#2f9e6e", "failed": "#c53030", "upstream_failed": "#dd7444", "running": "#2b6cb0"}
_STYLE: Final = (
    "text{font-family:system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;font-size:12.5px;fill:#1f2733}"
    ".title{font-size:17px;font-weight:600}.soft{fill:#667085}.small{font-size:11.5px}"
    ".num{text-anchor:end;font-variant-numeric:tabular-nums}.mid{text-anchor:middle}"
)


def render(run: Run) -> str:
    """Draw a run: a bar for each attempt, the scheduler's gaps as bands behind them, a scale and a legend."""
    return "\n".join(_Drawing(run).parts()) + "\n"


class _Drawing:
    def __init__(self, run: Run) -> None:
        self.run = run
        longest = max((len(attempt.name) for attempt in run.attempts), default=0)
        self.names = min(max(longest * _NAME_SIGN + 12, _MIN_NAME), _MAX_NAME)
        self.left = _MARGIN + self.names
        self.right = _WIDTH - _MARGIN - _NUMBERS
        self.span = max(run.until - run.queued, 1e-6)
        self.bottom = _HEAD + max(len(run.attempts), 1) * _ROW + 6
        self.sums = run.sums()
        entries = len(self.sums) + 1
        self.height = self.bottom + 44 + math.ceil(entries / _LEGEND_COLUMNS) * _LEGEND_ROW + _MARGIN

    def x(self, moment: float) -> float:
        share = (moment - self.run.queued) / self.span
        return round(self.left + min(max(share, 0.0), 1.0) * (self.right - self.left), 2)

    def parts(self) -> Iterator[str]:
        label = f"Timeline of {self.run.dag_id}, run {self.run.run_id}: {milliseconds(self.run.total)}"
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {self.height}" width="{_WIDTH}" '
            f'height="{self.height}" role="img" aria-label={quoteattr(label)}>'
        )
        yield f"<title>{escape(label)}</title><style>{_STYLE}</style>"
        yield f'<rect width="{_WIDTH}" height="{self.height}" rx="10" fill="#ffffff"/>'
        yield from self._head()
        yield from self._gaps()
        yield from self._scale()
        for number, attempt in enumerate(self.run.attempts):
            yield from self._row(attempt, _HEAD + number * _ROW)
        yield from self._legend()
        yield "</svg>"

    def _head(self) -> Iterator[str]:
        run = self.run
        colour = _STATE_COLOURS.get(run.state, "#667085")
        total = f"{milliseconds(run.total)}{' so far' if run.end is None else ''}"
        yield f'<text class="title" x="{_MARGIN}" y="36">{escape(run.dag_id)}</text>'
        yield f'<text class="soft" x="{_MARGIN}" y="57">{escape(run.run_id)}</text>'
        yield f'<text class="title num" x="{_WIDTH - _MARGIN}" y="36">{total}</text>'
        yield (
            f'<text class="num" x="{_WIDTH - _MARGIN}" y="57" style="fill:{colour};font-weight:600">'
            f"{escape(run.state)}</text>"
        )

    def _gaps(self) -> Iterator[str]:
        for begin, end in self.run.gaps():
            left, right = self.x(begin), self.x(end)
            text = f"scheduler: {milliseconds(end - begin)}"
            yield (
                f'<rect x="{left}" y="{_HEAD - 6}" width="{max(right - left, 0.5):.2f}" '
                f'height="{self.bottom - _HEAD + 6}" fill="{_GAP_COLOUR}"><title>{text}</title></rect>'
            )

    def _scale(self) -> Iterator[str]:
        step = _nice(self.span / _TICKS)
        digits = max(0, -math.floor(math.log10(step * 1000)))
        for number in range(int(self.span / step) + 1):
            x = self.x(self.run.queued + number * step)
            text = f"{number * step * 1000:,.{digits}f}"
            yield f'<path d="M{x} {_HEAD - 6}V{self.bottom}" stroke="#d5dae2" stroke-width="1"/>'
            yield f'<text class="soft small mid" x="{x}" y="{_HEAD - 13}">{text}</text>'
        yield f'<text class="soft small" x="{_MARGIN}" y="{_HEAD - 13}">time in ms</text>'
        right = _WIDTH - _MARGIN
        yield f'<text class="soft small num" x="{right - 50}" y="{_HEAD - 13}">took</text>'

    def _row(self, attempt: Attempt, top: float) -> Iterator[str]:
        middle = top + _ROW / 2 + 4.5
        segments = attempt.segments(self.run.now)
        limit = int((self.names - 8) / _NAME_SIGN)
        name = attempt.name if len(attempt.name) <= limit else f"{attempt.name[: limit - 1]}…"
        yield f"<g><title>{escape(self._tip(attempt))}</title>"
        yield f'<text x="{_MARGIN}" y="{middle}">{escape(name)}</text>'
        y = top + (_ROW - _BAR) / 2
        if (ahead := attempt.prewarming()) is not None:
            left, right = self.x(ahead.begin), self.x(ahead.end)
            yield (
                f'<rect x="{left}" y="{y + _BAR - _AHEAD}" width="{max(right - left, 1):.2f}" height="{_AHEAD}" '
                f'fill="{ahead.stage.colour}">'
                f"<title>{escape(ahead.stage.title)}: {milliseconds(ahead.end - ahead.begin)}</title></rect>"
            )
        for segment in segments:
            left, right = self.x(segment.begin), self.x(segment.end)
            if right > left:
                yield (
                    f'<rect x="{left}" y="{y}" width="{right - left:.2f}" height="{_BAR}" '
                    f'fill="{segment.stage.colour}">'
                    f"<title>{escape(segment.stage.title)}: {milliseconds(segment.end - segment.begin)}</title></rect>"
                )
        if segments and attempt.state in {"failed", "upstream_failed", "up_for_retry"}:
            left, right = self.x(segments[0].begin), self.x(segments[-1].end)
            yield (
                f'<rect x="{left - 1}" y="{y - 1}" width="{max(right - left, 1) + 2:.2f}" height="{_BAR + 2}" '
                f'fill="none" stroke="{_STATE_COLOURS["failed"]}" stroke-width="1.5"/>'
            )
        right = _WIDTH - _MARGIN
        if segments:
            took = milliseconds(segments[-1].end - segments[0].begin)
            yield f'<text class="num" x="{right - 50}" y="{middle}">{took}</text>'
        text, colour = _remark(attempt)
        yield f'<text class="num small" x="{right}" y="{middle}" style="fill:{colour}">{escape(text)}</text></g>'

    def _tip(self, attempt: Attempt) -> str:
        facts = [attempt.name, attempt.state or "not begun", attempt.service or "", attempt.worker or ""]
        return " · ".join(fact for fact in facts if fact)

    def _legend(self) -> Iterator[str]:
        gaps = sum(end - begin for begin, end in self.run.gaps())
        entries = [(stage.colour, stage.title, seconds) for stage, seconds in self.sums.items()]
        entries.append((_GAP_COLOUR, "scheduler, no task on its way", gaps))
        top = self.bottom + 30
        width = (_WIDTH - 2 * _MARGIN) / _LEGEND_COLUMNS
        rows = math.ceil(len(entries) / _LEGEND_COLUMNS)
        for number, (colour, title, seconds) in enumerate(entries):
            x, y = _MARGIN + number // rows * width, top + number % rows * _LEGEND_ROW
            yield f'<rect x="{x:.1f}" y="{y}" width="13" height="13" rx="2" fill="{colour}" stroke="#00000022"/>'
            yield f'<text class="small" x="{x + 20:.1f}" y="{y + 11}">{title}</text>'
            yield f'<text class="small num soft" x="{x + width - 28:.1f}" y="{y + 11}">{milliseconds(seconds)}</text>'
        y = top + rows * _LEGEND_ROW + 12
        cold = sum(attempt.cold is True for attempt in self.run.attempts)
        warm = sum(attempt.cold is False for attempt in self.run.attempts)
        text = f"Sums over {len(self.run.attempts)} attempts, which may overlap; {cold} cold, {warm} warm."
        yield f'<text class="small soft" x="{_MARGIN}" y="{y}">{text}</text>'


def _remark(attempt: Attempt) -> tuple[str, str]:
    if attempt.state is None or attempt.state in ACTIVE_STATES:
        return attempt.state or "not yet", _STATE_COLOURS["running"]
    if attempt.state != "success":
        return attempt.state.replace("upstream_failed", "upstream").replace("up_for_retry", "retry"), "#c53030"
    if attempt.cold is None:
        return "", "#667085"
    if attempt.cold and attempt.was_prewarmed:
        return "ahead", Stage.PREWARM.colour
    return ("cold", Stage.COLD_START.colour) if attempt.cold else ("warm", "#667085")


def _nice(rough: float) -> float:
    """The nearest step above of the kind 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
