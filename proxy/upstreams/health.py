"""What the last calls to each upstream came to, and with it the circuit of every (upstream, model).

It outlives reloads. `routing` feeds it and asks it; the admin listener shows it; probes may shorten a wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from proxy.clock import Clock
from proxy.upstreams.api import CUSTOMER_PREFIX
from proxy.upstreams.breakers import BreakerSettings, CircuitBreaker, CircuitState
from proxy.upstreams.latency import PeakLatency, Recent

_SMOOTHING = 0.1
"""Weight of the newest latency in the moving average."""
UPSTREAMS_MAX: Final = 5_000
"""Upstreams whose counters are kept; customers' own are among them, and the oldest make room."""
CANDIDATES_MAX: Final = 20_000
"""(upstream, model) pairs remembered; of more, the oldest whose circuit is closed are forgotten."""
EVICTION_LOOKS_MAX: Final = 64
CUSTOMERS: Final = "byo"
"""Under this name the outcomes of all customers' own upstreams are counted."""
FAILURE_SECONDS: Final = 1.0
"""A failure weighs in the moving peak like an answer after this long: failing fast is no speed."""


class Verdict(Enum):
    """What an ended attempt says about the upstream."""

    HEALTHY = "healthy"
    """It served, or found fault with the request itself."""
    FAILED = "failed"
    LIMITED = "limited"
    """429 with a time to come back at."""
    SILENT = "silent"
    """Nothing: cancelled, refused on our side, or an answer that may be either's fault."""


class CandidateState:
    """One (upstream, model): its circuit, how fast it was, how much it is working on."""

    __slots__ = ("breaker", "in_flight", "peak", "streamed", "upstream", "upstream_model", "whole")

    def __init__(self, upstream: str, upstream_model: str, settings: BreakerSettings) -> None:
        self.upstream = upstream
        self.upstream_model = upstream_model
        self.breaker = CircuitBreaker(settings)
        self.peak = PeakLatency()
        self.streamed = Recent()
        """Seconds to the first content of streams ..."""
        self.whole = Recent()
        """... and of answers that come in one piece."""
        self.in_flight = 0

    def conclude(
        self, permit: int, verdict: Verdict, *, now: float, took: float, retry_after: float | None = None
    ) -> CircuitState | None:
        """One attempt has ended `took` seconds after it began. Returns the state that the circuit left, or None."""
        breaker = self.breaker
        before = breaker.state
        if verdict is Verdict.HEALTHY:
            self.peak.observe(took, now)
            breaker.succeeded(permit, now)
        elif verdict is Verdict.SILENT:
            breaker.give_back(permit)
        else:
            self.peak.observe(max(took, FAILURE_SECONDS), now)
            if verdict is Verdict.LIMITED and retry_after is not None:
                breaker.limit(permit, now, retry_after)
            else:
                breaker.failed(permit, now, retry_after)
        return before if breaker.state is not before else None

    def first_content(self, seconds: float, *, stream: bool) -> None:
        """An answer's first content came after this long."""
        (self.streamed if stream else self.whole).add(seconds)

    def describe(self, now: float) -> dict[str, Any]:
        """For people and monitoring, JSON-ready."""
        breaker, p95 = self.breaker, self.streamed.p95(1)
        return {
            "model": self.upstream_model,
            "state": breaker.state.value,
            "openings": breaker.openings,
            "limited": breaker.limited and breaker.state is not CircuitState.CLOSED,
            "retry_in_seconds": round(breaker.seconds_left(now), 1),
            "in_flight": self.in_flight,
            "latency_peak_seconds": round(self.peak.seconds(now), 4),
            "first_content_p95_seconds": None if p95 is None else round(p95, 4),
        }


@dataclass(slots=True)
class UpstreamState:
    """Counters since the start of the process. Times are milliseconds since the epoch, None: never."""

    outcomes: Counter[str] = field(default_factory=Counter)
    """By outcome, as `routes.Try.outcome` names them: a bounded set."""
    last_ok_ms: int | None = None
    last_error_ms: int | None = None
    last_error: str | None = None
    failures_in_a_row: int = 0
    latency_seconds: float | None = None
    """Moving average over served calls, up to the answer's first content."""


class UpstreamStates:
    """One state for each upstream of the configuration, and one for each pair of upstream and model."""

    def __init__(self, clock: Clock, in_flight: Callable[[str], int] | None = None) -> None:
        self._clock = clock
        self._in_flight = in_flight
        self._states: dict[str, UpstreamState] = {}
        self._candidates: dict[tuple[str, str], CandidateState] = {}
        self._settings = BreakerSettings()

    def use(self, settings: BreakerSettings) -> None:
        """How circuits behave from now on."""
        self._settings = settings
        for state in self._candidates.values():
            state.breaker.use(settings)

    def candidate(self, upstream: str, upstream_model: str) -> CandidateState:
        """The state of a pair, made when it is first asked for."""
        key = (upstream, upstream_model)
        found = self._candidates.get(key)
        if found is None:
            if len(self._candidates) >= CANDIDATES_MAX:
                self._forget_one()
            found = self._candidates[key] = CandidateState(upstream, upstream_model, self._settings)
        return found

    def circuits_of(self, upstream: str) -> Iterator[CandidateState]:
        """The pairs of one upstream that were called or asked for so far."""
        return (state for state in self._candidates.values() if state.upstream == upstream)

    def _forget_one(self) -> None:
        """The oldest whose circuit is closed and idle, or else the oldest of all."""
        oldest = None
        for looked, (key, state) in enumerate(self._candidates.items()):
            oldest = oldest or key
            if state.breaker.state is CircuitState.CLOSED and not state.in_flight:
                oldest = key
                break
            if looked >= EVICTION_LOOKS_MAX:
                break
        if oldest is not None:
            del self._candidates[oldest]

    def watch(self, in_flight: Callable[[str], int]) -> None:
        """Where to ask how many exchanges an upstream is working on: `PooledClient.in_flight`."""
        self._in_flight = in_flight

    def record(self, upstream: str, outcome: str, latency: float) -> None:
        """One finished attempt; `latency` in seconds. Every outcome but "served" counts as an error.

        Customers' own upstreams share one state, since they come and go: it decides nothing.
        """
        if upstream.startswith(CUSTOMER_PREFIX):
            upstream = CUSTOMERS
        state = self._states.get(upstream)
        if state is None:
            if len(self._states) >= UPSTREAMS_MAX:
                del self._states[next(iter(self._states))]
            state = self._states[upstream] = UpstreamState()
        state.outcomes[outcome] += 1
        if outcome == "served":
            state.last_ok_ms = self._clock.now_ms()
            state.failures_in_a_row = 0
            known = state.latency_seconds
            state.latency_seconds = latency if known is None else known + _SMOOTHING * (latency - known)
        else:
            state.last_error_ms = self._clock.now_ms()
            state.last_error = outcome
            state.failures_in_a_row += 1

    def describe(self, upstream: str) -> dict[str, Any]:
        """The state for people and monitoring, JSON-ready. An upstream never called has its zeros."""
        state = self._states.get(upstream, UpstreamState())
        now = self._clock.monotonic()
        return {
            "outcomes": dict(state.outcomes),
            "last_ok_ms": state.last_ok_ms,
            "last_error_ms": state.last_error_ms,
            "last_error": state.last_error,
            "failures_in_a_row": state.failures_in_a_row,
            "latency_seconds": None if state.latency_seconds is None else round(state.latency_seconds, 4),
            "in_flight": 0 if self._in_flight is None else self._in_flight(upstream),
            "circuits": [state.describe(now) for state in self.circuits_of(upstream)],
        }
