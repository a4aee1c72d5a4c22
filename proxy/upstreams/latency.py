"""How fast a candidate has been of late: a moving peak for choosing, a p95 for hedging."""

from __future__ import annotations

from array import array
from math import exp
from typing import Final

PEAK_DECAY_SECONDS: Final = 10.0
"""A peak has lost two thirds of itself after this long."""
UNKNOWN_SECONDS: Final = 1.0
"""What each call under way weighs at a candidate that never answered yet."""
SAMPLES_MAX: Final = 64
SAMPLES_BETWEEN: Final = 8
"""A p95 is worked out again after this many new samples."""


class PeakLatency:
    """A moving average that jumps to every peak and forgets it slowly, with calls and with time alike."""

    __slots__ = ("_at", "_seconds")

    def __init__(self) -> None:
        self._seconds = 0.0
        self._at = 0.0

    def observe(self, seconds: float, now: float) -> None:
        """One call took this long."""
        weight = exp((self._at - now) / PEAK_DECAY_SECONDS)
        self._seconds = max(seconds, self._seconds * weight + seconds * (1.0 - weight))
        self._at = now

    def seconds(self, now: float) -> float:
        """The peak as it stands, 0 where nothing was observed: what is not called is forgiven in time."""
        return self._seconds * exp((self._at - now) / PEAK_DECAY_SECONDS) if self._seconds else 0.0

    def load(self, in_flight: int, now: float) -> float:
        """What another call would wait, as far as one can tell: the peak for each call under way, and for itself."""
        seconds = self.seconds(now)
        return seconds * (in_flight + 1) if seconds else UNKNOWN_SECONDS * in_flight


class Recent:
    """The last `SAMPLES_MAX` durations and their 95th percentile."""

    __slots__ = ("_next", "_p95", "_since", "_values")

    def __init__(self) -> None:
        self._values = array("d")
        self._next = 0
        self._since = 0
        self._p95 = 0.0

    def add(self, seconds: float) -> None:
        """The oldest makes room."""
        if len(self._values) < SAMPLES_MAX:
            self._values.append(seconds)
        else:
            self._values[self._next] = seconds
            self._next = (self._next + 1) % SAMPLES_MAX
        self._since += 1

    def __len__(self) -> int:
        return len(self._values)

    def p95(self, samples_min: int) -> float | None:
        """Seconds within which 19 of 20 came, at most a few samples old; None with fewer than `samples_min` of them."""
        if len(self._values) < samples_min:
            return None
        if self._since >= SAMPLES_BETWEEN or not self._p95:
            ranked = sorted(self._values)
            self._p95 = ranked[len(ranked) * 95 // 100]
            self._since = 0
        return self._p95
