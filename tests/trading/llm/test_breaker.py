"""A model that keeps failing is left alone for a while."""

from __future__ import annotations

import pytest

from trading.llm.breaker import REST, TRIAL, WITHIN, Breakers


class HandClock:
    """Monotonic seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> HandClock:
    """A clock that stands still."""
    return HandClock()


@pytest.fixture
def breakers(clock: HandClock) -> Breakers:
    """Nothing has failed yet."""
    return Breakers(clock)


def open_up(breakers: Breakers, model: str = "m") -> None:
    """Three failures in a row."""
    for _ in range(3):
        breakers.failed(model)


def test_three_failures_open_it_for_five_minutes(breakers: Breakers, clock: HandClock) -> None:
    """Two are not enough, and other models are not touched."""
    breakers.failed("m")
    breakers.failed("m")
    assert breakers.blocked("m") is None
    clock.now += WITHIN
    breakers.failed("m")
    assert breakers.blocked("m") == REST
    clock.now += 100
    assert breakers.blocked("m") == REST - 100
    assert breakers.blocked("another") is None


def test_failures_far_apart_leave_it_closed(breakers: Breakers, clock: HandClock) -> None:
    """Only the last three count, and only within five minutes."""
    for _ in range(10):
        breakers.failed("m")
        breakers.failed("m")
        clock.now += WITHIN + 1
        assert breakers.blocked("m") is None


def test_a_success_forgets_the_failures_before(breakers: Breakers) -> None:
    """Two failures, a success, two failures: closed."""
    for _ in range(2):
        breakers.failed("m")
        breakers.failed("m")
        breakers.succeeded("m")
    breakers.failed("m")
    breakers.failed("m")
    assert breakers.blocked("m") is None


def test_one_question_tries_it_and_a_success_closes_it(breakers: Breakers, clock: HandClock) -> None:
    """While the trial runs, everybody else waits."""
    open_up(breakers)
    clock.now += REST
    assert breakers.blocked("m") is None
    assert breakers.blocked("m") == TRIAL
    breakers.succeeded("m")
    assert breakers.blocked("m") is None
    assert breakers.blocked("m") is None


def test_a_trial_that_fails_opens_it_again(breakers: Breakers, clock: HandClock) -> None:
    """One failure suffices then, however long ago the others were."""
    open_up(breakers)
    clock.now += REST + WITHIN
    assert breakers.blocked("m") is None
    breakers.failed("m")
    assert breakers.blocked("m") == REST


def test_a_trial_without_an_end_is_made_anew(breakers: Breakers, clock: HandClock) -> None:
    """Its question was cancelled, or found no key: the model is not left alone for ever."""
    open_up(breakers)
    clock.now += REST
    assert breakers.blocked("m") is None
    clock.now += TRIAL
    assert breakers.blocked("m") is None
    assert breakers.blocked("m") == TRIAL
