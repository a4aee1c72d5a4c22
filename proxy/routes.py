"""Which upstream serves an exchange, attempt by attempt."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.catalogue import Candidate, Model
from proxy.ledger.api import Attempt
from proxy.pricing.money import Nano
from proxy.usage import Usage


@dataclass(slots=True, eq=False)
class Try:
    """One upstream attempt, as the ledger will keep it."""

    candidate: Candidate
    attempt: Attempt
    status: int = 0
    """The upstream's HTTP status; 0: no answer."""
    outcome: str = "running"
    """running | unsent (nothing left us) | served | status | garbage | error_event | hedge_lost (cancelled, another
    answered first) | a FailureKind's value"""
    detail: str = ""
    """What the log may say about a failure; never sent to a client."""
    usage: Usage | None = None
    cut: bool = False
    """Given up before the end of its answer."""
    counted: Usage | None = None
    """Our own count of an answer that was not read to its end, so that its `usage` is not known."""
    model: Model | None = None
    """Whose list price it has; None: the exchange's own model's. Written by `consensus`."""
    most: Nano | None = None
    """What it can cost at list at most, where that is less than the exchange's hold. Written by `consensus`."""
    hedge: bool = False
    """Called beside another that was silent, not after one that failed."""


@dataclass(slots=True, eq=False)
class Route:
    """Written by `routing`. The last try is the current one."""

    tries: list[Try] = field(default_factory=list)

    @property
    def current(self) -> Try:
        """The try under way or the last one made. There is one as soon as `routing` has called the rest."""
        return self.tries[-1]

    @property
    def served(self) -> bool:
        """The last try was answered by its upstream."""
        return bool(self.tries) and self.tries[-1].outcome == "served"
