"""Recorded answers of four models, judged by scripted judges: calibrated on one half, reported on the other, and the
other way round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from bench.consensus.checks.accuracy import against
from bench.consensus.findings import Finding, Plan, difference, percent, within
from bench.consensus.laws import Judging, Laws, Revising
from bench.consensus.panels import panel
from bench.consensus.replay import (
    MODELS,
    Recorded,
    accuracies,
    first_listed_plurality,
    learned_weights,
    oracle,
    pairwise_phi,
    plurality,
    recorded,
    sample,
)
from bench.consensus.running import Ran, run_all
from bench.consensus.statistics import binomial, paired
from proxy.consensus.quality import calibrated, fitted

BEST: Final = "175b-verified"
STATED_BEST: Final = 0.563
"""The best member's share over all 1,319 questions."""
BINS: Final = 5
CALIBRATION_ERROR_MAX: Final = 0.05


@dataclass(frozen=True, slots=True)
class Variant:
    """One panel."""

    name: str
    judging: Judging
    weighted: bool
    fidelity: float = 1.0
    judged: bool = True


AS_SHIPPED: Final = Variant("judges .75, no weights", Judging(accuracy=0.75), weighted=False)
CALIBRATED: Final = Variant("judges .75, weights learned on the other half", Judging(accuracy=0.75), weighted=True)
OTHERS: Final = (
    Variant("judges .75, weights, synthesiser follows the leader in 90 %", Judging(accuracy=0.75), True, 0.9),
    Variant("judges .75 with 30 % of their error in common, weights", Judging(accuracy=0.75, shared_noise=0.3), True),
    Variant("judges .65, weights", Judging(accuracy=0.65), True),
    Variant("judges .85, weights", Judging(accuracy=0.85), True),
    Variant("no judges (votes alone), no weights", Judging(), False, judged=False),
    Variant("no judges (votes alone), weights", Judging(), True, judged=False),
)


def measure(plan: Plan, seed: int) -> list[Finding]:
    """See the module."""
    questions = sample(recorded(), plan.replay_questions, seed)
    halves = [[one for one in questions if one.half == half] for half in (0, 1)]
    fewer = sample(questions, plan.sensitivity_questions, seed)
    some = [[one for one in fewer if one.half == half] for half in (0, 1)]
    findings = [_baselines(questions, halves)]
    plain = _runs(AS_SHIPPED, halves, seed)
    weighted = _runs(CALIBRATED, halves, seed)
    findings.append(_against_best("replay, unweighted", AS_SHIPPED, plain))
    findings.append(_against_best("replay, calibrated", CALIBRATED, weighted))
    findings.append(_weights(halves, plain, weighted))
    findings += [
        _against_best("replay, sensitivity", variant, _runs(variant, some, seed), asked=False) for variant in OTHERS
    ]
    findings.append(_quality(weighted))
    return findings


def _baselines(questions: Sequence[Recorded], halves: Sequence[Sequence[Recorded]]) -> Finding:
    low, high = pairwise_phi(questions)
    shares = accuracies(questions)
    details: dict[str, Any] = {
        "questions": len(questions),
        "members": {name: round(share, 4) for name, share in shares.items()},
        "any_right": round(oracle(questions), 4),
        "plurality_first_listed": round(first_listed_plurality(questions, MODELS), 4),
        "plurality_best_listed_first": round(first_listed_plurality(questions, MODELS[::-1]), 4),
        "plurality_ties_shared": round(plurality(questions), 4),
        "phi_low": round(low, 3), "phi_high": round(high, 3),
        "halves": [
            {"questions": len(half), "best": round(accuracies(half)[BEST], 4), "plurality": round(plurality(half), 4)}
            for half in halves
        ],
    }  # fmt: skip
    figure = (
        f"best member {percent(shares[BEST])}, any {percent(oracle(questions))}; plurality"
        f" {percent(details['plurality_first_listed'])} with ties to the first listed, {percent(plurality(questions))}"
        f" with ties shared"
    )
    return Finding.of("replay, baselines", f"{len(questions)} recorded questions", figure, "", None, **details)


def _runs(variant: Variant, halves: Sequence[Sequence[Recorded]], seed: int) -> list[list[Ran]]:
    """Each half, with weights from the other."""
    ran = []
    for half in (0, 1):
        weights: list[Fraction] | None = learned_weights(halves[1 - half]) if variant.weighted else None
        mode = panel("balanced" if variant.judged else "fast", MODELS, weights=weights, refine_rounds_max=0, quorum=3)
        laws = Laws(judging=variant.judging, fidelity=variant.fidelity, revising=Revising(0.0, 0.0))
        ran.append(run_all(mode, [one.item for one in halves[half]], laws, seed))
    return ran


