"""Recorded answers: what they are known to be."""

from __future__ import annotations

import pytest

from bench.consensus.replay import (
    MODELS,
    accuracies,
    first_listed_plurality,
    learned_weights,
    oracle,
    plurality,
    recorded,
    weight_of,
)


def test_the_recorded_shares_are_the_known_ones() -> None:
    """1,319 questions, four models."""
    questions = recorded()
    assert len(questions) == 1319
    assert [round(100 * share, 1) for share in accuracies(questions).values()] == [21.7, 39.0, 34.7, 56.3]
    assert round(100 * oracle(questions), 1) == 67.2


def test_plurality_depends_on_who_wins_ties() -> None:
    """44.3 % where the first listed does, and as much as the best member where that is listed first."""
    questions = recorded()
    assert round(100 * first_listed_plurality(questions, MODELS), 1) == 44.3
    assert round(100 * first_listed_plurality(questions, MODELS[::-1]), 1) == 56.3
    assert 0.47 < plurality(questions) < 0.50


def test_halves_are_about_as_large_and_as_hard() -> None:
    """So that one can calibrate what the other reports."""
    first = [one for one in recorded() if one.half == 0]
    second = [one for one in recorded() if one.half == 1]
    assert abs(len(first) - len(second)) < 100
    assert abs(accuracies(first)["175b-verified"] - accuracies(second)["175b-verified"]) < 0.05


def test_weights_come_from_accuracies_alone_and_rise_with_them() -> None:
    """The best member weighs most, none weighs nothing."""
    weights = dict(zip(MODELS, learned_weights(recorded()), strict=True))
    assert max(weights, key=lambda name: weights[name]) == "175b-verified"
    assert min(weights.values()) > 0
    assert weight_of(0.5) < weight_of(0.9)
    with pytest.raises(ValueError, match="math domain"):
        weight_of(1.0)
