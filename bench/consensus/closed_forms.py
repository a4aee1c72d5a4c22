"""What panels come to by arithmetic alone, for the law that `laws.Errors` draws from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise, product


def patterns(accuracies: Sequence[float], phi: float, beta: float) -> dict[tuple[bool, ...], float]:
    """Probability of each pattern of who is right. With probability `beta` nobody is; otherwise each member takes part
    in one shared draw with probability sqrt(phi), and fails on a draw below its own rate of error (so that members of
    one accuracy have errors of correlation phi, where beta is 0)."""
    rates = _given_not_all(accuracies, beta)
    share = math.sqrt(phi)
    found: dict[tuple[bool, ...], float] = {}
    for taking in product((False, True), repeat=len(rates)):
        weight = math.prod(share if takes else 1 - share for takes in taking)
        edges = sorted({0.0, 1.0, *(rate for rate, takes in zip(rates, taking, strict=True) if takes)})
        for low, high in pairwise(edges):
            for right in product((False, True), repeat=len(rates)):
                chance = weight * (high - low)
                for rate, takes, is_right in zip(rates, taking, right, strict=True):
                    wrong = (1.0 if high <= rate else 0.0) if takes else rate
                    chance *= 1 - wrong if is_right else wrong
                if chance:
                    found[right] = found.get(right, 0.0) + chance * (1 - beta)
    nobody = (False,) * len(rates)
    found[nobody] = found.get(nobody, 0.0) + beta
    return found


def _given_not_all(accuracies: Sequence[float], beta: float) -> list[float]:
    """Rates of error outside the mass where all fail, so that each member's accuracy stays as stated."""
    rates = [(1 - accuracy - beta) / (1 - beta) for accuracy in accuracies]
    if any(rate < 0 for rate in rates):
        raise ValueError("a member cannot be right more often than 1 - beta")
    return rates


def majority(accuracies: Sequence[float], phi: float = 0.0, beta: float = 0.0) -> float:
    """P(more than half are right)."""
    half = len(accuracies) / 2
    return sum(chance for right, chance in patterns(accuracies, phi, beta).items() if sum(right) > half)


def ceiling(accuracies: Sequence[float], phi: float = 0.0, beta: float = 0.0) -> float:
    """P(anybody is right): no choice among the members' answers does better."""
    return sum(chance for right, chance in patterns(accuracies, phi, beta).items() if any(right))


def scattered(accuracies: Sequence[float], phi: float = 0.0, beta: float = 0.0) -> float:
    """Three members whose wrong answers all differ, the final one taken from the leader: a majority, or one chance in
    three where all differ."""
    if len(accuracies) != 3:
        raise ValueError("for three members")
    chances = patterns(accuracies, phi, beta)
    return sum(chance * (1.0 if sum(right) >= 2 else sum(right) / 3) for right, chance in chances.items())


def changed_by_one_wrong(accuracies: Sequence[float], wrong: int, phi: float = 0.0, beta: float = 0.0) -> float:
    """P(the majority is right without one member's certain error and wrong with it), where wrong answers are shared:
    how often a member that is always wrong can change the final answer."""
    half = len(accuracies) / 2
    total = 0.0
    for right, chance in patterns(accuracies, phi, beta).items():
        after = sum(right) - right[wrong]
        total += chance * (sum(right) > half >= after)
    return total