def _against_best(check: str, variant: Variant, halves: list[list[Ran]], *, asked: bool = True) -> Finding:
    both = [one for half in halves for one in half]
    right = binomial(sum(one.right for one in both), len(both))
    best = sum(one.item.answers[BEST].right for one in both) / len(both)
    gap = paired(*against(both, BEST), len(both))
    details = {
        "halves": [
            {
                "questions": len(half),
                "panel": round(sum(one.right for one in half) / len(half), 4),
                "best_member": round(sum(one.item.answers[BEST].right for one in half) / len(half), 4),
            }
            for half in halves
        ],
        "unknown_finals": sum(not one.known for one in both),
        "sources": _sources(both),
    }
    return Finding.of(
        check,
        f"{variant.name}: {len(both)} questions, each half reported with the other's calibration",
        f"{within(right)}; against the best member {difference(gap)}",
        f"at least the best member's {percent(best)}" if asked else "",
        right.figure >= best if asked else None,
        **details,
    )


def _sources(ran: Sequence[Ran]) -> dict[str, dict[str, float]]:
    """How the final answers came about, and how often each way was right."""
    found: dict[str, list[bool]] = {}
    for one in ran:
        found.setdefault("none" if one.result is None else one.result.source, []).append(one.right)
    return {
        source: {"runs": len(rights), "right": round(sum(rights) / len(rights), 4)} for source, rights in found.items()
    }


def _weights(halves: Sequence[Sequence[Recorded]], plain: list[list[Ran]], weighted: list[list[Ran]]) -> Finding:
    """What is learned is each model's share of right answers on the other half, and nothing else."""
    one = [ran for half in weighted for ran in half]
    other = [ran for half in plain for ran in half]
    gains = sum(a.right and not b.right for a, b in zip(one, other, strict=True))
    losses = sum(b.right and not a.right for a, b in zip(one, other, strict=True))
    learned = [[float(weight) for weight in learned_weights(half)] for half in halves]
    return Finding.of(
        "replay, weights",
        "weights from members' accuracies on the other half, against none",
        difference(paired(gains, losses, len(one))),
        "",
        None,
        learned_on_first_half=dict(zip(MODELS, learned[0], strict=True)),
        learned_on_second_half=dict(zip(MODELS, learned[1], strict=True)),
    )


def _samples(ran: Sequence[Ran]) -> list[tuple[float, bool]]:
    return [(one.result.quality.score / 100, one.right) for one in ran if one.result is not None]


def _quality(halves: list[list[Ran]]) -> Finding:
    """The score as a probability: isotonic on one half, its reliability on the other."""
    raw: list[tuple[float, bool]] = []
    after: list[tuple[float, bool]] = []
    for half in (0, 1):
        table = fitted(_samples(halves[1 - half]))
        tested = _samples(halves[half])
        raw += tested
        after += [(calibrated(score, table), right) for score, right in tested]
    error, brier = _calibration_error(after), _brier(after)
    base = sum(right for _, right in after) / max(len(after), 1)
    figure = (
        f"expected calibration error {_calibration_error(raw):.3f} raw, {error:.3f} calibrated; Brier {_brier(raw):.3f}"
        f" raw, {brier:.3f} calibrated, {base * (1 - base):.3f} of the mere share"
    )
    return Finding.of(
        "quality score",
        "isotonic on one half, reliability on the other, both ways",
        figure,
        f"calibrated: error at most {CALIBRATION_ERROR_MAX}, Brier below that of the mere share",
        error <= CALIBRATION_ERROR_MAX and brier < base * (1 - base),
        reliability_raw=_bins(raw),
        reliability_calibrated=_bins(after),
    )


def _brier(samples: Sequence[tuple[float, bool]]) -> float:
    return sum((score - right) ** 2 for score, right in samples) / max(len(samples), 1)


def _groups(samples: Sequence[tuple[float, bool]]) -> list[list[tuple[float, bool]]]:
    """Of equal size, by rising score."""
    ordered = sorted(samples)
    return [ordered[len(ordered) * at // BINS : len(ordered) * (at + 1) // BINS] for at in range(BINS)]


def _calibration_error(samples: Sequence[tuple[float, bool]]) -> float:
    """Mean distance of said and found share, over groups of equal size."""
    return sum(
        len(group) * abs(sum(score for score, _ in group) - sum(right for _, right in group)) / len(group)
        for group in _groups(samples)
        if group
    ) / max(len(samples), 1)


def _bins(samples: Sequence[tuple[float, bool]]) -> list[dict[str, float]]:
    return [
        {
            "answers": len(group),
            "said": round(sum(score for score, _ in group) / len(group), 3),
            "right": round(sum(right for _, right in group) / len(group), 3),
        }
        for group in _groups(samples)
        if group
    ]
