"""Passive upstream states."""

from __future__ import annotations

import pytest

from proxy.upstreams.health import UpstreamStates


class SteppedClock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.ms = 1_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000


def test_upstream_never_called_has_zeros():
    """The admin listener may ask for any configured upstream."""
    described = UpstreamStates(SteppedClock()).describe("new")
    assert described["outcomes"] == {} and described["last_ok_ms"] is None and described["in_flight"] == 0


def test_outcomes_are_counted_apart_and_failures_in_a_row_end_with_an_answer():
    """Counters by outcome; last error and last ok with their times."""
    clock = SteppedClock()
    states = UpstreamStates(clock, lambda name: 7 if name == "a" else 0)
    for outcome in ("served", "connect_failed", "connect_failed"):
        clock.ms += 10
        states.record("a", outcome, 0.5)
    described = states.describe("a")
    assert described["outcomes"] == {"served": 1, "connect_failed": 2}
    assert (described["last_ok_ms"], described["last_error_ms"]) == (1010, 1030)
    assert (described["last_error"], described["failures_in_a_row"]) == ("connect_failed", 2)
    assert described["in_flight"] == 7
    states.record("a", "served", 0.5)
    assert states.describe("a")["failures_in_a_row"] == 0
    assert states.describe("b")["outcomes"] == {}


def test_latency_is_a_moving_average_of_served_calls():
    """Failures do not move it; one slow call moves it by a tenth."""
    states = UpstreamStates(SteppedClock())
    states.record("a", "served", 1.0)
    states.record("a", "first_byte_timeout", 120.0)
    states.record("a", "served", 2.0)
    assert states.describe("a")["latency_seconds"] == pytest.approx(1.1)
