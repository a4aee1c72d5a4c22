"""Intervals and tests on counts. All are two-sided at 95 % unless they say otherwise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Final

Z95: Final = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True)
class Interval:
    """A share or a difference of shares, with its bounds."""

    figure: float
    low: float
    high: float

    def holds(self, value: float) -> bool:
        """The value lies within the bounds."""
        return self.low <= value <= self.high


def _beta_tail(successes: int, count: int, share: float) -> float:
    """P(at least `successes` of `count`) at `share`, summed from logarithms."""
    if share <= 0:
        return 1.0 if successes == 0 else 0.0
    if share >= 1:
        return 1.0
    logs = math.log(share), math.log1p(-share)
    total = 0.0
    for k in range(successes, count + 1):
        choose = math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        total += math.exp(choose + k * logs[0] + (count - k) * logs[1])
    return min(total, 1.0)


@lru_cache(maxsize=4096)
def binomial(successes: int, count: int, confidence: float = 0.95) -> Interval:
    """Clopper and Pearson's exact interval of a share."""
    if count == 0:
        return Interval(0.0, 0.0, 1.0)
    tail = (1 - confidence) / 2

    def bisect(target: float, at_least: int) -> float:
        low, high = 0.0, 1.0
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if _beta_tail(at_least, count, middle) < target else (low, middle)
        return (low + high) / 2

    lower = 0.0 if successes == 0 else bisect(tail, successes)
    upper = 1.0 if successes == count else bisect(1 - tail, successes + 1)
    return Interval(successes / count, lower, upper)


def paired(gains: int, losses: int, count: int, *, z: float = Z95) -> Interval:
    """Difference of two shares over the same `count` questions: `gains` are right in the first alone, `losses` in the
    second alone (Agresti and Min: half a case is added to each of the four cells)."""
    b, c, n = gains + 0.5, losses + 0.5, count + 2
    figure = (b - c) / n
    spread = math.sqrt(max(b + c - (b - c) ** 2 / n, 0.0)) / n
    return Interval((gains - losses) / count, figure - z * spread, figure + z * spread)


def family_z(tests: int, confidence: float = 0.95) -> float:
    """How many standard errors make one of `tests` intervals, so that all hold together (Bonferroni)."""
    return NormalDist().inv_cdf(1 - (1 - confidence) / 2 / max(tests, 1))


def chi_square_p(statistic: float, freedom: int) -> float:
    """Upper tail of the chi-square distribution: the regularised incomplete gamma function, series or fraction."""
    if statistic <= 0:
        return 1.0
    a, x = freedom / 2, statistic / 2
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        for n in range(1, 1000):
            term *= x / (a + n)
            total += term
            if term < total * 1e-15:
                break
        return 1 - total * front
    tiny = 1e-300
    b, c = x + 1 - a, 1 / tiny
    d = 1 / b
    fraction = d
    for n in range(1, 1000):
        an = -n * (n - a)
        b += 2
        d = an * d + b
        c = b + an / c
        d = 1 / (d if abs(d) > tiny else tiny)
        c = c if abs(c) > tiny else tiny
        step = d * c
        fraction *= step
        if abs(step - 1) < 1e-15:
            break
    return front * fraction


def same_distribution_p(one: Sequence[int], other: Sequence[int]) -> float:
    """Probability of counts that differ so much, were both drawn from one distribution (chi-square, two rows)."""
    columns = [(a, b) for a, b in zip(one, other, strict=True) if a + b]
    first, second = sum(one), sum(other)
    total = first + second
    statistic = 0.0
    for a, b in columns:
        for seen, size in ((a, first), (b, second)):
            expected = (a + b) * size / total
            statistic += (seen - expected) ** 2 / expected
    return chi_square_p(statistic, max(len(columns) - 1, 1))
