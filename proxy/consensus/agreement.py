"""How far a panel agrees, whether another round could change that, and who disagrees. Families count, not seats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from proxy.consensus.api import Dissent
from proxy.consensus.claims import Claim
from proxy.consensus.settings import Rules
from proxy.consensus.typed import Typed


@dataclass(frozen=True, slots=True)
class Vote:
    """One member's final answer. Refusals and empty answers do not vote."""

    seat: str
    family: str
    answer: Typed
    weight: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True)
class Position:
    """Those who say the same."""

    answer: Typed
    """In the words of its first member."""
    seats: tuple[str, ...]
    families: frozenset[str]
    share: Fraction
    """Of the weight of all families that vote, those with open answers included. A family that is split counts in
    parts."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Typed answers, counted."""

    positions: tuple[Position, ...]
    """Most weight first; at a tie by a hash of the answer, never by seat. Open answers have none."""
    families: int
    """That vote."""
    agreed: bool
    """The first position has the share that Rules ask for, and two families behind it."""

    @property
    def leader(self) -> Position | None:
        """The first position."""
        return self.positions[0] if self.positions else None


def tally(votes: Sequence[Vote], rules: Rules) -> Tally:
    """Count them."""
    raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Round:
    """What one round came to, for comparing it with the next."""

    tally: Tally
    contested_share: Fraction = Fraction(0)
    leader: str | None = None
    """First of the standings; None where nobody judged."""
    unanimous: bool = False
    """The leader is first on all ballots."""
    answers: Mapping[str, str] = field(default_factory=dict)
    """Seat -> visible text."""
    score: float = 0.0
    """Quality of the leader, 0 to 1."""
    judged: bool = True
    """There was an evaluation."""


def converged(now: Round, before: Round | None, rules: Rules, *, reevaluate: bool) -> str | None:
    """Why no further refinement is needed: `typed_agreement`, `stable_leader`, `unanimous_leader`; None: it is.

    `unanimous_leader` counts where the mode does not judge again (`reevaluate` False).
    """
    raise NotImplementedError


def stalled(now: Round, before: Round, rules: Rules) -> bool:
    """The round changed too few answers, or gained too little."""
    raise NotImplementedError


def effective_votes(count: int, correlation: Fraction) -> float:
    """n / (1 + (n - 1) * correlation): what n votes with correlated errors are worth."""
    raise NotImplementedError


def agreement_share(tally: Tally, claims: Sequence[Claim]) -> float:
    """0 to 1: the leading position's share where typed answers lead, otherwise the share of claims not contested."""
    raise NotImplementedError


def dissent(tally: Tally, claims: Sequence[Claim], final: Typed | None = None) -> tuple[Dissent, ...]:
    """Positions other than `final`'s (default: the leader's), then contested claims; families counted, texts bounded."""
    raise NotImplementedError
