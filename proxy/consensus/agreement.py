"""How far a panel agrees, whether another round could change that, and who disagrees. Families count, not seats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import sha256
from typing import Final

from proxy.consensus.api import Dissent
from proxy.consensus.claims import Claim, contested, contested_share
from proxy.consensus.normal import bounded, words
from proxy.consensus.settings import Rules
from proxy.consensus.typed import Kind, Typed, grouped, same

FAMILIES_SMALL_MAX: Final = 4
"""So many families need `Rules.plurality_small`, more of them `plurality_large`."""
DISSENT_MAX: Final = 8
NOTHING_COMPARED: Final = 0.5
"""Agreement of answers that have neither results nor claims: nobody knows."""
POSITION_CHARS_MAX: Final = 300


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
    """Count them. A family has one voice, of the mean weight of its seats, shared by those of them that vote."""
    seats_of = Counter(vote.family for vote in votes)
    voice = {vote: vote.weight / seats_of[vote.family] for vote in votes}
    total = sum((voice[vote] for vote in votes), Fraction(0))
    positions = [
        _position([votes[index] for index in group], voice, total)
        for group in grouped([vote.answer for vote in votes])
        if total
    ]
    positions.sort(key=lambda position: (-position.share, _neutral(position.answer)))
    needed = rules.plurality_small if len(seats_of) <= FAMILIES_SMALL_MAX else rules.plurality_large
    agreed = bool(positions) and positions[0].share >= needed and len(positions[0].families) > 1
    return Tally(tuple(positions), len(seats_of), agreed)


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

    `unanimous_leader` counts where the mode does not judge again (`reevaluate` False), of open answers of which
    hardly a claim is contested: of three members one comes first on both of its ballots mostly by chance alone.
    """
    if now.tally.agreed:
        return "typed_agreement"
    if now.leader is None or not now.judged:
        return None
    if not reevaluate and now.unanimous and not mostly_typed(now.tally):
        return "unanimous_leader" if now.contested_share <= rules.contested_share_max else None
    if before is not None and before.judged and before.leader == now.leader:
        return "stable_leader" if now.contested_share <= rules.contested_share_max else None
    return None


def stalled(now: Round, before: Round, rules: Rules) -> bool:
    """The round changed too few answers, or (where both were judged) gained too little."""
    seats = now.answers.keys() & before.answers.keys()
    changed = sum(_differ(now.answers[seat], before.answers[seat]) for seat in seats)
    if seats and Fraction(changed, len(seats)) < rules.stall_change_min:
        return True
    return now.judged and before.judged and now.score - before.score < float(rules.stall_gain_min)


def _differ(one: str, other: str) -> bool:
    return one != other and words(one) != words(other)


def effective_votes(count: int, correlation: Fraction) -> float:
    """n / (1 + (n - 1) * correlation): what n votes with correlated errors are worth."""
    return float(count / (1 + (count - 1) * correlation)) if count > 0 else 0.0


def agreement_share(tally: Tally, claims: Sequence[Claim]) -> float:
    """0 to 1: the leading position's share where at least half of the families' weight has typed answers, otherwise
    the share of claims that nobody contests; NOTHING_COMPARED where there are none."""
    if tally.leader is not None and mostly_typed(tally):
        return float(tally.leader.share)
    return float(1 - contested_share(claims)) if claims else NOTHING_COMPARED


def mostly_typed(tally: Tally) -> bool:
    """At least half of the families' weight has results that can be compared."""
    return sum((each.share for each in tally.positions), Fraction(0)) * 2 >= 1


def dissent(tally: Tally, claims: Sequence[Claim], final: Typed | None = None) -> tuple[Dissent, ...]:
    """Positions other than `final`'s, then contested claims with what is said against them, and refuted ones, which
    their makers stand by; families counted, texts bounded. `final` None: the majority's, and nobody's without one.
    """
    majority = tally.leader if tally.leader is not None and tally.leader.share > Fraction(1, 2) else None
    taken = final or (None if majority is None else majority.answer)
    positions = [
        Dissent(bounded(position.answer.shown, POSITION_CHARS_MAX), len(position.families))
        for position in tally.positions
        if taken is None or taken.kind is Kind.OPEN or not same(position.answer, taken)
    ]
    against = [
        Dissent(bounded(_objection(claim), POSITION_CHARS_MAX), max(1, len(claim.contradicted)))
        for claim in contested(claims)
    ]
    refuted = [
        Dissent(bounded(_objection(claim, "Refuted"), POSITION_CHARS_MAX), len(claim.families))
        for claim in claims
        if claim.refuted
    ]
    return tuple((positions + against + refuted)[:DISSENT_MAX])


def _position(votes: Sequence[Vote], voice: Mapping[Vote, Fraction], total: Fraction) -> Position:
    share = sum((voice[vote] for vote in votes), Fraction(0)) / total
    return Position(
        votes[0].answer, tuple(vote.seat for vote in votes), frozenset(vote.family for vote in votes), share
    )


def _objection(claim: Claim, what: str = "Contested") -> str:
    against = next(iter(claim.corrections or claim.reasons), "")
    return f"{what}: {claim.text}" + (f" ({against})" if against else "")


def _neutral(answer: Typed) -> bytes:
    return sha256(f"{answer.kind.value}\n{answer.value}\n{answer.unit}".encode("utf-8", "replace")).digest()
