"""How long each part of the bench runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of one bench run. Peers take turns round by round; the figures are medians over the rounds."""

    quick: bool
    rounds: int
    warm_seconds: int
    load_seconds: int
    latency_requests: int
    """To each endpoint, and as many directly, in alternating blocks."""
    latency_requests_slow: int
    """The same for LiteLLM, which takes tens of milliseconds for each."""
    stream_rounds: int
    stream_waves: int
    """Streams that each of the 100 slots makes one after the other in a round."""
    memory_first_requests: int
    memory_last_requests: int


FULL: Final = Plan(
    quick=False,
    rounds=5,
    warm_seconds=5,
    load_seconds=8,
    latency_requests=3000,
    latency_requests_slow=500,
    stream_rounds=3,
    stream_waves=3,
    memory_first_requests=10_000,
    memory_last_requests=100_000,
)
QUICK: Final = Plan(
    quick=True,
    rounds=2,
    warm_seconds=1,
    load_seconds=3,
    latency_requests=500,
    latency_requests_slow=100,
    stream_rounds=1,
    stream_waves=1,
    memory_first_requests=2000,
    memory_last_requests=8000,
)
"""To see that everything works; its figures are not the bench's."""
