"""A run as a timeline: attempts at tasks, each cut into stages, and what is left between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["ACTIVE_STATES", "Attempt", "Run", "Segment", "Stage"]

ACTIVE_STATES: Final = frozenset({"scheduled", "queued", "running", "restarting", "deferred", "up_for_reschedule"})
"""States in which a task instance still goes on."""


class _Look(NamedTuple):
    key: str
    title: str
    colour: str
    sign: str


class Stage(Enum):
    """A stretch of a task's way, with its looks."""

    WAITING = _Look("waiting", "scheduled, waiting to be queued", "#aab3c2", "·")
    DISPATCH = _Look("dispatch", "queued, being sent", "#79b0e6", "-")
    COLD_START = _Look("cold_start", "sent, worker starting (cold)", "#8a5cc2", "#")
    TRANSIT = _Look("transit", "sent, on its way (warm)", "#2b6cb0", "=")
    PREPARE = _Look("prepare", "received, process starting", "#e3a82b", "+")
    TASK = _Look("task", "task process", "#2f9e6e", "█")
    ANSWER = _Look("answer", "finished, answer on its way", "#a5d065", "~")
    APPLY = _Look("apply", "answer being applied", "#dd7444", "o")
    PREWARM = _Look("prewarm", "worker started ahead (pre-warm)", "#d3b8ee", "^")
    OPAQUE = _Look("running", "running, no timings recorded", "#8fa3a0", "▒")

    @property
    def key(self) -> str:
        """Its name in JSON."""
        return self.value.key

    @property
    def title(self) -> str:
        """What the legend says."""
        return self.value.title

    @property
    def colour(self) -> str:
        """As `#rrggbb`."""
        return self.value.colour

    @property
    def sign(self) -> str:
        """What stands for it where there are no colours."""
        return self.value.sign


class Segment(NamedTuple):
    """One stage of one attempt; Unix seconds."""

    stage: Stage
    begin: float
    end: float


@dataclass(frozen=True)
class Attempt:
    """One try of one task instance. Times are Unix seconds, None where nothing is known.

    Attributes:
        task_id: The task.
        map_index: Index of a mapped instance, else -1.
        try_number: From 1; 0 for a task that never got so far.
        state: Airflow's state, None when it has none yet.
        scheduled: The scheduler found the task ready.
        queued: The scheduler gave it to the executor.
        start: Airflow's start date.
        end: Airflow's end date.
        stages: The moments that the dispatcher noted, by name.
        cold: Whether the worker started for it, if known.
        worker: The worker's name.
        service: The Knative Service's name.
        prewarm: When its service was nudged ahead of it, and when it had a pod, None where that is not known.
        label: What Airflow shows for a mapped instance, where the DAG sets it.
    """

    task_id: str
    map_index: int = -1
    try_number: int = 1
    state: str | None = None
    scheduled: float | None = None
    queued: float | None = None
    start: float | None = None
    end: float | None = None
    stages: Mapping[str, float] = field(default_factory=dict)
    cold: bool | None = None
    worker: str | None = None
    service: str | None = None
    prewarm: tuple[float, float | None] | None = None
    label: str | None = None

    @property
    def name(self) -> str:
        """Task id, map index and, from the second one on, the try."""
        index = "" if self.map_index < 0 else f" [{self.label or self.map_index}]"
        attempt = f" try {self.try_number}" if self.try_number > 1 else ""
        return f"{self.task_id}{index}{attempt}"

    @property
    def begin(self) -> float | None:
        """The first moment that is known."""
        known = (self.scheduled, self.queued, self.start, *self.stages.values())
        return min((moment for moment in known if moment is not None), default=None)

    @property
    def was_prewarmed(self) -> bool:
        """Whether its service had a pod before its request came."""
        ready = self.prewarm and self.prewarm[1]
        return ready is not None and ready <= self.stages.get("received", float("-inf"))

    def prewarming(self) -> Segment | None:
        """The stretch in which its worker started ahead of its request, beside the stages."""
        if self.prewarm is None:
            return None
        begin, ready = self.prewarm
        ends = [moment for moment in (ready, self.stages.get("received")) if moment is not None]
        return Segment(Stage.PREWARM, begin, max(begin, min(ends, default=begin)))

    def segments(self, now: float) -> list[Segment]:
        """The stages in their order, without gaps or overlaps.

        Clocks of different machines differ: a moment that lies before the one that it follows counts as equal to it.

        Args:
            now: Where a stage ends that still goes on.
        """
        if not self.stages and self.scheduled is None and self.queued is None:
            # Skipped, without its upstream, or empty: Airflow gives it a start and an end that mean nothing.
            return []
        marks = list(self._marks(now))
        found: list[Segment] = []
        for (stage, begin), (_, end) in pairwise(marks):
            begins = max(begin, found[-1].end) if found else begin
            ends = max(end, begins)
            if stage is not None:
                found.append(Segment(stage, begins, ends))
        return found

    def _marks(self, now: float) -> Iterator[tuple[Stage | None, float]]:
        """Each known moment with the stage that begins at it; the last one begins none."""
        goes_on = self.state in ACTIVE_STATES
        stages = self.stages
        to_worker = Stage.COLD_START if self.cold else Stage.TRANSIT
        moments: list[tuple[Stage | None, float | None]]
        if stages:
            moments = [
                (Stage.WAITING, self.scheduled),
                (Stage.DISPATCH, stages.get("queued", self.queued)),
                (to_worker, stages.get("sent")),
                (Stage.PREPARE, stages.get("received")),
                (Stage.TASK, stages.get("started")),
                (Stage.ANSWER, stages.get("finished")),
                (Stage.APPLY, stages.get("ended")),
                (None, stages.get("applied", self.end)),
            ]
        else:
            moments = [
                (Stage.WAITING, self.scheduled),
                (Stage.DISPATCH, self.queued),
                (Stage.OPAQUE, self.start),
                (None, self.end),
            ]
        if goes_on:
            moments[-1] = (None, now)
        yield from ((stage, moment) for stage, moment in moments if moment is not None)


