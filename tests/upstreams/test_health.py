"""Passive upstream states."""

from __future__ import annotations

import pytest

from proxy.upstreams import health
from proxy.upstreams.breakers import BreakerSettings, CircuitState
from proxy.upstreams.health import FAILURE_SECONDS, UpstreamStates, Verdict


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


def test_each_pair_has_its_own_circuit_shown_under_its_upstream():
    """One model of an upstream may be down while another serves."""
    clock = SteppedClock()
    states = UpstreamStates(clock)
    dead, well = states.candidate("a", "dead"), states.candidate("a", "well")
    for _ in range(5):
        left = dead.conclude(dead.breaker.admit(1.0), Verdict.FAILED, now=1.0, took=0.01)
    assert left is CircuitState.CLOSED
    assert well.conclude(well.breaker.admit(1.0), Verdict.HEALTHY, now=1.0, took=0.5) is None
    circuits = {circuit["model"]: circuit for circuit in states.describe("a")["circuits"]}
    assert (circuits["dead"]["state"], circuits["dead"]["retry_in_seconds"]) == ("open", 60.0)
    assert (circuits["well"]["state"], circuits["well"]["latency_peak_seconds"]) == ("closed", 0.5)
    assert states.describe("b")["circuits"] == []


def test_failing_fast_is_no_speed():
    """A failure weighs like a slow answer, so that the latency strategy does not run after it."""
    state = UpstreamStates(SteppedClock()).candidate("a", "m")
    state.conclude(state.breaker.admit(1.0), Verdict.FAILED, now=1.0, took=0.001)
    assert state.peak.seconds(1.0) == FAILURE_SECONDS


def test_silence_says_nothing_and_gives_the_trial_back():
    """A cancelled trial leaves the circuit half open for the next."""
    state = UpstreamStates(SteppedClock()).candidate("a", "m")
    for _ in range(5):
        state.conclude(state.breaker.admit(1.0), Verdict.FAILED, now=1.0, took=0.01)
    assert state.conclude(state.breaker.admit(61.0), Verdict.SILENT, now=61.0, took=0.01) is None
    assert state.conclude(state.breaker.admit(61.0), Verdict.HEALTHY, now=61.0, took=0.01) is CircuitState.HALF_OPEN
    assert state.breaker.state is CircuitState.CLOSED


def test_new_settings_reach_every_circuit_and_none_is_forgotten():
    """State outlives a reload."""
    states = UpstreamStates(SteppedClock())
    state = states.candidate("a", "m")
    state.conclude(state.breaker.admit(1.0), Verdict.FAILED, now=1.0, took=0.01)
    states.use(BreakerSettings(failures_in_a_row=2))
    state.conclude(state.breaker.admit(1.0), Verdict.FAILED, now=1.0, took=0.01)
    assert states.candidate("a", "m") is state
    assert state.breaker.state is CircuitState.OPEN


def test_states_are_bounded_and_open_circuits_outlive_idle_ones(monkeypatch: pytest.MonkeyPatch):
    """Names that come and go (customers' own upstreams) cannot fill the memory."""
    monkeypatch.setattr(health, "CANDIDATES_MAX", 4)
    states = UpstreamStates(SteppedClock())
    dead = states.candidate("a", "dead")
    for _ in range(5):
        dead.conclude(dead.breaker.admit(1.0), Verdict.FAILED, now=1.0, took=0.01)
    for number in range(20):
        states.candidate("a", f"m{number}")
    assert len(list(states.circuits_of("a"))) == 4
    assert states.candidate("a", "dead") is dead
