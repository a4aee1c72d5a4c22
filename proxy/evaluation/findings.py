"""What a comparison found: question by question, judge by judge, and all together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean

from proxy.evaluation.judging import Outcome, PairVerdict
from proxy.evaluation.plan import Entrant, Plan
from proxy.evaluation.questions import Question
from proxy.evaluation.spending import Spending
from proxy.evaluation.statistics import Interval, sign_test, upper_bound, wilson


@dataclass(frozen=True, slots=True)
class Rubric:
    """What judges found of one answer."""

    met: dict[str, tuple[bool, ...]]
    """By judge: criterion by criterion."""
    scores: dict[str, float]
    """By judge, 0 to 1."""
    related: frozenset[str]
    """Judges of the author's own vendor."""

    def mean(self, judges: Iterable[str]) -> float | None:
        """Of these judges' scores."""
        known = [self.scores[judge] for judge in judges if judge in self.scores]
        return fmean(known) if known else None


@dataclass(frozen=True, slots=True)
class QuestionFinding:
    """One question."""

    question: Question
    outcome: Outcome
    reason: str = ""
    """Why it is inconclusive, or lost without an answer."""
    picker: str = ""
    baseline: str = ""
    scorers: tuple[str, ...] = ()
    """Judges of the pair, whether they gave a verdict or not."""
    related_scorers: tuple[str, ...] = ()
    """Of them, those of either answer's vendor: nobody else was left."""
    verdicts: tuple[PairVerdict, ...] = ()
    rubrics: dict[str, Rubric] = field(default_factory=dict)
    """By model."""
    difference: float | None = None
    """Rubric score of the candidate less the baseline's, by the scorers."""
    lengths: tuple[int, int] | None = None
    """Characters of the candidate's answer and of the baseline's."""

    def points(self, model: str) -> tuple[bool, ...] | None:
        """Each criterion, as more than half of the judges found it; judges of the author's vendor do not count as
        long as others do."""
        rubric = self.rubrics.get(model)
        if rubric is None or not rubric.met:
            return None
        votes = [met for judge, met in rubric.met.items() if judge not in rubric.related] or list(rubric.met.values())
        return tuple(2 * sum(column) > len(votes) for column in zip(*votes, strict=True))


@dataclass(frozen=True, slots=True)
class Tally:
    """Outcomes of some questions. Shares are of all of them, inconclusive ones among them."""

    wins: int
    ties: int
    losses: int
    inconclusive: int

    @property
    def count(self) -> int:
        return self.wins + self.ties + self.losses + self.inconclusive

    @property
    def win_rate(self) -> Interval:
        return wilson(self.wins, self.count)

    @property
    def loss_rate(self) -> Interval:
        return wilson(self.losses, self.count)

    @property
    def losses_at_most(self) -> float:
        """One-sided and exact."""
        return upper_bound(self.losses, self.count)

    @property
    def losses_at_worst(self) -> float:
        """The same if every inconclusive question was lost."""
        return upper_bound(self.losses + self.inconclusive, self.count)

    @property
    def sign_p(self) -> float:
        return sign_test(self.wins, self.losses)


@dataclass(frozen=True, slots=True)
class JudgeFinding:
    """One judge."""

    judge: Entrant
    rubrics: int
    pairs: int
    abstained: int
    failed: int
    related: int
    """Rubric grades of its own vendor's answers: shown, not counted."""
    consistent: float | None
    """Share of pairs in which both orders name the same winner, or none."""
    first_preferred: float | None
    """Share of preferences that are for the answer shown first; half is no bias."""
    without: Tally
    """All outcomes as they would be without it."""
    without_difference: Interval


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that a report says."""

    plan: Plan
    questions: tuple[QuestionFinding, ...]
    complete: bool
    tally: Tally
    domains: dict[str, Tally]
    difference: Interval
    """Mean rubric difference, candidate less picked baseline."""
    domain_differences: dict[str, Interval]
    differences_count: int
    against: dict[str, Interval]
    """The same against each baseline by itself, all judges of other vendors counted."""
    scores: dict[str, float | None]
    """Mean rubric score by model."""
    picked: dict[str, int]
    """How often each baseline was the best one."""
    win_rate_half_ties: float | None
    win_rate_length_controlled: float | None
    length_ratio: float | None
    """Geometric mean of the candidate's length by the baseline's."""
    alpha_verdicts: float | None
    alpha_criteria: float | None
    alpha_scores: float | None
    consistent: float | None
    first_preferred: float | None
    judges: tuple[JudgeFinding, ...]
    spending: dict[str, Spending]
    judging_cost: int | None
    fingerprints: tuple[str, ...]
    failed_answers: dict[str, int]
    unblinded: int
    """Answers in which a vendor or a model is named."""


def tally(outcomes: Iterable[Outcome]) -> Tally:
    """Counted."""
    count = Counter(outcomes)
    return Tally(count[Outcome.WIN], count[Outcome.TIE], count[Outcome.LOSS], count[Outcome.INCONCLUSIVE])
