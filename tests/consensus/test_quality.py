"""Quality: monotone, bounded, proof against one mild or harsh judge, and honest about what it rests on."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.consensus.api import Severity
from proxy.consensus.ballots import Ballot
from proxy.consensus.quality import Judged, calibrated, confidence, dimension_weights, fitted, judged, quality
from proxy.consensus.settings import DIMENSIONS, Weights

GENERAL = {
    "accuracy": Fraction(35, 100),
    "completeness": Fraction(20, 100),
    "evidence": Fraction(15, 100),
    "clarity": Fraction(15, 100),
    "instructions": Fraction(15, 100),
}
WEIGHTS = Weights({"general": GENERAL, "legal": {"accuracy": Fraction(45, 100), "clarity": Fraction(5, 100)}})
SCORES = st.floats(0, 10)
SHARES = st.floats(0, 1)


def ballot(judge: str, **scores: float) -> Ballot:
    """One score for all dimensions of each seat."""
    return Ballot(judge, {}, {seat: dict.fromkeys(DIMENSIONS, score) for seat, score in scores.items()})


def of(share: float) -> Judged:
    return Judged(dict.fromkeys(DIMENSIONS, 10 * share), share, 2)


def test_median_over_judges_by_the_weights_of_the_domain() -> None:
    """One judge of three that hates it moves nothing."""
    said = [ballot("a", x=8), ballot("b", x=8), ballot("c", x=8)]
    found = judged(said, "x", "general", WEIGHTS)
    assert found is not None
    assert (found.dimensions, found.judges) == (dict.fromkeys(DIMENSIONS, 8.0), 3)
    assert found.share == pytest.approx(0.8)
    assert dimension_weights("legal", WEIGHTS)["accuracy"] == Fraction(45, 100)
    assert sum(dimension_weights("legal", WEIGHTS).values()) == 1
    assert dimension_weights("unknown", WEIGHTS) == GENERAL


def test_mild_and_harsh_judges_are_brought_together() -> None:
    """A judge's own level is subtracted, shrunk: with few answers it does not vanish."""
    mild, harsh = ballot("mild", x=10, y=8, z=6), ballot("harsh", x=6, y=4, z=2)
    found = judged([mild, harsh], "x", "general", WEIGHTS)
    assert found is not None and found.share == pytest.approx(0.8)
    lone = judged([mild, ballot("harsh", x=6)], "y", "general", WEIGHTS)
    assert lone is not None and 0.7 < lone.share < 0.8


def test_judges_of_the_synthesisers_vendor_are_left_out_where_two_others_remain() -> None:
    """With fewer others they stay."""
    said = [ballot("own", x=10), ballot("b", x=4), ballot("c", x=4)]
    vendors = {"own": "V", "b": "W", "c": "X"}
    found = judged(said, "x", "general", WEIGHTS, vendors=vendors, synthesiser_vendor="V")
    assert found is not None and found.judges == 2
    few = judged(said[:2], "x", "general", WEIGHTS, vendors=vendors, synthesiser_vendor="V")
    assert few is not None and few.judges == 2


def test_nobody_scores_itself() -> None:
    """A ballot on its own judge's answer says nothing of it."""
    assert judged([ballot("x", x=10)], "x", "general", WEIGHTS) is None
    assert judged([], "x", "general", WEIGHTS) is None


@given(st.lists(st.tuples(SCORES, SCORES), min_size=1, max_size=5), st.integers(0, 4), SCORES)
@settings(deadline=None)
def test_better_scores_never_lower_the_answer(said: list[tuple[float, float]], which: int, better: float) -> None:
    """Whoever gives them, centring included."""
    before = [ballot(f"j{index}", x=x, y=y) for index, (x, y) in enumerate(said)]
    which %= len(said)
    x, y = said[which]
    after = [*before[:which], ballot(f"j{which}", x=max(x, better), y=y), *before[which + 1 :]]
    low, high = judged(before, "x", "general", WEIGHTS), judged(after, "x", "general", WEIGHTS)
    assert low is not None and high is not None
    assert 0 <= low.share <= high.share + 0.0002


