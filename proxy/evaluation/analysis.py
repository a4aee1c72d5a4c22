"""From a journal to findings: every question, whatever became of it. Pure, and the same each time."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Final

from proxy.evaluation.agreement import Level, alpha
from proxy.evaluation.findings import Findings, JudgeFinding, QuestionFinding, Rubric, tally
from proxy.evaluation.journal import ABSTAINED, FAILED, OK, Entry, key_of
from proxy.evaluation.judging import (
    Outcome,
    PairVerdict,
    is_related,
    outcome,
    pair_verdict,
    scorers,
    unrelated,
    verdict,
)
from proxy.evaluation.plan import Entrant, Plan
from proxy.evaluation.questions import Question, QuestionSet
from proxy.evaluation.running import ANSWER, ORDERS, PAIR, RUBRIC, missing, picked_of
from proxy.evaluation.spending import spending_of
from proxy.evaluation.statistics import Interval, bootstrap_mean, length_controlled

NO_ANSWER = "the candidate did not answer"
NO_BASELINE = "no baseline answered, or nobody could pick one"
TOO_FEW = "too few judges gave a verdict"
SPLIT = "judges contradict each other"
_NAMES: Final = re.compile(
    r"\b(openai|chatgpt|gpt-[0-9]|anthropic|claude|gemini|mistral|llama|deepseek|qwen|grok)\b", re.IGNORECASE
)


def findings_of(plan: Plan, questions: QuestionSet, entries: dict[str, Entry]) -> Findings:
    """Of what the journal has; a question that it lacks is inconclusive, and `complete` is False."""
    found = tuple(_finding(plan, question, entries) for question in questions.questions)
    measured = [one for one in found if one.difference is not None]
    compared = [one for one in found if one.lengths is not None and one.outcome is not Outcome.INCONCLUSIVE]
    half_ties = [_HALF_TIES[one.outcome] for one in compared]
    lengths = [one.lengths for one in compared if one.lengths is not None]
    verdicts = [verdict for one in found for verdict in one.verdicts]
    by_domain = {domain: [one for one in found if one.question.domain == domain] for domain in questions.domains}
    judging = [entry for key, entry in entries.items() if not key.startswith(ANSWER)]
    return Findings(
        plan=plan,
        questions=found,
        complete=missing(plan, questions, entries) == 0,
        tally=tally(one.outcome for one in found),
        domains={domain: tally(one.outcome for one in some) for domain, some in by_domain.items()},
        difference=_mean_difference(plan, measured),
        domain_differences={domain: _mean_difference(plan, some) for domain, some in by_domain.items()},
        differences_count=len(measured),
        against={baseline.name: _against(plan, found, baseline) for baseline in plan.baselines},
        scores={one.name: _mean_score(plan, found, one) for one in plan.entrants},
        picked=dict(Counter(one.baseline for one in found if one.baseline)),
        win_rate_half_ties=fmean(half_ties) if half_ties else None,
        win_rate_length_controlled=length_controlled(half_ties, lengths),
        length_ratio=_length_ratio(lengths),
        alpha_verdicts=alpha((_verdict_unit(plan, one) for one in found), Level.ORDINAL),
        alpha_criteria=alpha(_criterion_units(plan, found), Level.NOMINAL),
        alpha_scores=alpha(_score_units(plan, found), Level.INTERVAL),
        consistent=_share(verdicts, lambda one: one.consistent),
        first_preferred=_first_preferred(verdicts),
        judges=tuple(_judge_finding(plan, found, entries, judge) for judge in plan.judges),
        spending={one.name: spending_of(one.name, entries) for one in plan.entrants},
        judging_cost=sum(entry.cost for entry in judging if entry.cost is not None) if _priced(judging) else None,
        fingerprints=tuple(
            sorted({entry.extra["fingerprint"] for entry in entries.values() if "fingerprint" in entry.extra})
        ),
        unblinded=sum(key.startswith(ANSWER) and bool(_NAMES.search(entry.text)) for key, entry in entries.items()),
        failed_answers={one.name: _failed(entries, one) for one in plan.entrants},
    )


_HALF_TIES = {Outcome.WIN: 1.0, Outcome.TIE: 0.5, Outcome.LOSS: 0.0}


def _finding(plan: Plan, question: Question, entries: dict[str, Entry]) -> QuestionFinding:
    rubrics = {entrant.name: _rubric(plan, question, entrant, entries) for entrant in plan.entrants}
    ours = entries.get(key_of(ANSWER, question.id, plan.candidate.name))
    picked = picked_of(plan, question, entries)
    if picked is None:
        return QuestionFinding(question, Outcome.INCONCLUSIVE, NO_BASELINE, rubrics=rubrics)
    picker, baseline = picked
    if ours is None or ours.status != OK:
        lost = Outcome.INCONCLUSIVE if ours is None else Outcome.LOSS
        return QuestionFinding(question, lost, NO_ANSWER, picker, baseline.name, rubrics=rubrics)
    theirs = entries[key_of(ANSWER, question.id, baseline.name)]
    judges = scorers(plan, picker, baseline)
    names = tuple(judge.name for judge in judges)
    verdicts = tuple(found for name in names if (found := _verdict(entries, question, baseline, name)) is not None)
    came = outcome([one.difference for one in verdicts], plan)
    reason = ""
    if came is Outcome.INCONCLUSIVE:
        reason = TOO_FEW if len(verdicts) < plan.verdicts_min else SPLIT
    both = [name for name in names if all(name in rubrics[one].scores for one in (plan.candidate.name, baseline.name))]
    return QuestionFinding(
        question,
        came,
        reason,
        picker,
        baseline.name,
        names,
        tuple(judge.name for judge in judges if is_related(judge, plan.candidate, baseline)),
        verdicts,
        rubrics,
        _gap(rubrics[plan.candidate.name], rubrics[baseline.name], both),
        (len(ours.text), len(theirs.text)),
    )


def _rubric(plan: Plan, question: Question, author: Entrant, entries: dict[str, Entry]) -> Rubric:
    met = {}
    for judge in plan.judges:
        entry = entries.get(key_of(RUBRIC, question.id, author.name, judge.name))
        if entry is not None and entry.status == OK:
            met[judge.name] = tuple(bool(one) for one in entry.verdict or ())
    scores = {name: question.score(one) for name, one in met.items()}
    return Rubric(met, scores, frozenset(one.name for one in plan.judges if is_related(one, author)))


def _verdict(entries: dict[str, Entry], question: Question, baseline: Entrant, judge: str) -> PairVerdict | None:
    """None: either order is missing."""
    scores = []
    for order in ORDERS:
        entry = entries.get(key_of(PAIR, question.id, baseline.name, judge, order))
        if entry is None or entry.status != OK or entry.verdict is None:
            return None
        scores.append((float(entry.verdict[0]), float(entry.verdict[1])))
    return pair_verdict(judge, scores[0], scores[1])


def _gap(ours: Rubric, theirs: Rubric, judges: Sequence[str]) -> float | None:
    return fmean(ours.scores[judge] - theirs.scores[judge] for judge in judges) if judges else None


def _mean_difference(plan: Plan, found: Iterable[QuestionFinding]) -> Interval:
    known = [one.difference for one in found if one.difference is not None]
    return bootstrap_mean(known, plan.seed, plan.resamples)


def _against(plan: Plan, found: Iterable[QuestionFinding], baseline: Entrant) -> Interval:
    judges = [judge.name for judge in unrelated(plan.judges, plan.candidate, baseline)]
    gaps = []
    for one in found:
        ours, theirs = one.rubrics[plan.candidate.name], one.rubrics[baseline.name]
        gap = _gap(ours, theirs, [name for name in judges if name in ours.scores and name in theirs.scores])
        if gap is not None:
            gaps.append(gap)
    return bootstrap_mean(gaps, plan.seed, plan.resamples)


def _mean_score(plan: Plan, found: Iterable[QuestionFinding], author: Entrant) -> float | None:
    judges = [judge.name for judge in unrelated(plan.judges, author)]
    known = [mean for one in found if (mean := one.rubrics[author.name].mean(judges)) is not None]
    return fmean(known) if known else None


def _judge_finding(
    plan: Plan, found: Sequence[QuestionFinding], entries: Mapping[str, Entry], judge: Entrant
) -> JudgeFinding:
    own = [entry for key, entry in entries.items() if judge.name in _judge_of(key)]
    verdicts = [verdict for one in found for verdict in one.verdicts if verdict.judge == judge.name]
    gaps, outcomes = [], []
    for one in found:
        others = [verdict.difference for verdict in one.verdicts if verdict.judge != judge.name]
        heard = len(others) < len(one.verdicts)
        outcomes.append(outcome(others, plan, verdicts_min=1) if heard else one.outcome)
        left = [name for name in one.scorers if name != judge.name]
        if one.baseline:
            ours, theirs = one.rubrics[plan.candidate.name], one.rubrics[one.baseline]
            gap = _gap(ours, theirs, [name for name in left if name in ours.scores and name in theirs.scores])
            gaps += [] if gap is None else [gap]
    return JudgeFinding(
        judge,
        sum(entry.key.startswith(RUBRIC) and entry.status == OK for entry in own),
        len(verdicts),
        sum(entry.status == ABSTAINED for entry in own),
        sum(entry.status == FAILED for entry in own),
        sum(
            judge.name in rubric.related and judge.name in rubric.met
            for one in found
            for rubric in one.rubrics.values()
        ),
        _share(verdicts, lambda one: one.consistent),
        _first_preferred(verdicts),
        tally(outcomes),
        bootstrap_mean(gaps, plan.seed, plan.resamples),
    )


def _judge_of(key: str) -> tuple[str, ...]:
    """Whose call it is; nobody's where it is an answer."""
    kind, _, rest = key.partition("|")
    return () if kind == ANSWER else (rest.split("|")[2],)


