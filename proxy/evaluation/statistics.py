"""Statistics of a comparison, exact where that is cheap. Everything random is drawn from a seed that is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import NormalDist
from typing import Final

CONFIDENCE: Final = 0.95
RESAMPLES: Final = 10_000
_BISECTIONS: Final = 60
"""Halvings of [0, 1]: past the precision of a float."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and what it may be, at `CONFIDENCE` unless it says otherwise."""

    estimate: float
    low: float
    high: float


def wilson(count: int, of: int, confidence: float = CONFIDENCE) -> Interval:
    """Of a share, two-sided (Wilson 1927). Nothing of nothing may be anything: 0 to 1."""
    _check(count, of)
    if of == 0:
        return Interval(0.0, 0.0, 1.0)
    z, share = NormalDist().inv_cdf((1 + confidence) / 2), count / of
    shrunk = 1 + z * z / of
    middle = (share + z * z / (2 * of)) / shrunk
    half = z / shrunk * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return Interval(share, 0.0 if count == 0 else middle - half, 1.0 if count == of else middle + half)


def upper_bound(count: int, of: int, confidence: float = CONFIDENCE) -> float:
    """What a share does not exceed, one-sided and exact (Clopper and Pearson 1934).

    0 of 78 is at most 3.8 %, 0 of 100 at most 3.0 %, 5 of 100 at most 10.2 %.
    """
    _check(count, of)
    if count == of:
        return 1.0
    return _bisect(lambda p: binomial_cdf(count, of, p) > 1 - confidence)


def clopper_pearson(count: int, of: int, confidence: float = CONFIDENCE) -> Interval:
    """Of a share, two-sided and exact: never narrower than it says."""
    _check(count, of)
    if of == 0:
        return Interval(0.0, 0.0, 1.0)
    one_sided = (1 + confidence) / 2
    return Interval(count / of, 1 - upper_bound(of - count, of, one_sided), upper_bound(count, of, one_sided))


def binomial_cdf(count: int, of: int, p: float) -> float:
    """P(X <= count) of `of` trials that each succeed with `p`."""
    if p <= 0:
        return 1.0
    if p >= 1:
        return 1.0 if count >= of else 0.0
    log_p, log_q = math.log(p), math.log1p(-p)
    terms = (math.log(math.comb(of, k)) + k * log_p + (of - k) * log_q for k in range(count + 1))
    return min(1.0, math.fsum(math.exp(term) for term in terms))


def sign_test(wins: int, losses: int) -> float:
    """Two-sided p of so uneven a split, or a more uneven one, were both equally likely. Ties say nothing."""
    trials = wins + losses
    if trials == 0:
        return 1.0
    return min(1.0, 2 * binomial_cdf(min(wins, losses), trials, 0.5))


def bootstrap_mean(
    differences: Sequence[float], seed: int, resamples: int = RESAMPLES, confidence: float = CONFIDENCE
) -> Interval:
    """Of the mean of paired differences: pairs are drawn with replacement, percentiles of their means taken."""
    if not differences:
        return Interval(0.0, -math.inf, math.inf)
    draw, size = Random(seed), len(differences)  # noqa: S311 -- to be repeated, not to be secret
    means = sorted(math.fsum(draw.choices(differences, k=size)) / size for _ in range(resamples))
    tail = (1 - confidence) / 2
    return Interval(math.fsum(differences) / size, _quantile(means, tail), _quantile(means, 1 - tail))


def length_controlled(scores: Sequence[float], lengths: Sequence[tuple[int, int]]) -> float | None:
    """The win rate, ties counted half, that is left where both answers are equally long.

    A logistic regression of the outcome (1, 0.5, 0) on tanh of the standardised difference of lengths, read at no
    difference, as AlpacaEval 2 does (arXiv 2404.04475). None: too few outcomes or lengths to tell.
    """
    gaps = [math.log((ours + 1) / (theirs + 1)) for ours, theirs in lengths]
    if len(gaps) < 3:
        return None
    spread = math.sqrt(math.fsum(gap * gap for gap in gaps) / len(gaps))
    if spread == 0:
        return math.fsum(scores) / len(scores)
    intercept, _ = _logistic([math.tanh(gap / spread) for gap in gaps], scores)
    return 1 / (1 + math.exp(-intercept))


def _logistic(inputs: Sequence[float], outcomes: Sequence[float]) -> tuple[float, float]:
    """Intercept and slope by Newton's method, with a ridge of 0.1 on both that keeps separable outcomes finite."""
    ridge, a, b = 0.1, 0.0, 0.0
    for _ in range(_BISECTIONS):
        shares = [1 / (1 + math.exp(-(a + b * x))) for x in inputs]
        gradient_a = math.fsum(y - p for y, p in zip(outcomes, shares, strict=True)) - ridge * a
        gradient_b = math.fsum((y - p) * x for x, y, p in zip(inputs, outcomes, shares, strict=True)) - ridge * b
        weights = [p * (1 - p) for p in shares]
        aa = math.fsum(weights) + ridge
        ab = math.fsum(w * x for w, x in zip(weights, inputs, strict=True))
        bb = math.fsum(w * x * x for w, x in zip(weights, inputs, strict=True)) + ridge
        determinant = aa * bb - ab * ab
        a += (bb * gradient_a - ab * gradient_b) / determinant
        b += (aa * gradient_b - ab * gradient_a) / determinant
    return a, b


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Linear between neighbours, as R's type 7."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _bisect(holds: Callable[[float], bool]) -> float:
    """The largest share for which `holds`, which holds below it and not above."""
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return high


def _check(count: int, of: int) -> None:
    if not 0 <= count <= of:
        raise ValueError(f"{count} of {of} is no share")
