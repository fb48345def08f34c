"""When a run that is waited for is looked at.

Airflow offers `GET .../dagRuns/{run}/wait`, which looks at the run every `interval` seconds, for as long as the run
takes, and ends with what the run returned. One look costs its API server 2-3 ms of CPU time; asking for the run anew
each time would cost it 11 ms, and the value one call more. So the gateway waits there. The endpoint takes any interval
above 0 but never changes it, so the gateway ends a wait and begins another one when another interval has become right:

- The interval grows with the age of the run: a look that comes late adds at most a small share to the run's time,
  and a run of an hour is not looked at a hundred times a second.
- All waits of the process share `rate` looks a second, so that many calls at once do not take the API server's time
  from the scheduler that is to finish them.
- The first look waits for most of the time that the workflow's quickest recent run took.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

__all__ = ["Pace"]

_SHARE: Final = 0.02
_FIRST_LEASE: Final = 0.5
_REMEMBERED_RUNS: Final = 8
_REMEMBERED_WORKFLOWS: Final = 1000
_HEAD_START_SHARE: Final = 0.75
# Asking for a wait takes Airflow about this long until its first look.
_ASKING: Final = 0.03
# More would answer a run late that ends much earlier than usual, such as one that fails at once.
_LONGEST_HEAD_START: Final = 1.0


class Pace:
    """The intervals of all waits of one process. All times are seconds.

    Args:
        shortest: Shortest interval.
        longest: Longest interval, unless so many runs are waited for that the rate asks for more.
        rate: Looks a second, over all waits.
    """

    def __init__(self, *, shortest: float, longest: float, rate: float) -> None:
        self._shortest = shortest
        self._longest = longest
        self._rate = rate
        self._durations: OrderedDict[str, deque[float]] = OrderedDict()
        self.waiting = 0
        """How many runs are being looked at now."""

    def interval(self, age: float) -> float:
        """Return the time between two looks at a run of this age."""
        return max(self._shortest, min(self._longest, age * _SHARE), self.waiting / self._rate)

    def lease(self, age: float) -> float:
        """Return for how long that interval stays right."""
        return max(_FIRST_LEASE, age)

    def head_start(self, dag_id: str) -> float:
        """Return for how long a new run of this DAG need not be looked at."""
        durations = self._durations.get(dag_id)
        if durations is None:
            return 0.0
        return max(0.0, min(_HEAD_START_SHARE * min(durations) - _ASKING, _LONGEST_HEAD_START))

    def learn(self, dag_id: str, duration: float) -> None:
        """Take note of how long a run took that succeeded."""
        durations = self._durations.get(dag_id)
        if durations is None:
            durations = self._durations[dag_id] = deque(maxlen=_REMEMBERED_RUNS)
            if len(self._durations) > _REMEMBERED_WORKFLOWS:
                self._durations.popitem(last=False)
        self._durations.move_to_end(dag_id)
        durations.append(duration)
