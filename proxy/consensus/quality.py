"""How good the panel takes its answer to be: a score, what it rests on, and how sure that is."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import median
from typing import Final

from proxy.consensus.api import Quality, Severity
from proxy.consensus.ballots import SCORE_MAX, Ballot
from proxy.consensus.settings import DIMENSIONS, Weights

SHRINKAGE: Final = 2
"""A judge's mean of n answers moves n / (n + 2) of the way to the panel's: of few answers it says little."""
OTHER_JUDGES_MIN: Final = 2
"""So many judges of other vendors must remain where the synthesiser's are left out."""
HIGH_AGREEMENT: Final = 0.8
HIGH_VOTES: Final = 1.5
LOW_AGREEMENT: Final = 0.5
LOW_VOTES: Final = 1.2


@dataclass(frozen=True, slots=True)
class Judged:
    """What the judges say of one answer."""

    dimensions: dict[str, float]
    """0 to 10 each: the median over judges after centring."""
    share: float
    """0 to 1: the dimensions by their weights in the domain."""
    judges: int


def judged(
    ballots: Sequence[Ballot],
    seat: str,
    domain: str,
    weights: Weights,
    *,
    vendors: Mapping[str, str] | None = None,
    synthesiser_vendor: str | None = None,
) -> Judged | None:
    """Of every judge its own mean is subtracted (shrunk) and the panel's put in its place; judges of the synthesiser's
    vendor are left out where at least two others remain. None where nobody scored it."""
    scoring = [ballot for ballot in ballots if ballot.scores.get(seat) and ballot.judge != seat]
    others = [ballot for ballot in scoring if (vendors or {}).get(ballot.judge) != synthesiser_vendor]
    if synthesiser_vendor is not None and len(others) >= OTHER_JUDGES_MIN:
        scoring = others
    shifts = _shifts(ballots)
    said: dict[str, list[float]] = defaultdict(list)
    for ballot in scoring:
        for name, score in ballot.scores[seat].items():
            said[name].append(min(float(SCORE_MAX), max(0.0, score + shifts[ballot.judge])))
    dimensions: dict[str, float] = {name: round(median(said[name]), 4) for name in DIMENSIONS if name in said}
    of_domain = {name: share for name, share in dimension_weights(domain, weights).items() if name in dimensions}
    total = sum(of_domain.values(), Fraction(0))
    if not total:
        return None
    share = sum(dimensions[name] * float(part / total) for name, part in of_domain.items()) / SCORE_MAX
    return Judged(dimensions, min(1.0, max(0.0, share)), len(scoring))


def dimension_weights(domain: str, weights: Weights) -> dict[str, Fraction]:
    """The domain's, and the general ones for what it does not name."""
    return {**weights.dimensions["general"], **weights.dimensions.get(domain, {})}


def quality(
    judges: Judged | None,
    claims: Fraction | None,
    agreement: float,
    weights: Weights,
    *,
    contradiction: bool = False,
) -> Quality:
    """The score. `claims`: share that is supported, None where there are none to speak of (the others then take its
    weight); `contradiction`: one is not resolved, which caps the score. Calibrated where `weights` has a table."""
    if judges is not None:
        parts = [(weights.judges, judges.share), (weights.agreement, agreement)]
        claims_weight = weights.claims
    else:
        parts = [(weights.unjudged_agreement, agreement)]
        claims_weight = 1 - weights.unjudged_agreement
    if claims is not None:
        parts.append((claims_weight, float(claims)))
    total = sum((weight for weight, _ in parts), Fraction(0))
    raw = sum(float(weight / total) * share for weight, share in parts) if total else agreement
    score = 100 * calibrated(min(1.0, max(0.0, raw)), weights.calibration)
    if contradiction:
        score = min(score, float(weights.contradiction_cap))
    return Quality(
        round(score, 2),
        "judges" if judges is not None else "agreement",
        dict(judges.dimensions) if judges is not None else {},
        bool(weights.calibration),
    )


