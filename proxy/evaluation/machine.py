"""Findings for programs: one JSON object, every question and every verdict in it. Answers stay in the journal."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from proxy.evaluation.claims import claims_of
from proxy.evaluation.findings import Findings, JudgeFinding, QuestionFinding, Tally
from proxy.evaluation.statistics import Interval


def plain(findings: Findings) -> dict[str, Any]:
    """JSON values only. Intervals are [estimate, low, high], 95 %; what is not known is null."""
    claims = claims_of(findings)
    return {
        "notice": claims.notice or None,
        "may_claim": claims.may,
        "may_not_claim": claims.may_not,
        "complete": findings.complete,
        "plan": {**findings.plan.model_dump(), "digest": findings.plan.digest},
        "result": _tally(findings.tally),
        "rubric_difference": _interval(findings.difference),
        "domains": {
            name: {**_tally(tally), "rubric_difference": _interval(findings.domain_differences[name])}
            for name, tally in findings.domains.items()
        },
        "rubric_scores": findings.scores,
        "picked": findings.picked,
        "against": {name: _interval(interval) for name, interval in findings.against.items()},
        "win_rate_half_ties": findings.win_rate_half_ties,
        "win_rate_length_controlled": findings.win_rate_length_controlled,
        "length_ratio": findings.length_ratio,
        "alpha": {
            "verdicts": findings.alpha_verdicts,
            "criteria": findings.alpha_criteria,
            "scores": findings.alpha_scores,
        },
        "swap_consistency": findings.consistent,
        "first_preferred": findings.first_preferred,
        "judges": [_judge(judge) for judge in findings.judges],
        "spending": {name: asdict(one) for name, one in findings.spending.items()},
        "judging_cost_nano": findings.judging_cost,
        "failed_answers": findings.failed_answers,
        "unblinded_answers": findings.unblinded,
        "questions": [_question(one) for one in findings.questions],
    }


def _question(one: QuestionFinding) -> dict[str, Any]:
    return {
        "id": one.question.id,
        "domain": one.question.domain,
        "outcome": one.outcome.value,
        "reason": one.reason or None,
        "picker": one.picker or None,
        "baseline": one.baseline or None,
        "judges": one.scorers,
        "judges_of_own_vendor": one.related_scorers,
        "verdicts": [asdict(verdict) for verdict in one.verdicts],
        "rubric_difference": one.difference,
        "characters": one.lengths,
        "rubrics": {
            name: {"met": rubric.met, "scores": rubric.scores, "by_majority": one.points(name)}
            for name, rubric in one.rubrics.items()
        },
    }


def _judge(one: JudgeFinding) -> dict[str, Any]:
    return {
        "name": one.judge.name,
        "vendor": one.judge.vendor,
        "rubrics": one.rubrics,
        "pairs": one.pairs,
        "abstained": one.abstained,
        "failed": one.failed,
        "of_own_vendor": one.related,
        "swap_consistency": one.consistent,
        "first_preferred": one.first_preferred,
        "without": {**_tally(one.without), "rubric_difference": _interval(one.without_difference)},
    }


def _tally(tally: Tally) -> dict[str, Any]:
    return {
        "wins": tally.wins,
        "ties": tally.ties,
        "losses": tally.losses,
        "inconclusive": tally.inconclusive,
        "win_rate": _interval(tally.win_rate),
        "loss_rate": _interval(tally.loss_rate),
        "losses_at_most": tally.losses_at_most,
        "losses_at_worst": tally.losses_at_worst,
        "sign_p": tally.sign_p,
    }


def _interval(interval: Interval) -> list[float] | None:
    if math.isinf(interval.low):
        return None
    return [interval.estimate, interval.low, interval.high]
