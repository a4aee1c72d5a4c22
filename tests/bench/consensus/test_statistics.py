"""Intervals and tests of the bench, against known values."""

from __future__ import annotations

import pytest

from bench.consensus.statistics import binomial, chi_square_p, family_z, paired, same_distribution_p


def test_no_loss_of_seventy_eight_bounds_the_rate_at_under_five_percent() -> None:
    """Clopper and Pearson, two-sided."""
    found = binomial(0, 78)
    assert (found.low, round(found.high, 4)) == (0.0, 0.0462)


def test_a_share_has_the_exact_interval() -> None:
    """35 of 78."""
    found = binomial(35, 78)
    assert (round(found.low, 3), round(found.high, 3)) == (0.336, 0.566)
    assert found.holds(0.45)
    assert not found.holds(0.6)


def test_chi_square_has_its_known_tail() -> None:
    """Critical values of tables."""
    assert chi_square_p(3.841, 1) == pytest.approx(0.05, abs=1e-4)
    assert chi_square_p(18.307, 10) == pytest.approx(0.05, abs=1e-4)
    assert chi_square_p(0, 3) == 1.0


def test_equal_counts_are_one_distribution_and_different_ones_are_not() -> None:
    """Two rows; a column that is empty in both does not count."""
    assert same_distribution_p([50, 50, 0], [50, 50, 0]) == pytest.approx(1.0)
    assert same_distribution_p([90, 10], [10, 90]) < 1e-6


def test_a_difference_is_surer_where_fewer_questions_differ() -> None:
    """Paired: questions that both have right say nothing."""
    few, many = paired(12, 2, 1000), paired(112, 102, 1000)
    assert few.figure == many.figure == pytest.approx(0.01)
    assert few.high - few.low < many.high - many.low


def test_many_intervals_that_hold_together_are_wider() -> None:
    """Bonferroni."""
    assert family_z(1) == pytest.approx(1.96, abs=1e-2)
    assert family_z(60) > 3.0