@dataclass(frozen=True)
class Run:
    """A run of a DAG. Times are Unix seconds.

    Attributes:
        dag_id: The DAG.
        run_id: The run.
        state: Airflow's state of the run.
        queued: When the run was made.
        start: When the scheduler took it up.
        end: When it ended, None while it goes on.
        attempts: Every try of every task instance, in the order in which they began.
        now: When this was looked at.
    """

    dag_id: str
    run_id: str
    state: str
    queued: float
    start: float | None
    end: float | None
    attempts: tuple[Attempt, ...]
    now: float

    @property
    def until(self) -> float:
        """Where the timeline ends: the run's end or, if it is later, the end of its last stage, or now."""
        ends = [segment.end for attempt in self.attempts for segment in attempt.segments(self.now)]
        return max([self.now if self.end is None else self.end, self.queued, *ends])

    @property
    def total(self) -> float:
        """Seconds from the run's making to its end."""
        return (self.now if self.end is None else self.end) - self.queued

    def gaps(self) -> list[tuple[float, float]]:
        """The stretches of the run in which no task was on its way: the scheduler's own time."""
        return list(_uncovered(self.queued, self.now if self.end is None else self.end, self._covered()))

    def _covered(self) -> Iterator[tuple[float, float]]:
        for attempt in self.attempts:
            segments = attempt.segments(self.now)
            if segments:
                yield segments[0].begin, segments[-1].end

    def sums(self) -> dict[Stage, float]:
        """Seconds of each stage, over all attempts; stages that do not occur are left out."""
        found: dict[Stage, float] = {}
        for attempt in self.attempts:
            ahead = attempt.prewarming()
            for segment in [*attempt.segments(self.now), *([ahead] if ahead else [])]:
                found[segment.stage] = found.get(segment.stage, 0.0) + segment.end - segment.begin
        return {stage: found[stage] for stage in Stage if stage in found}

    def as_json(self) -> dict[str, Any]:
        """Everything, with moments in milliseconds after the run was made."""

        def ms(moment: float | None) -> float | None:
            return None if moment is None else round((moment - self.queued) * 1000, 3)

        return {
            "dag_id": self.dag_id,
            "run_id": self.run_id,
            "state": self.state,
            "queued_at": self.queued,
            "start_ms": ms(self.start),
            "end_ms": ms(self.end),
            "total_ms": round(self.total * 1000, 3),
            "scheduler_ms": round(sum(end - begin for begin, end in self.gaps()) * 1000, 3),
            "gaps": [{"begin_ms": ms(begin), "end_ms": ms(end)} for begin, end in self.gaps()],
            "stages_ms": {stage.key: round(seconds * 1000, 3) for stage, seconds in self.sums().items()},
            "tasks": [
                {
                    "task_id": attempt.task_id,
                    "map_index": attempt.map_index,
                    "try_number": attempt.try_number,
                    "state": attempt.state,
                    "cold": attempt.cold,
                    "worker": attempt.worker,
                    "service": attempt.service,
                    "prewarm_ms": attempt.prewarm and [ms(moment) for moment in attempt.prewarm],
                    "scheduled_ms": ms(attempt.scheduled),
                    "queued_ms": ms(attempt.queued),
                    "start_ms": ms(attempt.start),
                    "end_ms": ms(attempt.end),
                    "moments_ms": {name: ms(moment) for name, moment in attempt.stages.items()},
                    "stages": [
                        {"stage": segment.stage.key, "begin_ms": ms(segment.begin), "end_ms": ms(segment.end)}
                        for segment in attempt.segments(self.now)
                    ],
                }
                for attempt in self.attempts
            ],
        }


def _uncovered(begin: float, end: float, covered: Iterable[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    position = begin
    for first, last in sorted(covered):
        if first > position:
            yield position, min(first, end)
        position = max(position, last)
        if position >= end:
            return
    if end > position:
        yield position, end