def _verdict_unit(plan: Plan, one: QuestionFinding) -> list[float | None]:
    said = {found.judge: float(verdict(found.difference, plan.margin)) for found in one.verdicts}
    return [said.get(judge.name) for judge in plan.judges]


def _criterion_units(plan: Plan, found: Iterable[QuestionFinding]) -> Iterable[list[float | None]]:
    for one in found:
        for rubric in one.rubrics.values():
            columns = [rubric.met.get(judge.name) for judge in plan.judges]
            for at in range(len(one.question.rubric)):
                yield [None if column is None else float(column[at]) for column in columns]


def _score_units(plan: Plan, found: Iterable[QuestionFinding]) -> Iterable[list[float | None]]:
    for one in found:
        for rubric in one.rubrics.values():
            yield [rubric.scores.get(judge.name) for judge in plan.judges]


def _share[T](items: Sequence[T], holds: Callable[[T], bool]) -> float | None:
    return sum(map(holds, items)) / len(items) if items else None


def _first_preferred(verdicts: Sequence[PairVerdict]) -> float | None:
    preferred = sum(one.preferred for one in verdicts)
    return sum(one.first_preferred for one in verdicts) / preferred if preferred else None


def _length_ratio(lengths: Sequence[tuple[int, int]]) -> float | None:
    if not lengths:
        return None
    return math.exp(fmean(math.log((ours + 1) / (theirs + 1)) for ours, theirs in lengths))


def _priced(entries: Sequence[Entry]) -> bool:
    return any(entry.cost is not None for entry in entries)


def _failed(entries: Mapping[str, Entry], author: Entrant) -> int:
    return sum(
        entry.status == FAILED
        for key, entry in entries.items()
        if key.startswith(ANSWER) and key.endswith("|" + author.name)
    )
