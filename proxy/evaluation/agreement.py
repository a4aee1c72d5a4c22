"""Krippendorff's alpha: how much better judges agree than chance would have them, with judgements missing.

After Krippendorff, Computing Krippendorff's Alpha-Reliability (2011): 1 is full agreement, 0 is chance. Krippendorff's
own advice: rely on 0.800 and above, draw tentative conclusions down to 0.667, none below.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Final

TENTATIVE_MIN: Final = 0.667
RELIABLE_MIN: Final = 0.800
Unit = Sequence[float | None]
"""What each judge said of one thing; None: nothing."""


class Level(Enum):
    """What a difference between two values means."""

    NOMINAL = "nominal"
    ORDINAL = "ordinal"
    INTERVAL = "interval"


def alpha(units: Iterable[Unit], level: Level) -> float | None:
    """None: nothing was judged twice, or every judgement is the same, so that there is nothing to agree on."""
    pairable = [values for unit in units if len(values := [value for value in unit if value is not None]) > 1]
    totals = Counter(value for values in pairable for value in values)
    count = totals.total()
    if len(totals) < 2:
        return None
    distance = _distance(level, totals)
    observed = sum(_disagreement(Counter(values), distance) / (len(values) - 1) for values in pairable) / count
    expected = _disagreement(totals, distance) / (count * (count - 1))
    return 1 - observed / expected


def _disagreement(counts: Mapping[float, int], distance: Callable[[float, float], float]) -> float:
    """Sum of the distances of all ordered pairs."""
    return sum(a * b * distance(one, other) for one, a in counts.items() for other, b in counts.items())


def _distance(level: Level, totals: Mapping[float, int]) -> Callable[[float, float], float]:
    if level is Level.NOMINAL:
        return lambda one, other: float(one != other)
    if level is Level.INTERVAL:
        return lambda one, other: (one - other) ** 2
    ranks, below = {}, 0.0
    for value in sorted(totals):
        ranks[value] = below + totals[value] / 2
        below += totals[value]
    return lambda one, other: (ranks[one] - ranks[other]) ** 2
