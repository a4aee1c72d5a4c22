"""Atomic claims of all members, merged, and what speaks for and against each. Families count, not seats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from proxy.consensus.ballots import Mark


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim, whoever makes it."""

    text: str
    """In the words of the first who made it."""
    seats: tuple[str, ...]
    """Who make it."""
    families: frozenset[str]
    """Of `seats`."""
    supported: frozenset[str] = frozenset()
    """Families of judges and verifiers that support it, and of members that say the same in their texts."""
    contradicted: frozenset[str] = frozenset()
    unsure: frozenset[str] = frozenset()
    reasons: tuple[str, ...] = ()
    """Why it is contradicted, each once, bounded."""
    corrections: tuple[str, ...] = ()
    opposed: bool = False
    """Another member claims otherwise: another number, or the negation."""

    @property
    def contested(self) -> bool:
        """Somebody contradicts it, or members disagree, and no verifiers' verdict has settled it."""
        raise NotImplementedError

    @property
    def holds(self) -> bool:
        """More families support it than contradict it, and at least one that does not make it itself does."""
        raise NotImplementedError


def merged(claims: Mapping[str, Sequence[str]], families: Mapping[str, str]) -> tuple[Claim, ...]:
    """`claims`: seat -> its claims. Equal ones (case, punctuation, spelling of numbers apart) become one, in the order
    in which they are first made."""
    raise NotImplementedError


def marked(
    merged_claims: Sequence[Claim],
    claims: Mapping[str, Sequence[str]],
    marks: Iterable[Mark],
    families: Mapping[str, str],
) -> tuple[Claim, ...]:
    """With the judges' verdicts. `claims` as given to `merged`. A family whose seats say different things is unsure."""
    raise NotImplementedError


def checked(claim: Claim, verdicts: Iterable[Mark], families: Mapping[str, str]) -> Claim:
    """With verdicts of verifiers who did not see the draft, which replace the judges': `seat` and `claim` of the marks
    are not read."""
    raise NotImplementedError


def compared(
    merged_claims: Sequence[Claim], texts: Mapping[str, str], families: Mapping[str, str]
) -> tuple[Claim, ...]:
    """With what other members' texts say, found locally: a sentence with the same words supports a claim, one with the
    same words and other numbers contradicts it."""
    raise NotImplementedError


def contested(claims: Sequence[Claim]) -> tuple[Claim, ...]:
    """Those that are, most families against first."""
    raise NotImplementedError


def contested_share(claims: Sequence[Claim]) -> Fraction:
    """0 where there are none."""
    raise NotImplementedError


def supported_share(claims: Sequence[Claim]) -> Fraction | None:
    """Share that holds; None where there are no claims."""
    raise NotImplementedError


def unverified(claims: Sequence[Claim], count_max: int) -> tuple[str, ...]:
    """Texts of claims that do not hold and are not refuted either, bounded."""
    raise NotImplementedError
