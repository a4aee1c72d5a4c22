"""Krippendorff's alpha, against his own examples (Computing Krippendorff's Alpha-Reliability, 2011)."""

from __future__ import annotations

import pytest

from proxy.evaluation.agreement import Level, alpha

NONE = None
FOUR_OBSERVERS = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, NONE, NONE, NONE),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NONE, 3),
    (NONE, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NONE),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NONE),
)


@pytest.mark.parametrize(
    ("level", "published"), [(Level.NOMINAL, 0.743), (Level.ORDINAL, 0.815), (Level.INTERVAL, 0.849)]
)
def test_four_observers_with_missing_values(level: Level, published: float) -> None:
    """Section C and D."""
    found = alpha(zip(*FOUR_OBSERVERS, strict=True), level)
    assert found is not None
    assert round(found, 3) == published


def test_two_observers_of_two_values() -> None:
    """Section A: ten articles."""
    meg, owen = (0, 1, 0, 0, 0, 0, 0, 0, 1, 0), (1, 1, 1, 0, 0, 1, 0, 0, 0, 0)
    assert alpha(zip(meg, owen, strict=True), Level.NOMINAL) == pytest.approx(0.095, abs=5e-4)


def test_two_observers_of_five_values() -> None:
    """Section B: twelve units in categories a to e."""
    ben, gerry = "aabbdcccedda", "babbbccceddd"
    units = [(float(ord(one)), float(ord(other))) for one, other in zip(ben, gerry, strict=True)]
    assert alpha(units, Level.NOMINAL) == pytest.approx(0.692, abs=5e-4)


def test_full_agreement_and_nothing_to_agree_on() -> None:
    """1, and none."""
    assert alpha([(1, 1), (2, 2)], Level.ORDINAL) == 1
    assert alpha([(1, 1), (1, 1)], Level.ORDINAL) is None
    assert alpha([(1, None), (2, None)], Level.NOMINAL) is None
    assert alpha([], Level.NOMINAL) is None
