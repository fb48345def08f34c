from __future__ import annotations

import pytest

from airflow_knative.executor.waiting import Waiting


def _requests(waiting: Waiting, took: float, timeout: float = 600.0) -> tuple[int, float]:
    """Return how many requests that took so long are sent again, and the seconds in which that is."""
    count, seconds = 0, took
    while (pause := waiting.next(took, timeout=timeout)) is not None and count < 1000:
        count += 1
        seconds += pause + took
    return count, seconds


def test_what_fails_at_once_is_sent_again_ever_more_rarely_while_the_patience_lasts() -> None:
    count, seconds = _requests(Waiting(120.0), 0.01)
    assert 20 < count < 50
    assert 110 < seconds <= 121


def test_requests_count_as_well_as_the_pauses_between_them() -> None:
    count, seconds = _requests(Waiting(120.0), 50.0)
    assert count == 2
    assert seconds > 150


@pytest.mark.parametrize("held", [599.0, 600.0, 601.0])
def test_of_requests_that_are_held_for_a_services_timeout_the_second_is_the_last(held: float) -> None:
    waiting = Waiting(120.0)
    assert waiting.is_long(held)
    assert _requests(waiting, held)[0] == 1
    assert waiting.held == 2 * held


def test_after_a_request_that_was_held_the_patience_begins_anew() -> None:
    waiting = Waiting(120.0)
    assert waiting.next(100.0, timeout=600.0) is not None
    assert waiting.next(600.0, timeout=600.0) is not None
    assert waiting.next(100.0, timeout=600.0) is not None


def test_who_has_only_to_wait_waits_without_end() -> None:
    waiting = Waiting(120.0)
    for _ in range(100):
        waiting.begin_anew()
        assert waiting.next(0.0, timeout=600.0) is not None
