"""The report: what may be claimed first, then the numbers, then every question, then how it was done."""

from __future__ import annotations

import math
from typing import Final

from proxy.evaluation import plots
from proxy.evaluation.blocks import Block, Bullets, Figure, Heading, Paragraph, Table
from proxy.evaluation.claims import claims_of, sign_text
from proxy.evaluation.findings import Findings, QuestionFinding
from proxy.evaluation.judging import Outcome, verdict
from proxy.evaluation.plan import ROTATE, Plan
from proxy.evaluation.statistics import Interval, wilson
from proxy.pricing.money import Nano, usd_text

_SIGNS: Final = {1: "+", 0: "=", -1: "-"}
_NOT_KNOWN: Final = "not known"


def title_of(plan: Plan) -> str:
    """Of the whole."""
    count = len(plan.baselines)
    best = plan.baselines[0].name if count == 1 else f"the best of {count} models"
    return f"{plan.candidate.name} against {best}, {plan.questions_count} questions"


def blocks_of(findings: Findings) -> list[Block]:
    """In the order of the page."""
    claims = claims_of(findings)
    blocks: list[Block] = [Heading(title_of(findings.plan), 1)]
    if claims.notice:
        blocks.append(Paragraph(claims.notice, strong=True))
    blocks += [Heading("What may be claimed"), Bullets(claims.may or ("Nothing.",))]
    blocks += [Heading("What may not be claimed"), Bullets(claims.may_not)]
    for section in (_result, _domains, _baselines, _judges, _length, _spending, _inconclusive, _questions, _method):
        blocks += section(findings)
    return blocks


def _result(findings: Findings) -> list[Block]:
    tally, plan = findings.tally, findings.plan
    counts = (("won", tally.wins), ("tied", tally.ties), ("lost", tally.losses), ("inconclusive", tally.inconclusive))
    rows = tuple((name, str(count), _share(wilson(count, tally.count))) for name, count in counts)
    lost = f"At most {100 * tally.losses_at_most:.1f} % are lost (95 %, one-sided, exact)"
    worst = f"{100 * tally.losses_at_worst:.1f} % if every inconclusive one counts as lost"
    unanswered = findings.failed_answers[plan.candidate.name]
    return [
        Heading("Result"),
        Table(f"n = {tally.count} questions, all counted; 95 % Wilson intervals", ("", "questions", "share"), rows),
        Paragraph(f"{lost}; {worst}. Wins against losses: {sign_text(tally.sign_p)}, two-sided."),
        Paragraph(
            f"Rubric score, candidate less baseline: {_signed(findings.difference)} over {findings.differences_count} "
            f"questions (95 %, paired bootstrap, {plan.resamples} resamples); margin {plan.rubric_margin:g}. "
            f"The candidate did not answer {unanswered} questions, which count as lost."
        ),
        Figure(plots.differences(findings), "Each line is one question; the band is the margin, the dot the mean."),
    ]


def _domains(findings: Findings) -> list[Block]:
    rows = []
    for name, tally in findings.domains.items():
        counts = (tally.wins, tally.ties, tally.losses, tally.inconclusive)
        rows.append(
            (
                name,
                *map(str, counts),
                _share(tally.win_rate),
                _share(tally.loss_rate),
                _signed(findings.domain_differences[name]),
            )
        )
    head = ("domain", "won", "tied", "lost", "inconclusive", "win rate", "loss rate", "rubric difference")
    svg = plots.shares_by_domain({"all": findings.tally, **findings.domains})
    return [
        Heading("By domain"),
        Table("Exploratory: no test by domain was planned", head, tuple(rows)),
        Figure(svg, "Circles: share won; squares: share lost; 95 % intervals."),
    ]


def _baselines(findings: Findings) -> list[Block]:
    plan = findings.plan
    rows = [(plan.candidate.name, _number(findings.scores[plan.candidate.name]), "", "")]
    for baseline in plan.baselines:
        name = baseline.name
        picked = str(findings.picked.get(name, 0))
        rows.append((name, _number(findings.scores[name]), picked, _signed(findings.against[name])))
    head = ("model", "mean rubric score", "picked as best", "candidate less this one")
    return [Heading("Against each model"), Table("Rubric scores from 0 to 1, by unrelated judges", head, tuple(rows))]


