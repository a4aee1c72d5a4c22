"""What the scripted provider itself counts: the other side of the books that the panel keeps."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.pricing.money import ZERO, Nano


@dataclass(frozen=True, slots=True)
class Span:
    """One call, seconds of the event loop."""

    role: str
    round: int
    seat: str
    began: float
    ended: float
    served: bool


@dataclass(slots=True)
class Meter:
    """Of one run. Every call that reached the provider is counted, those that were cut off, too."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: Nano = ZERO
    open: int = 0
    """Calls under way."""
    open_max: int = 0
    closed_at: float = 0.0
    """When the last one ended, seconds of the event loop."""
    spans: list[Span] = field(default_factory=list)
    """In the order in which they ended."""

    def begin(self) -> None:
        """A call arrives."""
        self.calls += 1
        self.open += 1
        self.open_max = max(self.open_max, self.open)

    def end(self, input_tokens: int, output_tokens: int, cost: Nano, now: float) -> None:
        """It is over, and billed."""
        self.open -= 1
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens
        self.cost = Nano(self.cost + cost)
        self.closed_at = now
