"""Intervals, tests and regressions, against closed forms and published values."""

from __future__ import annotations

import math
from random import Random

import pytest

from proxy.evaluation.statistics import (
    binomial_cdf,
    bootstrap_mean,
    clopper_pearson,
    length_controlled,
    sign_test,
    upper_bound,
    wilson,
)


@pytest.mark.parametrize(("losses", "of", "percent"), [(0, 78, 3.8), (0, 100, 3.0), (5, 100, 10.2), (1, 1, 100.0)])
def test_losses_are_bounded_from_above(losses: int, of: int, percent: float) -> None:
    """One-sided, 95 %: no loss seen is not no loss."""
    assert round(100 * upper_bound(losses, of), 1) == percent


@pytest.mark.parametrize("of", [1, 10, 78, 1000])
def test_the_bound_of_none_is_its_closed_form(of: int) -> None:
    """1 - 0.05^(1/n)."""
    assert upper_bound(0, of) == pytest.approx(1 - 0.05 ** (1 / of), abs=1e-12)


def test_35_wins_of_78_are_34_to_56_percent() -> None:
    """Wilson, two-sided."""
    found = wilson(35, 78)
    assert (round(100 * found.low), round(100 * found.high)) == (34, 56)


@pytest.mark.parametrize(
    ("count", "of", "low", "high"), [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)]
)
def test_wilson_is_as_published(count: int, of: int, low: float, high: float) -> None:
    """Newcombe 1998, table I, method 3."""
    found = wilson(count, of)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@pytest.mark.parametrize(
    ("count", "of", "low", "high"), [(81, 263, 0.2527, 0.3676), (15, 148, 0.0578, 0.1617), (0, 20, 0.0, 0.1684)]
)
def test_clopper_pearson_is_as_published(count: int, of: int, low: float, high: float) -> None:
    """Newcombe 1998, table I, method 5."""
    found = clopper_pearson(count, of)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


def test_nothing_of_nothing_may_be_anything() -> None:
    """And more than all is nothing."""
    assert (wilson(0, 0).low, wilson(0, 0).high, clopper_pearson(0, 0).high) == (0, 1, 1)
    assert wilson(5, 5).high == 1
    with pytest.raises(ValueError, match="6 of 5"):
        wilson(6, 5)


def test_the_binomial_adds_up() -> None:
    """Exact sums, and the ends."""
    assert binomial_cdf(1, 4, 0.5) == pytest.approx(5 / 16)
    assert binomial_cdf(3, 3, 0.3) == pytest.approx(1.0)
    assert (binomial_cdf(0, 3, 0.0), binomial_cdf(2, 3, 1.0), binomial_cdf(3, 3, 1.0)) == (1, 0, 1)


@pytest.mark.parametrize(
    ("wins", "losses", "p"), [(8, 1, 20 / 512), (1, 8, 20 / 512), (5, 5, 1.0), (0, 0, 1.0), (6, 0, 2 / 64)]
)
def test_the_sign_test_is_exact(wins: int, losses: int, p: float) -> None:
    """Two-sided, ties left out."""
    assert sign_test(wins, losses) == pytest.approx(p)


def test_the_bootstrap_agrees_with_the_normal_interval() -> None:
    """For many well-behaved differences."""
    draw = Random(1)
    values = [draw.gauss(0.1, 1) for _ in range(400)]
    mean = sum(values) / 400
    half = 1.96 * math.sqrt(sum((value - mean) ** 2 for value in values) / 399 / 400)
    found = bootstrap_mean(values, seed=3, resamples=4_000)
    assert found.estimate == pytest.approx(mean)
    assert found.low == pytest.approx(mean - half, abs=0.01)
    assert found.high == pytest.approx(mean + half, abs=0.01)


def test_the_bootstrap_is_its_seeds() -> None:
    """The same again, and another with another seed; of nothing it knows nothing."""
    values = [0.1, -0.4, 0.3, 0.0, 0.7]
    assert bootstrap_mean(values, 1, 1_000) == bootstrap_mean(values, 1, 1_000)
    assert bootstrap_mean(values, 1, 1_000) != bootstrap_mean(values, 2, 1_000)
    assert bootstrap_mean([], 1).high == math.inf


def test_a_win_rate_that_is_all_length_is_even_at_equal_length() -> None:
    """Nine in ten of the longer answers win, whosever they are: raw 63 %, length-controlled half."""
    lengths = [(200, 100)] * 80 + [(100, 200)] * 40
    scores = [1.0] * 72 + [0.0] * 8 + [1.0] * 4 + [0.0] * 36
    assert sum(scores) / len(scores) > 0.63
    assert length_controlled(scores, lengths) == pytest.approx(0.5, abs=0.01)


def test_a_win_rate_without_length_in_it_stays() -> None:
    """Longer or shorter, 70 % are won."""
    lengths = [(200, 100), (100, 200)] * 50
    scores = ([1.0] * 2 * 35) + ([0.0] * 2 * 15)
    found = length_controlled(scores, lengths)
    assert found == pytest.approx(0.7, abs=0.01)
    assert length_controlled([1.0, 0.0], [(1, 1)] * 2) is None
    assert length_controlled([1.0, 0.5, 0.0, 0.5], [(9, 9)] * 4) == 0.5
