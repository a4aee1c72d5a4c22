"""What a panel has come to so far: its drafts, what they say, who thinks what of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Final

from proxy.consensus import agreement, ballots, claims, injection
from proxy.consensus.agreement import Position, Round, Tally, Vote
from proxy.consensus.ballots import Ballot, Standing
from proxy.consensus.claims import Claim, Sentences
from proxy.consensus.injection import Flags
from proxy.consensus.quality import Judged, judged
from proxy.consensus.reading import Reading
from proxy.consensus.settings import Consensus, Seat
from proxy.consensus.typed import same

SUPPORT: Final = Fraction(3, 4)
"""What a result that all families give is worth beside the first place on every ballot. On recorded answers of four
models to 1,319 sums, with judges right three times in four, anything from a half to three halves does equally well,
and a point better than ballots alone."""


@dataclass(frozen=True, slots=True)
class Draft:
    """One member's answer."""

    seat: Seat
    label: str
    reading: Reading
    flags: Flags
    finish_reason: str = "stop"
    output_tokens: int = 0
    partial: bool = False
    """Its call broke: this is what had come."""
    stranger: bool = False
    """In another language than the question, and than other members."""
    value: Any = None
    """The object that a response_format asked for; None where it is invalid or none was asked for."""
    invalid: str = ""
    """What is wrong with that object: such a draft does not vote."""

    @property
    def text(self) -> str:
        """As others read it."""
        return self.reading.text

    @property
    def whole(self) -> bool:
        """Fit to be sent to the caller as it is."""
        return not self.partial and self.finish_reason == "stop" and not self.invalid

    @property
    def votes(self) -> bool:
        """Its final answer counts."""
        return self.reading.usable and not self.partial and not self.invalid


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What judges said of the drafts that there were then."""

    ballots: tuple[Ballot, ...]
    texts: Mapping[str, str]
    """Seat -> its draft as it was judged."""
    claims: Mapping[str, tuple[str, ...]]
    """Seat -> its claims as they were shown: marks go by their places."""


@dataclass(slots=True, eq=False)
class Panel:
    """Drafts by seat, in the order of the seats, and what was found out about them."""

    consensus: Consensus
    domain: str
    drafts: dict[str, Draft] = field(default_factory=dict)
    origins: dict[str, Draft] = field(default_factory=dict)
    """First drafts of seats that have revised theirs."""
    evaluations: list[Evaluation] = field(default_factory=list)
    """All of them, the latest last."""
    fresh: bool = True
    """The ballots are about the present drafts; otherwise about the first ones, which were revised since."""
    shares: dict[str, Judged] = field(default_factory=dict)
    """Seat -> what the judges say of its draft, where they judged it."""
    claims: tuple[Claim, ...] = ()
    history: list[Round] = field(default_factory=list)
    agreed_by: str | None = None
    """Why no further round is needed; None: it disagrees still."""
    quorum_seconds: float | None = None
    _sentences: dict[str, Sentences] = field(default_factory=dict)

    @property
    def ballots(self) -> tuple[Ballot, ...]:
        """Of the latest evaluation; empty where nobody judged."""
        return self.evaluations[-1].ballots if self.evaluations else ()

    @property
    def seats(self) -> list[Seat]:
        """Those with a draft."""
        return [draft.seat for draft in self.drafts.values()]

    @property
    def families(self) -> dict[str, str]:
        """Seat -> family."""
        return {name: draft.seat.family for name, draft in self.drafts.items()}

    @property
    def texts(self) -> dict[str, str]:
        """Seat -> what its draft says."""
        return {name: draft.text for name, draft in self.drafts.items()}

    def shown_claims(self) -> dict[str, tuple[str, ...]]:
        """Seat -> the claims that others are asked about."""
        limit = self.consensus.rules.claims_max
        return {name: draft.reading.claims[:limit] for name, draft in self.drafts.items()}

    def excluded(self) -> frozenset[str]:
        """Seats without influence on ballots: their drafts speak to the judges."""
        return injection.excluded({name: draft.flags for name, draft in self.drafts.items()}, self.families)

    def tally(self) -> Tally:
        """Final answers, counted by family."""
        votes = [
            Vote(name, draft.seat.family, draft.reading.answer, draft.seat.weight)
            for name, draft in self.drafts.items()
            if draft.votes
        ]
        return agreement.tally(votes, self.consensus.rules)

    def standings(self) -> tuple[Standing, ...]:
        """Drafts by their ballots, the best first; empty where nobody judged."""
        return self._order() if self.ballots else ()

    def _order(self) -> tuple[Standing, ...]:
        """The same; where nobody judged an order that favours no seat. A draft stands where all evaluations of itself
        put it together: one that stayed because its revision fell not where that was put."""
        latest = self._standings_by(self.ballots)
        if len(self.evaluations) < 2:
            return latest
        place = {standing.seat: index for index, standing in enumerate(latest)}
        found = {one: {each.seat: each for each in self._standings_by(one.ballots)} for one in self.evaluations}
        aside = self.excluded()
        together = [_together([found[one][name] for one in self._about(name)]) for name in self.drafts]
        return tuple(
            sorted(together, key=lambda one: (one.seat in aside, -one.borda, -self._share(one.seat), place[one.seat]))
        )

    def _about(self, seat: str) -> list[Evaluation]:
        """Those of its present draft, or where that is revised and nobody judged it since, the latest."""
        text = self.drafts[seat].text
        return [one for one in self.evaluations if one.texts.get(seat) == text] or self.evaluations[-1:]

    def _share(self, seat: str) -> float:
        found = self.shares.get(seat)
        return 0.0 if found is None else found.share

    def _standings_by(self, found: Sequence[Ballot]) -> tuple[Standing, ...]:
        weights = {name: draft.seat.weight for name, draft in self.drafts.items()}
        return ballots.standings(found, self.texts, weights=weights, families=self.families, without=self.excluded())

    def ranked(self) -> list[Draft]:
        """All drafts, the best first: by ballots and by how many say the same; what is whole and says nothing to judges
        before what is not. Never by length, and at a tie by nobody's place on the panel."""
        aside = self.excluded()
        standings = self._order()
        place = {standing.seat: index for index, standing in enumerate(standings)}
        worth = self._worth({standing.seat: standing.borda for standing in standings}, aside)
        return sorted(
            self.drafts.values(),
            key=lambda draft: (
                draft.seat.name in aside or not draft.votes or not draft.whole or draft.stranger,
                -worth[draft.seat.name],
                place[draft.seat.name],
            ),
        )

    def _worth(self, borda: dict[str, Fraction], aside: frozenset[str]) -> dict[str, Fraction]:
        """Of each draft: the mean of the ballots for all that say the same, and how many say it. Ballots on one of
        them are ballots on what it says."""
        worth = {name: borda.get(name, Fraction(0)) for name in self.drafts}
        judged = {name: worth[name] for name in self.drafts if name not in aside}
        for position in self.tally().positions:
            said = [name for name in judged if same(self._judged_draft(name).reading.answer, position.answer)]
            heard = said or [seat for seat in position.seats if seat in judged]
            mean = sum((judged[name] for name in heard), Fraction(0)) / max(1, len(heard))
            worth.update(dict.fromkeys(position.seats, mean + SUPPORT * position.share))
        return worth

    def _judged_draft(self, name: str) -> Draft:
        """The draft of a seat that the ballots are about."""
        return self.drafts[name] if self.fresh else self.origins.get(name, self.drafts[name])

    def lead_of(self, position: Position) -> Draft | None:
        """The best draft of those that say this, of those fit to be sent as they are."""
        aside = self.excluded()
        for draft in self.ranked():
            fit = draft.whole and not draft.stranger and draft.seat.name not in aside
            if fit and draft.seat.name in position.seats:
                return draft
        return None

    def recount(self) -> None:
        """Merge the claims of all drafts anew, with what texts and ballots say of them. A verdict goes with the words
        of the claim that it was given on: what a revised draft claims in their place, nobody has judged yet."""
        merged = claims.merged(self.shown_claims(), self.families)
        merged = claims.compared(merged, self._read_texts(), self.families)
        aside = self.excluded()
        for one in self.evaluations:
            marks = [mark for ballot in one.ballots if ballot.judge not in aside for mark in ballot.marks]
            merged = claims.marked(merged, one.claims, marks, self.families)
        self.claims = merged

    def _read_texts(self) -> dict[str, Sentences]:
        """Each text is read once, however often claims are counted."""
        texts = self.texts
        self._sentences = {
            text: self._sentences[text] if text in self._sentences else claims.sentences(text)
            for text in texts.values()
        }
        return {name: self._sentences[text] for name, text in texts.items()}

    def judge(self, found: Sequence[Ballot]) -> None:
        """Take over the ballots of an evaluation of the present drafts."""
        self.evaluations.append(Evaluation(tuple(found), self.texts, self.shown_claims()))
        self.fresh = True
        self.shares = {}
        for name in self.drafts:
            said = self.judged(name)
            if said is not None:
                self.shares[name] = said
        self.recount()

    def judged(self, seat: str, *, synthesiser: Seat | None = None) -> Judged | None:
        """What the judges say of one draft; with a `synthesiser`, without those of its vendor where others remain."""
        aside = self.excluded()
        vendors = {name: draft.seat.vendor for name, draft in self.drafts.items()}
        found = self._about(seat)[-1].ballots if self.evaluations else ()
        return judged(
            [ballot for ballot in found if ballot.judge not in aside],
            seat,
            self.domain,
            self.consensus.weights,
            vendors=vendors,
            synthesiser_vendor=None if synthesiser is None else synthesiser.vendor,
        )

    def replaced(self, revised: Draft) -> None:
        """A seat's draft becomes its revised one; the first one is kept."""
        name = revised.seat.name
        self.origins.setdefault(name, self.drafts[name])
        self.drafts[name] = revised
        self.fresh = False

    def round(self) -> Round:
        """How things stand, for comparing them with the next round."""
        standings = self.standings()
        leader = standings[0].seat if standings else None
        share = self.shares.get(leader) if leader is not None else None
        return Round(
            tally=self.tally(),
            contested_share=claims.contested_share(self.claims),
            leader=leader,
            unanimous=leader is not None and ballots.unanimous_leader(self.ballots, self.excluded()) == leader,
            answers=self.texts,
            score=0.0 if share is None else share.share,
            judged=bool(self.ballots) and self.fresh,
        )

    def agreement(self) -> float:
        """0 to 1."""
        return agreement.agreement_share(self.tally(), self.claims)


def _together(standings: Sequence[Standing]) -> Standing:
    """One draft's standings in several evaluations: the mean, by the ballots that compare it with others."""
    ballots_of = sum(one.ballots for one in standings)
    points = sum((one.borda * one.ballots for one in standings), Fraction(0))
    return Standing(standings[0].seat, points / ballots_of if ballots_of else Fraction(0), ballots_of)


def reseated(draft: Draft, seat: Seat) -> Draft:
    """The same answer, of the seat of another mode."""
    return replace(draft, seat=seat)
