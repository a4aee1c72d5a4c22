"""Who judges what, and what their verdicts come to. Pure.

The best baseline of a question is picked by one judge and judged by the others. Were it picked by those who judge it,
it would be the one that their errors favour: a candidate exactly as good as three baselines then loses 23 % of
questions and wins 2 %, at a margin and an error of half a point.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from proxy.evaluation.plan import ROTATE, Entrant, Plan
from proxy.evaluation.prompts import drawn


class Outcome(Enum):
    """Of one question, for the candidate."""

    WIN = "win"
    TIE = "tie"
    LOSS = "loss"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """What one judge said of candidate and baseline, in both orders."""

    judge: str
    difference: float
    """The candidate's score less the baseline's, mean of both orders; 0 where the orders name different winners."""
    consistent: bool
    """Both orders name the same winner, or none."""
    first_preferred: int
    """How many of the two orders name the answer shown first ..."""
    preferred: int
    """... of those that name one."""


def pickers(plan: Plan, question: str) -> list[Entrant]:
    """Judges in the order in which they are asked to pick: the second where the first abstains."""
    names = [judge.name for judge in plan.judges]
    if plan.picker == ROTATE:
        first = int.from_bytes(drawn(plan.seed, "picker", question)[:8]) % len(names)
    else:
        first = names.index(plan.picker)
    return [plan.judges[(first + step) % len(names)] for step in range(len(names))]


def pick(scores: Mapping[str, Mapping[str, float]], by: Sequence[str], seed: int, question: str) -> str | None:
    """The baseline with the highest mean of the scores that `by` gave; equals are drawn. None: nobody scored any."""
    means: dict[str, float] = {}
    for baseline, given in scores.items():
        known = [given[judge] for judge in by if judge in given]
        if known:
            means[baseline] = math.fsum(known) / len(known)
    return max(means, key=lambda name: (means[name], drawn(seed, "pick", question, name)), default=None)


def unrelated(judges: Sequence[Entrant], *authors: Entrant) -> list[Entrant]:
    """Judges of other vendors than the authors'; all of them where nobody else is left."""
    vendors = {author.vendor for author in authors if author.vendor}
    return [judge for judge in judges if judge.vendor not in vendors] or list(judges)


def scorers(plan: Plan, picker: str, baseline: Entrant) -> list[Entrant]:
    """Who judges the pair: neither the picker nor, as long as others remain, a judge of either answer's vendor."""
    return unrelated([judge for judge in plan.judges if judge.name != picker], plan.candidate, baseline)


def is_related(judge: Entrant, *authors: Entrant) -> bool:
    """Whether it judges its own vendor's answer."""
    return any(judge.vendor == author.vendor for author in authors)


def pair_verdict(judge: str, ours_first: tuple[float, float], theirs_first: tuple[float, float]) -> PairVerdict:
    """From the scores in the order shown, of both orders. Orders that name different winners are a tie."""
    first, second = ours_first[0] - ours_first[1], theirs_first[1] - theirs_first[0]
    consistent = _sign(first) == _sign(second)
    difference = (first + second) / 2 if consistent else 0.0
    preferred = (first != 0) + (second != 0)
    return PairVerdict(judge, difference, consistent, (first > 0) + (second < 0), preferred)


def verdict(difference: float, margin: float) -> int:
    """1, 0 or -1: less than the margin is a tie, and so is no difference."""
    return 0 if abs(difference) < margin else _sign(difference)


def outcome(differences: Sequence[float], plan: Plan, *, verdicts_min: int | None = None) -> Outcome:
    """Of the judges' differences, by the plan's rule."""
    count = len(differences)
    if count < (plan.verdicts_min if verdicts_min is None else verdicts_min) or count == 0:
        return Outcome.INCONCLUSIVE
    if plan.tie_rule == "mean":
        return _OUTCOMES[verdict(math.fsum(differences) / count, plan.margin)]
    said = [verdict(difference, plan.margin) for difference in differences]
    wins, losses = said.count(1), said.count(-1)
    if 2 * wins > count:
        return Outcome.WIN
    if 2 * losses > count:
        return Outcome.LOSS
    return Outcome.INCONCLUSIVE if wins and losses else Outcome.TIE


_OUTCOMES = {1: Outcome.WIN, 0: Outcome.TIE, -1: Outcome.LOSS}


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