def _judges(findings: Findings) -> list[Block]:
    rows = []
    for one in findings.judges:
        without = one.without
        rows.append(
            (
                f"{one.judge.name} ({one.judge.vendor})",
                f"{one.rubrics} / {one.pairs}",
                f"{one.abstained} / {one.failed}",
                str(one.related),
                _percent(one.consistent),
                _percent(one.first_preferred),
                f"{without.wins} / {without.ties} / {without.losses} / {without.inconclusive}",
                _signed(one.without_difference),
            )
        )
    head = (
        "judge", "rubrics / pairs", "abstained / failed calls", "own vendor's, not counted", "same in both orders",
        "prefers the first", "without it: won / tied / lost / inconclusive", "rubric difference without it",
    )  # fmt: skip
    alphas = (findings.alpha_verdicts, findings.alpha_criteria, findings.alpha_scores)
    verdicts, criteria, scores = (_NOT_KNOWN if alpha is None else f"{alpha:.3f}" for alpha in alphas)
    related = sum(bool(one.related_scorers) for one in findings.questions)
    return [
        Heading("Judges"),
        Table("Each judge, and the result without it", head, tuple(rows)),
        Paragraph(
            f"Krippendorff's alpha: verdicts {verdicts} (ordinal), criteria {criteria} (nominal), rubric scores "
            f"{scores} (interval); 1 is agreement, 0 is chance, below 0.667 nothing should be concluded. Both orders "
            f"agree in {_percent(findings.consistent)} of pairs; of all preferences "
            f"{_percent(findings.first_preferred)} are for the answer shown first (50 % is no bias). In {related} "
            "questions a judge of either answer's vendor had to judge, because nobody else was left. "
            f"{findings.unblinded} answers name a vendor or a model, so that judges may have known or guessed whose."
        ),
    ]


def _length(findings: Findings) -> list[Block]:
    ratio = _NOT_KNOWN if findings.length_ratio is None else f"{findings.length_ratio:.2f} times"
    return [
        Heading("Length"),
        Paragraph(
            f"The candidate's answers are {ratio} as long as the baseline's (geometric mean). Win rate with ties "
            f"counted half, conclusive questions: {_percent(findings.win_rate_half_ties)}; at equal length: "
            f"{_percent(findings.win_rate_length_controlled)} (logistic regression)."
        ),
    ]


def _spending(findings: Findings) -> list[Block]:
    rows = []
    for name, one in findings.spending.items():
        each = _NOT_KNOWN if one.cost_each is None else f"${usd_text(one.cost_each, places=6)}"
        seconds = [_NOT_KNOWN if value is None else f"{value:.2f} s" for value in (one.seconds_median, one.seconds_p95)]
        tokens = _NOT_KNOWN if one.output_tokens_mean is None else f"{one.output_tokens_mean:.0f}"
        answers = f"{one.answers} ({findings.failed_answers[name]} failed, {one.cut} cut at the limit)"
        listed = "" if one.list_cost_each is None else f"${usd_text(one.list_cost_each, places=6)}"
        rows.append((name, answers, each, one.basis or "", listed, *seconds, tokens))
    head = (
        "model", "answers", "cost of one", "known from", "all its calls at list", "median", "p95",
        "output tokens of one, all calls",
    )  # fmt: skip
    judging = _NOT_KNOWN if findings.judging_cost is None else f"${usd_text(Nano(findings.judging_cost), places=4)}"
    blocks: list[Block] = [
        Heading("Cost and latency"),
        Table("Whole answers, as this machine saw them", head, tuple(rows)),
        Paragraph(f"Judging cost {judging}."),
    ]
    svg = plots.cost_and_latency(findings)
    shown = "The circle is the candidate; to the right is slower, upwards dearer."
    return [*blocks, Figure(svg, shown)] if svg else blocks


