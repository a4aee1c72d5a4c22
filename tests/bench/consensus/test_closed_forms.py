"""Arithmetic that the bench compares panels with."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from bench.consensus import closed_forms
from bench.consensus.laws import Errors


@pytest.mark.parametrize(("accuracy", "three", "five"), [(0.7, 0.784, 0.837), (0.8, 0.896, 0.942), (0.9, 0.972, 0.991)])
def test_a_majority_of_independent_members_is_the_known_figure(accuracy: float, three: float, five: float) -> None:
    """Condorcet's, to three digits."""
    assert closed_forms.majority((accuracy,) * 3) == pytest.approx(three, abs=5e-4)
    assert closed_forms.majority((accuracy,) * 5) == pytest.approx(five, abs=5e-4)


def test_the_law_draws_what_the_closed_form_says() -> None:
    """Every pattern of who is right is drawn as often as it is computed, correlation and shared failure included."""
    errors, random, count = Errors((0.8, 0.7, 0.9), 0.3, 0.05), Random(1), 20_000
    drawn = Counter(errors.draw(random) for _ in range(count))
    expected = closed_forms.patterns(errors.accuracies, errors.phi, errors.beta)
    assert sum(expected.values()) == pytest.approx(1.0)
    assert all(abs(drawn[pattern] / count - chance) < 0.015 for pattern, chance in expected.items())


def test_members_errors_have_the_stated_correlation_and_accuracy() -> None:
    """phi is the correlation of two members' errors, and beta is part of each member's errors."""
    chances = closed_forms.patterns((0.8, 0.8), 0.3, 0.0)
    both_wrong = chances[False, False]
    assert (both_wrong - 0.04) / 0.16 == pytest.approx(0.3)
    with_beta = closed_forms.patterns((0.8, 0.8), 0.3, 0.05)
    assert sum(chance for right, chance in with_beta.items() if right[0]) == pytest.approx(0.8)


def test_shared_failure_bounds_every_choice() -> None:
    """Nobody can choose a right answer that nobody gave."""
    assert closed_forms.ceiling((0.8,) * 5, 0.3, 0.05) <= 0.95


def test_an_impossible_law_is_refused() -> None:
    """A member cannot be right more often than not everybody fails."""
    with pytest.raises(ValueError, match="1 - beta"):
        closed_forms.majority((0.99,) * 3, 0.0, 0.05)
