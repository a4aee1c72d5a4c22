"""What the last calls to each upstream came to. Passive: nothing is probed, nothing is decided here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from proxy.clock import Clock

_SMOOTHING = 0.1
"""Weight of the newest latency in the moving average."""


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
    """Fed by `routing`, read by the admin listener. Holds one state for each upstream of the configuration."""

    def __init__(self, clock: Clock, in_flight: Callable[[str], int] | None = None) -> None:
        self._clock = clock
        self._in_flight = in_flight
        self._states: dict[str, UpstreamState] = {}

    def watch(self, in_flight: Callable[[str], int]) -> None:
        """Where to ask how many exchanges an upstream is working on: `PooledClient.in_flight`."""
        self._in_flight = in_flight

    def record(self, upstream: str, outcome: str, latency: float) -> None:
        """One finished attempt; `latency` in seconds. Every outcome but "served" counts as an error."""
        state = self._states.get(upstream)
        if state is None:
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
        return {
            "outcomes": dict(state.outcomes),
            "last_ok_ms": state.last_ok_ms,
            "last_error_ms": state.last_error_ms,
            "last_error": state.last_error,
            "failures_in_a_row": state.failures_in_a_row,
            "latency_seconds": None if state.latency_seconds is None else round(state.latency_seconds, 4),
            "in_flight": 0 if self._in_flight is None else self._in_flight(upstream),
        }