@given(SHARES, SHARES, SHARES, st.floats(0, 0.5), st.integers(0, 2), st.booleans())
@settings(deadline=None)
def test_quality_rises_with_each_of_its_parts(
    judges: float, claims: float, agreement: float, more: float, which: int, contradiction: bool
) -> None:
    """And lies between 0 and 100; a contradiction caps it."""
    parts = [judges, claims, agreement]
    raised = [min(1.0, part + more) if index == which else part for index, part in enumerate(parts)]
    low, high = (
        quality(of(a), Fraction(b), c, WEIGHTS, contradiction=contradiction).score for a, b, c in (parts, raised)
    )
    assert 0 <= low <= high <= (70 if contradiction else 100)


def test_parts_weigh_what_the_file_says() -> None:
    """55, 30 and 15 of a hundred; without judges 70 and 30; without claims the others take their weight."""
    assert quality(of(1), Fraction(0), 0, WEIGHTS).score == 55
    assert quality(of(0), Fraction(1), 0, WEIGHTS).score == 30
    assert quality(of(0), Fraction(0), 1, WEIGHTS).score == 15
    assert quality(None, Fraction(0), 1, WEIGHTS).score == 70
    assert quality(None, Fraction(1), 0, WEIGHTS).score == 30
    assert quality(None, None, 1, WEIGHTS).score == 100
    assert quality(of(1), None, 0, WEIGHTS).score == pytest.approx(100 * 55 / 70, abs=0.01)


def test_basis_and_calibration_are_said() -> None:
    """What it rests on, and whether it may be called a probability."""
    assert (quality(of(1), None, 1, WEIGHTS).basis, quality(None, None, 1, WEIGHTS).basis) == ("judges", "agreement")
    table = ((Fraction(0), Fraction(1, 10)), (Fraction(1), Fraction(6, 10)))
    found = quality(of(1), Fraction(1), 1, Weights({"general": GENERAL}, calibration=table))
    assert (found.score, found.calibrated) == (60, True)
    assert not quality(of(1), None, 1, WEIGHTS).calibrated
    assert quality(of(0.5), None, 1, WEIGHTS).dimensions == dict.fromkeys(DIMENSIONS, 5.0)


SAMPLES = st.lists(st.tuples(SHARES, st.booleans()), min_size=1, max_size=60)


@given(SAMPLES, st.integers(2, 10))
@settings(deadline=None)
def test_calibration_rises(samples: list[tuple[float, bool]], points_max: int) -> None:
    """Both columns, strictly in the first, bounded in length; and so does what is read from it."""
    table = fitted(samples, points_max=points_max)
    assert 1 <= len(table) <= points_max
    assert all(one[0] < other[0] and one[1] <= other[1] for one, other in pairwise(table))
    read = [calibrated(step / 20, table) for step in range(21)]
    assert read == sorted(read) and read[0] >= 0 and read[-1] <= 1


@given(SAMPLES)
@settings(deadline=None)
def test_calibration_keeps_the_mean(samples: list[tuple[float, bool]]) -> None:
    """Pooling moves no right answer from one place to another: the fit is of all samples."""
    lowest, highest = fitted(samples)[0][1], fitted(samples)[-1][1]
    assert lowest <= Fraction(sum(right for _, right in samples), len(samples)) <= highest


def test_calibration_pools_adjacent_violators() -> None:
    """The textbook case, and the empty one."""
    samples = [(0.1, False), (0.2, True), (0.3, False), (0.9, True)]
    assert fitted(samples) == (
        (Fraction(1, 10), Fraction(0)),
        (Fraction(1, 4), Fraction(1, 2)),
        (Fraction(9, 10), Fraction(1)),
    )
    assert fitted([]) == () and calibrated(0.3, ()) == 0.3
    assert calibrated(0.575, fitted(samples)) == pytest.approx(0.75)


def test_confidence_needs_agreement_votes_and_no_contradiction() -> None:
    """High takes all three; each of them can bring it down."""
    assert confidence(0.9, 1.67) is Severity.HIGH
    assert confidence(0.9, 1.4) is Severity.MEDIUM
    assert confidence(0.7, 1.67) is Severity.MEDIUM
    assert confidence(0.9, 1.67, contradiction=True) is Severity.MEDIUM
    assert confidence(0.7, 1.67, contradiction=True) is Severity.LOW
    assert confidence(0.4, 1.67) is Severity.LOW
    assert confidence(1.0, 1.0) is Severity.LOW
