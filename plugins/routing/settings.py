"""What an operator may say about routes: attempts, circuits, conversations, hedges."""

from __future__ import annotations

from pydantic import Field

from proxy.plugin import PluginSettings
from proxy.upstreams.breakers import BreakerSettings


class RoutingSettings(PluginSettings):
    """How often and on what another attempt is made, when an upstream is left alone, what is remembered."""

    attempts_max: int = Field(default=3, ge=1, le=10, description="Upstream calls per exchange, over all candidates.")
    attempts_per_candidate: int = Field(default=2, ge=1, le=5, description="Calls to one candidate before the next.")
    retry_statuses: frozenset[int] = Field(
        default=frozenset({408, 409, 429, 500, 502, 503, 504, 529}),
        description="Upstream statuses on which another attempt is made.",
    )
    backoff_milliseconds: int = Field(
        default=100, ge=0, description="Pause before the same candidate is called again; doubled each time."
    )
    retry_after_seconds_max: float = Field(
        default=2.0, ge=0, description="An upstream's Retry-After up to this is waited for; past it the next is tried."
    )
    peek_bytes_max: int = Field(
        default=1 << 20, ge=1024, description="How much of a stream may pass before its first content event."
    )
    circuit_failures: int = Field(
        default=5, ge=1, le=100_000, description="Failures in a row that open the circuit of an upstream and model."
    )
    circuit_failure_percent: int = Field(
        default=50, ge=1, le=101, description="So many of its last 64 calls open it, too; 101: never."
    )
    circuit_calls_min: int = Field(default=20, ge=1, le=64, description="Calls before that share means anything.")
    circuit_open_seconds: float = Field(
        default=60.0, gt=0, le=86_400, description="An open circuit lets one call try after this."
    )
    circuit_retry_after_seconds_max: float = Field(
        default=600.0, ge=0, le=86_400, description="An upstream's own Retry-After opens it that long, up to this."
    )
    session_headers: tuple[str, ...] = Field(
        default=("x-session-id", "x-conversation-id"),
        description="Request headers that name a conversation; without one its first turns do.",
    )
    sticky_seconds: float = Field(
        default=600.0, gt=0, le=86_400, description="A conversation is remembered this long after its last turn."
    )
    sticky_entries_max: int = Field(default=50_000, ge=1, le=1_000_000, description="Conversations remembered.")
    hedge_percent_max: int = Field(
        default=5, ge=0, le=50, description="Of a hedging model's requests, at most so many call a second candidate."
    )
    hedge_samples_min: int = Field(
        default=20, ge=2, le=64, description="Answers of a candidate before its 95th percentile means anything."
    )

    def breaker(self) -> BreakerSettings:
        """What circuits go by."""
        return BreakerSettings(
            failures_in_a_row=self.circuit_failures,
            failure_percent=self.circuit_failure_percent,
            window_calls_min=self.circuit_calls_min,
            open_seconds=self.circuit_open_seconds,
            retry_after_seconds_max=self.circuit_retry_after_seconds_max,
        )
