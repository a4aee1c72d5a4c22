"""What the findings allow to be said of the candidate, and what not. By rules that no result can bend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.evaluation.agreement import TENTATIVE_MIN
from proxy.evaluation.findings import Findings

SIGNIFICANCE: Final = 0.05
SCRIPTED: Final = (
    "This run claims nothing about quality. Its models are scripted: it shows that the comparison works, and every "
    "figure below is made up."
)
INCOMPLETE: Final = "This run is not complete. It claims nothing until every call of the plan was made."


@dataclass(frozen=True, slots=True)
class Claims:
    """Sentences."""

    notice: str
    """Stands before everything else; empty: nothing to say."""
    may: tuple[str, ...]
    may_not: tuple[str, ...]


def claims_of(findings: Findings) -> Claims:
    """A notice leaves nothing that may be claimed."""
    scripted = findings.plan.scripted or any("scripted" in mark for mark in findings.fingerprints)
    notice = " ".join([SCRIPTED] * scripted + [INCOMPLETE] * (not findings.complete))
    may, may_not = _quality(findings)
    if notice:
        return Claims(notice, (), ("Anything about the quality of an answer, a model or a mode.",))
    return Claims("", tuple(may), tuple(may_not + _always(findings)))


def is_better(findings: Findings) -> bool:
    """More wins than losses, by more than chance, without any one judge too, and not against the rubric."""
    tally = findings.tally
    every = all(judge.without.wins > judge.without.losses for judge in findings.judges)
    return tally.sign_p < SIGNIFICANCE and tally.wins > tally.losses and every and not _contradicted(findings)


def _contradicted(findings: Findings) -> bool:
    """Preferred in comparison, and surely lower by the rubric."""
    return findings.tally.wins > findings.tally.losses and findings.difference.high < 0


def is_not_worse(findings: Findings) -> bool:
    """The interval of the rubric difference lies above the margin that the plan sets."""
    return findings.differences_count > 1 and findings.difference.low > -findings.plan.rubric_margin


def sign_text(p: float) -> str:
    """The p of the sign test, as it is told."""
    return "sign test p < 0.001" if p < 0.001 else f"sign test p = {p:.3f}"


def _quality(findings: Findings) -> tuple[list[str], list[str]]:
    plan, tally, difference = findings.plan, findings.tally, findings.difference
    name, best = plan.candidate.name, "the best baseline of each question"
    may, may_not = [], []
    better = f"{name} wins more often than it loses against {best}: {tally.wins} to {tally.losses}"
    if is_better(findings):
        may.append(f"{better} of {tally.count} ({sign_text(tally.sign_p)}; also without any one judge).")
    else:
        why = "comparison and rubric contradict each other" if _contradicted(findings) else sign_text(tally.sign_p)
        may_not.append(f"{name} is better than {best} ({why}).")
    margin = f"{plan.rubric_margin:g} of 1"
    if is_not_worse(findings):
        worst = f"lower bound {difference.low:+.3f}"
        may.append(f"{name} scores no more than {margin} below {best} by rubric ({worst}).")
    else:
        may_not.append(f"{name} is not worse than {best} by the margin of {margin} that was set beforehand.")
    most, worst_case = 100 * tally.losses_at_most, 100 * tally.losses_at_worst
    unclear = "" if tally.inconclusive == 0 else f"; {worst_case:.1f} % if all inconclusive ones were lost"
    may.append(f"On questions like these it loses at most {most:.1f} % (95 %, one-sided{unclear}).")
    may_not.append(f"It never loses: {tally.losses} losses of {tally.count} still allow for {most:.1f} %.")
    return may, may_not


def _always(findings: Findings) -> list[str]:
    said = [
        "Anything about one domain: the plan sets no test by domain, and the intervals there are wide.",
        "Anything about questions of another kind, in another language, or with tools and fresh data.",
        "That people would judge the same: all judges are models, and models share errors.",
    ]
    alpha = findings.alpha_verdicts
    if alpha is None or alpha < TENTATIVE_MIN:
        shown = "not defined" if alpha is None else f"{alpha:.2f}"
        said.append(f"Anything as settled: judges agree too little for that (alpha {shown}, below {TENTATIVE_MIN}).")
    return said
