"""Members judge each other's answers: who sees which in what order, what a judge says, and what all say together."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from hashlib import sha256
from random import Random
from typing import Any, Final

from proxy.consensus.normal import bounded, clean
from proxy.consensus.objects import OBJECT_CHARS_MAX, last_object, read_object, spans
from proxy.consensus.settings import DIMENSIONS

SCORE_MAX: Final = 10
REASON_CHARS_MAX: Final = 300
MARKS_MAX: Final = 64
"""Verdicts of one judge that are read."""
FIGURE_CHARS_MAX: Final = 20

_FIGURE: Final = re.compile(r"[ #]*([0-9]{1,6}(?:\.[0-9]{1,6})?) ?(?:/ ?10|\.|st|nd|rd|th)? *")


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
        return tuple(_label(index) for index in range(len(self.seats)))


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
    """Seat -> rank, 1 is best; equal ones are ties. Of the answers that it ranked, or, where it ranked none, of those
    that it scored."""
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Seat -> dimension -> 0 to 10."""
    marks: tuple[Mark, ...] = ()


def papers(judges: Sequence[str], candidates: Sequence[str], *, random: Random | None = None) -> tuple[Paper, ...]:
    """One for each judge, in the order of `judges`.

    Where all judges are candidates and the other way round, every answer stands once in every slot (a cyclic Latin
    rectangle); otherwise as evenly as rotation makes it. `random` shuffles who follows whom. A judge that has nothing
    to judge gets no paper.
    """
    order = list(candidates)
    if random is not None:
        random.shuffle(order)
    places = {seat: place for place, seat in enumerate(order)}
    outside = 0
    shown: list[Paper] = []
    for judge in judges:
        if judge in places:
            start = places[judge]
            seats = [order[(start - step) % len(order)] for step in range(1, len(order))]
        else:
            seats = [order[(outside - step) % len(order)] for step in range(len(order))]
            outside += 1
        if seats:
            shown.append(Paper(judge, tuple(seats)))
    return tuple(shown)


def schema(paper: Paper, claims: Mapping[str, int]) -> dict[str, Any]:
    """JSON schema of a ballot, every property required as structured outputs want it. `claims`: seat -> how many of
    its claims the judge is shown, numbered from 1."""
    most = max((claims.get(seat, 0) for seat in paper.seats), default=0)
    numbers: dict[str, Any] = {"type": "integer", "enum": list(range(1, most + 1))} if most else {"type": "integer"}
    verdict = _object(
        claim=numbers,
        verdict={"type": "string", "enum": [each.value for each in Verdict]},
        reason={"type": "string"},
        correction={"type": "string"},
    )
    answer = _object(
        label={"type": "string", "enum": list(paper.labels)},
        **{name: {"type": "number"} for name in DIMENSIONS},
        rank={"type": "integer", "enum": list(range(1, len(paper.seats) + 1))},
        claims={"type": "array", "items": verdict},
    )
    return _object(answers={"type": "array", "items": answer})


def shape(paper: Paper) -> str:
    """The same as an example, for a prompt."""
    verdict = {
        "claim": 1,
        "verdict": "supported|contradicted|unsure",
        "reason": "short",
        "correction": "if contradicted",
    }
    answers = [
        {"label": label, **dict.fromkeys(DIMENSIONS, "0-10"), "rank": f"1-{len(paper.seats)}", "claims": [verdict]}
        for label in paper.labels
    ]
    return json.dumps({"answers": answers})


def read_ballot(text: str, paper: Paper, claims: Mapping[str, int]) -> Ballot | None:
    """A judge's answer. Only its last JSON object is read. None (it abstains) where that is missing, broken or names
    other answers; what is missing in it or out of bounds is left out; one cut off in the middle counts as far as it
    goes."""
    entries = _entries(clean(text[-OBJECT_CHARS_MAX:]))
    seats = dict(zip(paper.labels, paper.seats, strict=True))
    ranks: dict[str, int] = {}
    scores: dict[str, dict[str, float]] = {}
    marks: list[Mark] = []
    seen: set[str] = set()
    for entry in entries:
        seat = seats.get(_said_label(entry.get("label")))
        if seat is None or seat in seen:
            return None
        seen.add(seat)
        rank = figure(entry.get("rank"))
        if rank is not None and rank.is_integer() and 1 <= rank <= len(seats):
            ranks[seat] = int(rank)
        if scored := _scores(entry):
            scores[seat] = scored
        marks += _marks(entry.get("claims"), paper.judge, seat, claims.get(seat, 0))
    if not ranks:
        ranks = _ranks_of(scores)
    return Ballot(paper.judge, ranks, scores, tuple(marks[:MARKS_MAX])) if ranks or marks else None


@dataclass(frozen=True, slots=True)
class Standing:
    """One answer among the others."""

    seat: str
    borda: Fraction
    """0 to 1: the weighted mean over judges of the share of others that it beats; 0 where nobody compared it."""
    ballots: int
    """That compare it with others."""


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
    counted = [ballot for ballot in ballots if ballot.judge not in without]
    seats_of_family = Counter((families or {}).get(ballot.judge, ballot.judge) for ballot in counted)
    points: dict[str, Fraction] = defaultdict(Fraction)
    totals: dict[str, Fraction] = defaultdict(Fraction)
    compared: Counter[str] = Counter()
    for ballot in counted:
        family = (families or {}).get(ballot.judge, ballot.judge)
        weight = (weights or {}).get(ballot.judge, Fraction(1)) / seats_of_family[family]
        for seat, share in _shares(ballot, set(answers) - without).items():
            points[seat] += weight * share
            totals[seat] += weight
            compared[seat] += 1
    scores = _mean_scores(counted)

    def place(seat: str) -> tuple[bool, Fraction, float, bytes]:
        borda = points[seat] / totals[seat] if totals[seat] else Fraction(0)
        return (seat in without, -borda, -scores.get(seat, 0.0), _neutral(answers[seat]))

    ordered = sorted(answers, key=lambda seat: (*place(seat), seat))
    return tuple(
        Standing(seat, points[seat] / totals[seat] if totals[seat] else Fraction(0), compared[seat]) for seat in ordered
    )