def _inconclusive(findings: Findings) -> list[Block]:
    some = [one for one in findings.questions if one.outcome is Outcome.INCONCLUSIVE]
    rows = tuple((one.question.id, one.question.domain, one.reason, _said(findings.plan, one)) for one in some)
    if not rows:
        return [Heading("Inconclusive questions"), Paragraph("None.")]
    caption = "Counted in every share above; none is left out"
    return [Heading("Inconclusive questions"), Table(caption, ("question", "domain", "why", "verdicts"), rows)]


def _questions(findings: Findings) -> list[Block]:
    rows = []
    for one in findings.questions:
        difference = "" if one.difference is None else f"{one.difference:+.2f}"
        ours, theirs = _points(one, findings.plan.candidate.name), _points(one, one.baseline)
        picked = f"{one.baseline} (by {one.picker})" if one.baseline else ""
        said = _said(findings.plan, one)
        rows.append((one.question.id, one.outcome.value, picked, said, difference, ours, theirs))
    head = ("question", "outcome", "baseline", "verdicts", "rubric difference", "points", "baseline's points")
    caption = "+ candidate, = tie, - baseline; points: as more than half of the judges found them, and faults committed"
    return [Heading("All questions"), Table(caption, head, tuple(rows))]


def _method(findings: Findings) -> list[Block]:
    plan = findings.plan
    picker = "each judge in its turn" if plan.picker == ROTATE else plan.picker
    rule = {
        "majority": f"more than half of the judges prefer it by {plan.margin:g} of 10 or more",
        "mean": f"the judges' mean preference is {plan.margin:g} of 10 or more",
    }[plan.tie_rule]
    return [
        Heading("How it was done"),
        Bullets(
            (
                "Candidate and baselines get the question and nothing else, once.",
                f"The best baseline of each question is picked by one judge ({picker}) by its rubric, and judged by "
                "the others: a baseline picked by those who judge it would profit from their errors.",
                "Judges see no names, random labels, both orders; orders that name different winners are a tie. What "
                "they say is validated; a judge that gives no readable verdict abstains.",
                "A judge of either answer's vendor does not count while others remain.",
                f"Won: {rule}. Inconclusive: judges on both sides without a majority, fewer than {plan.verdicts_min} "
                "verdicts, or no baseline. A question that the candidate does not answer is lost.",
                "Rubric: points of the criteria met less penalties, by the most possible, from 0 to 1.",
            )
        ),
        Table("The plan, written before the first question was asked", ("setting", "value"), _settings(plan)),
    ]


def _settings(plan: Plan) -> tuple[tuple[str, str], ...]:
    rows = [("digest", plan.digest)]
    for name, value in plan.model_dump().items():
        if isinstance(value, dict):
            text = _entrant(value)
        elif isinstance(value, tuple | list):
            text = ", ".join(_entrant(one) for one in value)
        else:
            text = str(value)
        rows.append((name.replace("_", " "), text))
    return tuple(rows)


def _entrant(value: dict[str, str]) -> str:
    return f"{value['name']} ({value['vendor'] or 'no vendor'})"


def _said(plan: Plan, one: QuestionFinding) -> str:
    return " ".join(_SIGNS[verdict(found.difference, plan.margin)] for found in one.verdicts)


def _points(one: QuestionFinding, model: str) -> str:
    met = one.points(model) if model else None
    if met is None:
        return ""
    rubric = one.question.rubric
    points = sum(criterion.points for criterion, hit in zip(rubric, met, strict=True) if hit)
    faults = sum(criterion.points < 0 for criterion, hit in zip(rubric, met, strict=True) if hit)
    return f"{points} of {one.question.points_max}" + (f", {faults} faults" if faults else "")


def _share(interval: Interval) -> str:
    return f"{100 * interval.estimate:.0f} % ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def _percent(share: float | None) -> str:
    return _NOT_KNOWN if share is None else f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    return _NOT_KNOWN if value is None else f"{value:.3f}"


def _signed(interval: Interval) -> str:
    if math.isinf(interval.low):
        return _NOT_KNOWN
    return f"{interval.estimate:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"
