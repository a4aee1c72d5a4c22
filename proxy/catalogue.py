"""Models the client may name, and who can serve them: the typed form of policies/models.yaml."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.pricing.rates import Rates


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to serve a model: an upstream and the name it knows the model by."""

    upstream: str
    upstream_model: str
    cost: Rates | None = None
    """What it costs at list; None: the model's own rates."""


@dataclass(frozen=True, slots=True)
class Model:
    """An alias. `rates` is what a caller is charged; a model without rates is never served on our account."""

    name: str
    candidates: tuple[Candidate, ...]
    rates: Rates | None
    context_tokens: int
    output_tokens_default: int
    output_tokens_max: int
    operations: frozenset[str]
    """Operation names it serves: chat.completions, embeddings, messages."""
    tiers: frozenset[str] = frozenset()
    """Tiers that may call it; empty: all."""
    open: bool = False
    """Reachable without a key, on loopback only."""
    encoding: str | None = None
    """tiktoken encoding of its vocabulary; None where no exact one is known."""
    image_tokens_max: int | None = None
    """Most tokens one image can cost; None: images cannot be bounded."""
    created: int = 0
    tags: tuple[str, ...] = ()

    def list_rates(self, candidate: Candidate) -> Rates | None:
        """What `candidate` costs at list."""
        return self.rates if candidate.cost is None else candidate.cost