def unanimous_leader(ballots: Sequence[Ballot], without: AbstractSet[str] = frozenset()) -> str | None:
    """The seat that every other judge ranks first and alone there; None where there is none, or fewer than two judges
    compare it with others."""
    counted = [ballot for ballot in ballots if ballot.judge not in without]
    firsts: Counter[str] = Counter()
    for ballot in counted:
        ranks = {seat: rank for seat, rank in ballot.ranks.items() if seat not in without and seat != ballot.judge}
        best = [seat for seat, rank in ranks.items() if rank == min(ranks.values())]
        if len(ranks) > 1 and len(best) == 1:
            firsts[best[0]] += 1
    for seat, count in firsts.items():
        if count >= 2 and count == sum(ballot.judge != seat for ballot in counted):
            return seat
    return None


def _label(index: int) -> str:
    """A to Z, then A1 to Z1, ..."""
    return chr(ord("A") + index % 26) + (str(index // 26) if index >= 26 else "")


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _entries(text: str) -> list[dict[str, Any]]:
    """One object for each answer that the ballot speaks of."""
    found = spans(text)
    if found.open is not None and text[found.open + 1 : found.open + 40].lstrip().startswith('"answers"'):
        inside = [read_object(text[start:end]) for start, end in found.closed if start > found.open]
        return [each for each in inside if each is not None and "label" in each]
    ballot = last_object(text)
    listed = ballot.get("answers") if ballot else None
    if isinstance(listed, dict):
        listed = [{"label": label, **each} for label, each in listed.items() if isinstance(each, dict)]
    if listed is None and ballot and "label" in ballot:
        listed = [ballot]
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []


def _said_label(said: Any) -> str:
    """`A`, `answer a` and `Candidate A` are one."""
    words = said.split() if isinstance(said, str) and len(said) <= 40 else []
    return words[-1].strip("()[].:\"'").upper() if words else ""


def figure(said: Any) -> float | None:
    """A number, also where a judge writes it as `"8"`, `"8/10"` or `"1."`."""
    if isinstance(said, str):
        found = _FIGURE.fullmatch(said[:FIGURE_CHARS_MAX])
        return float(found[1]) if found else None
    return None if isinstance(said, bool) or not isinstance(said, int | float) else float(said)


def _score(said: Any) -> float | None:
    score = figure(said)
    return score if score is not None and 0 <= score <= SCORE_MAX else None


def _scores(entry: Mapping[str, Any]) -> dict[str, float]:
    nested = entry.get("scores")
    said = nested if isinstance(nested, dict) else entry
    return {name: score for name in DIMENSIONS if (score := _score(said.get(name))) is not None}


def _marks(said: Any, judge: str, seat: str, count: int) -> list[Mark]:
    marks: dict[int, Mark] = {}
    for each in said[:MARKS_MAX] if isinstance(said, list) else ():
        said_number = figure(each.get("claim")) if isinstance(each, dict) else None
        if said_number is None or not said_number.is_integer() or not 1 <= said_number <= count:
            continue
        number = int(said_number)
        if number - 1 in marks:
            continue
        verdict = str(each.get("verdict"))[:20].strip().lower()
        if verdict in Verdict:
            reason, correction = _remark(each.get("reason")), _remark(each.get("correction"))
            marks[number - 1] = Mark(judge, seat, number - 1, Verdict(verdict), reason, correction)
    return list(marks.values())


def _remark(said: Any) -> str:
    return bounded(" ".join(said[: 4 * REASON_CHARS_MAX].split()), REASON_CHARS_MAX) if isinstance(said, str) else ""


def _ranks_of(scores: Mapping[str, Mapping[str, float]]) -> dict[str, int]:
    """Where a judge only scored: by the mean of its scores."""
    means = {seat: sum(each.values()) / len(each) for seat, each in scores.items()}
    return {seat: 1 + sum(other > mean for other in means.values()) for seat, mean in means.items()}


def _shares(ballot: Ballot, seats: AbstractSet[str]) -> dict[str, Fraction]:
    """Share of the others on the ballot that each beats, a tie counting half. A single one is compared with nothing."""
    ranks = {seat: rank for seat, rank in ballot.ranks.items() if seat in seats and seat != ballot.judge}
    if len(ranks) < 2:
        return {}
    beaten = {
        seat: sum(Fraction((other > rank) * 2 + (other == rank), 2) for each, other in ranks.items() if each != seat)
        for seat, rank in ranks.items()
    }
    return {seat: Fraction(count) / (len(ranks) - 1) for seat, count in beaten.items()}


def _mean_scores(ballots: Sequence[Ballot]) -> dict[str, float]:
    means: dict[str, list[float]] = defaultdict(list)
    for ballot in ballots:
        for seat, scores in ballot.scores.items():
            if scores and seat != ballot.judge:
                means[seat].append(sum(scores.values()) / len(scores))
    return {seat: round(sum(sorted(each)) / len(each), 9) for seat, each in means.items()}


def _neutral(text: str) -> bytes:
    return sha256(text.encode("utf-8", "replace")).digest()
