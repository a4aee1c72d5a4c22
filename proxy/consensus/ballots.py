"""Members judge each other's answers: who sees which in what order, what a judge says, and what all say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from random import Random
from typing import Any


class Verdict(Enum):
    """What a judge or a verifier says of a claim."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True)
class Paper:
    """What one judge is shown. Labels are its own: A is what it sees first."""

    judge: str
    """A seat's name."""
    seats: tuple[str, ...]
    """Whose answers, in the order shown; never the judge's own."""

    @property
    def labels(self) -> tuple[str, ...]:
        """A, B, ..., beside `seats`."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Mark:
    """A verdict on one claim of one answer."""

    judge: str
    seat: str
    claim: int
    """Index among the claims of `seat`, from 0."""
    verdict: Verdict
    reason: str = ""
    correction: str = ""


@dataclass(frozen=True, slots=True)
class Ballot:
    """What one judge says."""

    judge: str
    ranks: Mapping[str, int]
    """Seat -> rank, 1 is best; equal ones are ties. Only of answers that it ranked (or, where it ranked none, scored)."""
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Seat -> dimension -> 0 to 10."""
    marks: tuple[Mark, ...] = ()


def papers(judges: Sequence[str], candidates: Sequence[str], *, random: Random | None = None) -> tuple[Paper, ...]:
    """One for each judge, in the order of `judges`.

    Where all judges are candidates and the other way round, every answer stands once in every slot (a cyclic Latin
    rectangle); otherwise as evenly as rotation makes it. `random` shuffles who follows whom. A judge that has nothing
    to judge gets no paper.
    """
    raise NotImplementedError


def schema(paper: Paper, claims: Mapping[str, int]) -> dict[str, Any]:
    """JSON schema of a ballot. `claims`: seat -> how many of its claims the judge is shown."""
    raise NotImplementedError


def shape(paper: Paper) -> str:
    """The same as an example, for a prompt."""
    raise NotImplementedError


def read_ballot(text: str, paper: Paper, claims: Mapping[str, int]) -> Ballot | None:
    """A judge's answer. Only its last JSON object is read. None (it abstains) where that is missing, broken or names
    other answers; what is missing in it or out of bounds is left out; one cut off in the middle counts as far as it
    goes."""
    raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Standing:
    """One answer among the others."""

    seat: str
    borda: Fraction
    """0 to 1: the weighted mean over judges of the share of others that it beats."""
    ballots: int
    """That rank it."""


def standings(
    ballots: Sequence[Ballot],
    answers: Mapping[str, str],
    *,
    weights: Mapping[str, Fraction] | None = None,
    families: Mapping[str, str] | None = None,
    without: AbstractSet[str] = frozenset(),
) -> tuple[Standing, ...]:
    """All of `answers` (seat -> text), the best first.

    `weights` of judges (1 where missing); judges of one family share its one voice. `without`: seats that lose their
    ballot influence: neither does their ballot count nor what ballots say of them, and they stand last. A tie is broken
    by scores, then by a hash of the answers' texts: never by seat, label or slot.
    """
    raise NotImplementedError


def unanimous_leader(ballots: Sequence[Ballot], without: AbstractSet[str] = frozenset()) -> str | None:
    """The seat that is first (alone) on every ballot that ranks it, where every other judge than itself ranks it; None
    where there is none, or fewer than two ballots."""
    raise NotImplementedError