def fitted(samples: Sequence[tuple[float, bool]], *, points_max: int = 50) -> tuple[tuple[Fraction, Fraction], ...]:
    """Isotonic regression (pool adjacent violators) of right on raw score (0 to 1): a table for Weights.calibration,
    at most `points_max` points (at least 2), both columns rising. Equal scores are one point."""
    right: dict[Fraction, int] = defaultdict(int)
    count: dict[Fraction, int] = defaultdict(int)
    for raw, correct in samples:
        place = Fraction(round(raw * 10_000), 10_000)
        right[place] += correct
        count[place] += 1
    blocks: list[_Block] = []
    for place in sorted(count):
        blocks.append(_Block(place * count[place], right[place], count[place]))
        while len(blocks) > 1 and blocks[-2].rate >= blocks[-1].rate:
            last = blocks.pop()
            blocks[-1] = blocks[-1].with_(last)
    while len(blocks) > max(2, points_max):
        at = min(range(len(blocks) - 1), key=lambda index: blocks[index].count + blocks[index + 1].count)
        blocks[at : at + 2] = [blocks[at].with_(blocks[at + 1])]
    return tuple((block.place, block.rate) for block in blocks)


def calibrated(raw: float, table: Sequence[tuple[Fraction, Fraction]]) -> float:
    """Between the table's points linear, beyond them constant. The raw score where the table is empty."""
    if not table:
        return raw
    at = bisect_right([float(place) for place, _ in table], raw)
    if at == 0 or at == len(table):
        return float(table[max(0, at - 1)][1])
    (left, low), (right, high) = table[at - 1], table[at]
    return float(low) + float(high - low) * (raw - float(left)) / float(right - left)


def confidence(agreement: float, effective_votes: float, *, contradiction: bool = False) -> Severity:
    """How sure the panel is. High: four fifths agree, with one and a half independent votes at least, and nothing is
    contradicted. Low: fewer than half agree, or the votes are worth hardly more than one, or a contradiction stands
    while they do not agree either."""
    agrees = agreement >= HIGH_AGREEMENT
    if agreement < LOW_AGREEMENT or effective_votes < LOW_VOTES or (contradiction and not agrees):
        return Severity.LOW
    return Severity.HIGH if agrees and effective_votes >= HIGH_VOTES and not contradiction else Severity.MEDIUM


@dataclass(frozen=True, slots=True)
class _Block:
    """Neighbouring samples with one rate."""

    sum: Fraction
    right: int
    count: int

    @property
    def place(self) -> Fraction:
        return self.sum / self.count

    @property
    def rate(self) -> Fraction:
        return Fraction(self.right, self.count)

    def with_(self, other: _Block) -> _Block:
        return _Block(self.sum + other.sum, self.right + other.right, self.count + other.count)


def _shifts(ballots: Sequence[Ballot]) -> dict[str, float]:
    """What each judge's scores are moved by. The panel's mean is of answers, not of scores: every answer counts once,
    however many judges saw it, so that a judge is not thought mild for the good ones that it was shown."""
    given = {ballot.judge: _means(ballot) for ballot in ballots}
    by_seat: dict[str, list[float]] = defaultdict(list)
    for means in given.values():
        for seat, mean in means.items():
            by_seat[seat].append(mean)
    usual = {seat: sum(sorted(means)) / len(means) for seat, means in by_seat.items()}
    shifts: dict[str, float] = {}
    for judge, means in given.items():
        bias = sum(mean - usual[seat] for seat, mean in means.items()) / (len(means) + SHRINKAGE) if means else 0.0
        shifts[judge] = -bias
    return shifts


def _means(ballot: Ballot) -> dict[str, float]:
    return {
        seat: sum(scores.values()) / len(scores)
        for seat, scores in ballot.scores.items()
        if scores and seat != ballot.judge
    }
