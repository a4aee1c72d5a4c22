"""The circuit breaker as a state machine."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.upstreams.breakers import REFUSED, WINDOW_CALLS_MAX, BreakerSettings, CircuitBreaker, CircuitState

OPEN_SECONDS = 60.0


def fail(breaker: CircuitBreaker, times: int, now: float = 0.0, retry_after: float | None = None) -> None:
    """So many calls, one after the other."""
    for _ in range(times):
        breaker.failed(breaker.admit(now), now, retry_after)


def opened(now: float = 0.0) -> CircuitBreaker:
    """One that has just opened."""
    breaker = CircuitBreaker(BreakerSettings())
    fail(breaker, 5, now)
    return breaker


def test_one_odd_failure_opens_nothing() -> None:
    """Nor do a few in a row, again and again, between which more is served."""
    breaker = CircuitBreaker(BreakerSettings())
    for _ in range(10):
        fail(breaker, 3)
        for _ in range(5):
            breaker.succeeded(breaker.admit(0.0), 0.0)
    assert (breaker.state, breaker.openings) == (CircuitState.CLOSED, 0)


def test_failures_in_a_row_open_it_for_its_time() -> None:
    """Nobody is let through before, and one call after."""
    breaker = opened(now=100.0)
    assert (breaker.state, breaker.openings) == (CircuitState.OPEN, 1)
    assert (breaker.admit(100.0), breaker.admit(159.9)) == (REFUSED, REFUSED)
    assert (breaker.seconds_left(100.0), breaker.ready(159.9), breaker.ready(160.0)) == (60.0, False, True)
    assert breaker.admit(160.0) != REFUSED
    assert (breaker.state, breaker.ready(160.0), breaker.admit(1000.0)) == (CircuitState.HALF_OPEN, False, REFUSED)


def test_half_the_calls_failing_opens_it() -> None:
    """Every other call: never five in a row, and of no use to anybody."""
    breaker = CircuitBreaker(BreakerSettings())
    calls = 0
    while breaker.state is CircuitState.CLOSED:
        permit = breaker.admit(0.0)
        if calls % 2:
            breaker.failed(permit, 0.0)
        else:
            breaker.succeeded(permit, 0.0)
        calls += 1
        assert calls < WINDOW_CALLS_MAX
    assert calls == 20


def test_failures_of_long_ago_do_not_count_towards_the_share() -> None:
    """A quiet minute begins a new window."""
    breaker = CircuitBreaker(BreakerSettings(failures_in_a_row=100))
    fail(breaker, 19, now=0.0)
    fail(breaker, 19, now=61.0)
    assert breaker.state is CircuitState.CLOSED
    fail(breaker, 1, now=62.0)
    assert breaker.state is CircuitState.OPEN


def test_trial_that_succeeds_closes_it() -> None:
    """And everything counted before is forgotten."""
    breaker = opened()
    breaker.succeeded(breaker.admit(OPEN_SECONDS), OPEN_SECONDS)
    assert breaker.state is CircuitState.CLOSED
    fail(breaker, 4, now=OPEN_SECONDS)
    assert breaker.state is CircuitState.CLOSED


def test_trial_that_fails_opens_it_again_for_its_whole_time() -> None:
    """From the failure on."""
    breaker = opened()
    breaker.failed(breaker.admit(OPEN_SECONDS), OPEN_SECONDS + 5)
    assert (breaker.state, breaker.openings, breaker.seconds_left(65.0)) == (CircuitState.OPEN, 2, 60.0)


def test_cancelled_trial_gives_its_place_back() -> None:
    """The next one tries; giving back twice takes nothing from it."""
    breaker = opened()
    first = breaker.admit(OPEN_SECONDS)
    breaker.give_back(first)
    second = breaker.admit(OPEN_SECONDS)
    breaker.give_back(first)
    assert second != REFUSED
    assert breaker.admit(OPEN_SECONDS) == REFUSED
    breaker.succeeded(first, OPEN_SECONDS)
    assert breaker.state is CircuitState.HALF_OPEN
    breaker.succeeded(second, OPEN_SECONDS)
    assert breaker.state is CircuitState.CLOSED


def test_calls_under_way_at_the_opening_neither_close_nor_prolong_it() -> None:
    """Their outcome is about the time before."""
    breaker = CircuitBreaker(BreakerSettings())
    early = breaker.admit(0.0)
    fail(breaker, 5, now=1.0)
    breaker.succeeded(early, 2.0)
    breaker.failed(early, 2.0)
    assert (breaker.state, breaker.openings, breaker.seconds_left(2.0)) == (CircuitState.OPEN, 1, 59.0)
    trial = breaker.admit(61.0)
    breaker.succeeded(early, 61.0)
    assert breaker.state is CircuitState.HALF_OPEN
    breaker.succeeded(trial, 61.0)
    assert breaker.state is CircuitState.CLOSED


@pytest.mark.parametrize(("asked", "seconds"), [(7.0, 7.0), (10_000.0, 600.0)])
def test_one_429_with_a_time_opens_it_for_that_time(asked: float, seconds: float) -> None:
    """Up to what is honoured, and it says so."""
    breaker = CircuitBreaker(BreakerSettings())
    breaker.limit(breaker.admit(0.0), 0.0, asked)
    assert (breaker.state, breaker.seconds_left(0.0), breaker.limited) == (CircuitState.OPEN, seconds, True)


def test_429_counts_as_a_failure_where_no_time_is_honoured() -> None:
    """One alone opens nothing then."""
    breaker = CircuitBreaker(BreakerSettings(retry_after_seconds_max=0.0))
    breaker.limit(breaker.admit(0.0), 0.0, 30.0)
    assert breaker.state is CircuitState.CLOSED
    fail(breaker, 4)
    assert (breaker.state, breaker.seconds_left(0.0), breaker.limited) == (CircuitState.OPEN, 60.0, False)


def test_failing_upstream_is_left_alone_as_long_as_it_asks() -> None:
    """Retry-After of the failure that opened it stands in place of the default."""
    breaker = CircuitBreaker(BreakerSettings())
    fail(breaker, 5, retry_after=90.0)
    assert breaker.seconds_left(0.0) == 90.0


def test_probe_brings_the_trial_forward_but_not_against_the_upstreams_own_word() -> None:
    """What asked for a minute by 429 is not called before."""
    breaker = opened()
    breaker.allow_trial(3.0)
    assert breaker.admit(3.0) != REFUSED
    limited = CircuitBreaker(BreakerSettings())
    limited.limit(limited.admit(0.0), 0.0, 30.0)
    limited.allow_trial(3.0)
    assert limited.admit(3.0) == REFUSED


def test_other_settings_count_from_the_next_outcome_on() -> None:
    """A reload changes no circuit by itself."""
    breaker = CircuitBreaker(BreakerSettings())
    fail(breaker, 3)
    breaker.use(BreakerSettings(failures_in_a_row=2))
    assert breaker.state is CircuitState.CLOSED
    fail(breaker, 1)
    assert breaker.state is CircuitState.OPEN


class Breaker(RuleBasedStateMachine):
    """Any order of calls, outcomes, cancellations and waits."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = CircuitBreaker(BreakerSettings(failures_in_a_row=3, window_calls_min=6, open_seconds=10.0))
        self.now = 0.0
        self.calls: list[tuple[int, CircuitState]] = []
        """Permits that are out, and the state in which each was given."""
        self.trial: int | None = None

    @rule(seconds=st.sampled_from([0.0, 1.0, 9.9, 10.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def call(self) -> None:
        ready = self.breaker.ready(self.now)
        before, due = self.breaker.state, self.breaker.due
        permit = self.breaker.admit(self.now)
        assert (permit != REFUSED) == ready
        if permit == REFUSED:
            assert before is not CircuitState.CLOSED
            return
        assert before is not CircuitState.OPEN or self.now >= due
        self.calls.append((permit, self.breaker.state))
        if self.breaker.state is CircuitState.HALF_OPEN:
            assert self.trial is None, "two trials at once"
            self.trial = permit

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), outcome=st.sampled_from(["succeeded", "failed", "limited", "given back"]))
    def end(self, data: st.DataObject, outcome: str) -> None:
        permit, given_in = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        before = self.breaker.state
        if outcome == "succeeded":
            self.breaker.succeeded(permit, self.now)
        elif outcome == "failed":
            self.breaker.failed(permit, self.now)
        elif outcome == "limited":
            self.breaker.limit(permit, self.now, 5.0)
        else:
            self.breaker.give_back(permit)
        of_trial = permit == self.trial
        if before is CircuitState.HALF_OPEN:
            expected = {"succeeded": CircuitState.CLOSED, "given back": before}.get(outcome, CircuitState.OPEN)
            assert self.breaker.state is (expected if of_trial else before)
        elif before is CircuitState.OPEN:
            assert self.breaker.state is before
        else:
            assert given_in is not CircuitState.HALF_OPEN or self.breaker.state is CircuitState.CLOSED
        if of_trial:
            self.trial = None

    @precondition(lambda self: self.breaker.state is CircuitState.OPEN)
    @rule()
    def probe(self) -> None:
        self.breaker.allow_trial(self.now)

    @invariant()
    def a_closed_or_open_circuit_has_no_trial(self) -> None:
        assert self.trial is None or self.breaker.state is CircuitState.HALF_OPEN


Breaker.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBreaker = Breaker.TestCase
