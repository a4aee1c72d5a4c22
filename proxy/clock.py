"""The only module that reads time. Everything else is given a `Clock`, so tests own the time."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for windows and records; monotonic time for durations. Never mix the two."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never steps; only differences mean anything."""
        ...


class SystemClock:
    """The machine's clock."""

    @staticmethod
    def now_ms() -> int:
        return time.time_ns() // 1_000_000

    monotonic = staticmethod(time.monotonic)
