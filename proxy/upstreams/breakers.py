"""Circuit breakers: what has just failed again and again is left alone for a while, then tried by one call.

    closed --- failures --> open --- its time is over --> half open --- the trial succeeds --> closed
                              ^                               |
                              +------- the trial fails -------+

Pure: time is handed in, as seconds of `Clock.monotonic`. Whoever wants to call asks `admit` and brings the permit
back with the outcome: `succeeded`, `failed`, or `give_back` where the call says nothing about the upstream's health.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

REFUSED: Final = 0
"""The permit that is none."""
WINDOW_CALLS_MAX: Final = 64


class CircuitState(Enum):
    """Where a circuit stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When a circuit opens, and for how long.

    `failures_in_a_row` finds the upstream that is dead: five calls, 25 ms at 200 calls a second. `failure_percent`
    finds the one that is half dead. One odd failure does neither.
    """

    failures_in_a_row: int = 5
    failure_percent: int = 50
    """Of the last `WINDOW_CALLS_MAX` calls, or of those since `window_seconds` of quiet."""
    window_calls_min: int = 20
    """Fewer say nothing about a share."""
    window_seconds: float = 60.0
    open_seconds: float = 60.0
    retry_after_seconds_max: float = 600.0
    """An upstream's own Retry-After is honoured up to this; 0: not at all."""


class CircuitBreaker:
    """One circuit. A permit is the number of the state it was given in: an outcome that comes later counts for nothing.

    So calls that were under way when the circuit opened neither keep it open nor close it, and in half open there is
    one permit, which is given again only once the last one was brought back.
    """

    __slots__ = ("_epoch", "_failed_in_a_row", "_outcomes", "_recorded_at", "_seen", "_settings", "_trial",
                 "due", "limited", "openings", "state")  # fmt: skip

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._epoch = 1
        self._trial = False
        self._failed_in_a_row = 0
        self._outcomes = 0
        """The last calls, a bit each, 1 for a failure."""
        self._seen = 0
        self._recorded_at = 0.0
        self.state = CircuitState.CLOSED
        self.due = 0.0
        """When an open circuit lets its trial through."""
        self.limited = False
        """Opened because the upstream limits us (429), not because it fails."""
        self.openings = 0

    def use(self, settings: BreakerSettings) -> None:
        """Other settings from the next outcome on."""
        self._settings = settings

    def admit(self, now: float) -> int:
        """A permit to call, or REFUSED. In half open exactly one is out at a time."""
        if self.state is CircuitState.CLOSED:
            return self._epoch
        if self.state is CircuitState.OPEN:
            if now < self.due:
                return REFUSED
            self._enter(CircuitState.HALF_OPEN)
        elif self._trial:
            return REFUSED
        self._trial = True
        return self._epoch

    def ready(self, now: float) -> bool:
        """Whether `admit` would give a permit."""
        if self.state is CircuitState.CLOSED:
            return True
        return now >= self.due if self.state is CircuitState.OPEN else not self._trial

    def succeeded(self, permit: int, now: float) -> None:
        """The upstream served, or refused the request for the caller's own fault: it is there."""
        if permit != self._epoch:
            return
        if self.state is CircuitState.HALF_OPEN:
            self._enter(CircuitState.CLOSED)
            return
        self._failed_in_a_row = 0
        self._count(0, now)

    def failed(self, permit: int, now: float, retry_after: float | None = None) -> None:
        """The upstream did not serve. `retry_after` is how many seconds it asks to be left alone, if it does."""
        if permit != self._epoch:
            return
        if self.state is CircuitState.HALF_OPEN:
            self._open(now, retry_after, limited=False)
            return
        self._failed_in_a_row += 1
        self._count(1, now)
        if self._failed_in_a_row >= self._settings.failures_in_a_row or self._share_reached():
            self._open(now, retry_after, limited=False)

    def limit(self, permit: int, now: float, retry_after: float) -> None:
        """The upstream said 429 and when to come back: nobody calls it before, however well it served until now."""
        if permit != self._epoch:
            return
        if min(retry_after, self._settings.retry_after_seconds_max) <= 0:
            self.failed(permit, now)
            return
        self._open(now, retry_after, limited=True)

    def give_back(self, permit: int) -> None:
        """The call ended without a word about the upstream: cancelled, or refused on our side. Idempotent."""
        if permit == self._epoch and self.state is CircuitState.HALF_OPEN:
            self._epoch += 1
            self._trial = False

    def allow_trial(self, now: float) -> None:
        """A probe found the upstream well: an open circuit need not wait any longer."""
        if self.state is CircuitState.OPEN and not self.limited:
            self.due = min(self.due, now)

    def seconds_left(self, now: float) -> float:
        """Until a call may be tried; 0 where it may now, or as soon as the trial under way has ended."""
        return max(0.0, self.due - now) if self.state is CircuitState.OPEN else 0.0

    def _count(self, failed: int, now: float) -> None:
        if now - self._recorded_at > self._settings.window_seconds:
            self._outcomes = self._seen = 0
        self._recorded_at = now
        self._outcomes = (self._outcomes << 1 | failed) & ((1 << WINDOW_CALLS_MAX) - 1)
        if self._seen < WINDOW_CALLS_MAX:
            self._seen += 1

    def _share_reached(self) -> bool:
        if self._seen < self._settings.window_calls_min:
            return False
        return self._outcomes.bit_count() * 100 >= self._settings.failure_percent * self._seen

    def _open(self, now: float, retry_after: float | None, *, limited: bool) -> None:
        asked = min(retry_after or 0.0, self._settings.retry_after_seconds_max)
        self._enter(CircuitState.OPEN)
        self.due = now + (asked if asked > 0 else self._settings.open_seconds)
        self.limited = limited
        self.openings += 1

    def _enter(self, state: CircuitState) -> None:
        self.state = state
        self._epoch += 1
        self._trial = False
        self._failed_in_a_row = self._outcomes = self._seen = 0
