"""Who judges what, and why the best baseline is not picked by those who judge it."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from proxy.evaluation.judging import (
    Outcome,
    outcome,
    pair_verdict,
    pick,
    pickers,
    scorers,
    unrelated,
)
from tests.evaluation.scripted import entrant, plan

JUDGES = ("one", "two", "three")
BASELINES = ("alpha", "beta", "gamma")
QUESTIONS = 6_000


def shares(noise: float, *, picked_by_all: bool) -> dict[Outcome, float]:
    """A candidate exactly as good as three baselines, judged with an error of `noise`, margin 0.5."""
    draw, count = Random(11), Counter[Outcome]()
    made = plan(tie_rule="mean", margin=0.5, verdicts_min=1)
    for number in range(QUESTIONS):
        scores = {name: {judge: draw.gauss(0, noise) for judge in JUDGES} for name in ("ours", *BASELINES)}
        picking = JUDGES if picked_by_all else JUDGES[number % 3 : number % 3 + 1]
        judging = JUDGES if picked_by_all else [judge for judge in JUDGES if judge not in picking]
        best = pick({name: scores[name] for name in BASELINES}, picking, 0, str(number))
        assert best is not None
        count[outcome([scores["ours"][judge] - scores[best][judge] for judge in judging], made)] += 1
    return {came: count[came] / QUESTIONS for came in Outcome}


@pytest.mark.parametrize(("noise", "lost", "won"), [(0.5, 0.23, 0.02), (1.0, 0.49, 0.09)])
def test_an_equal_loses_against_the_best_that_its_own_judges_pick(noise: float, lost: float, won: float) -> None:
    """The baseline that their errors favour: this is why they do not pick it."""
    found = shares(noise, picked_by_all=True)
    assert found[Outcome.LOSS] == pytest.approx(lost, abs=0.02)
    assert found[Outcome.WIN] == pytest.approx(won, abs=0.02)
    assert found[Outcome.LOSS] > 3 * found[Outcome.WIN]


@pytest.mark.parametrize("noise", [0.5, 1.0])
def test_an_equal_wins_as_often_as_it_loses_where_another_judge_picked(noise: float) -> None:
    """What the picker's error favours is no better in others' eyes."""
    found = shares(noise, picked_by_all=False)
    assert found[Outcome.WIN] == pytest.approx(found[Outcome.LOSS], abs=0.03)


def test_orders_that_name_different_winners_are_a_tie() -> None:
    """Whichever is shown first was preferred, twice."""
    found = pair_verdict("one", (9, 4), (8, 5))
    assert (found.difference, found.consistent, found.first_preferred, found.preferred) == (0, False, 2, 2)


def test_a_tie_in_one_order_only_is_no_agreement() -> None:
    """And in both it is."""
    assert pair_verdict("one", (7, 7), (5, 9)).difference == 0
    assert not pair_verdict("one", (7, 7), (5, 9)).consistent
    assert pair_verdict("one", (7, 7), (4, 4)).consistent


def test_agreeing_orders_give_the_mean_difference() -> None:
    """The candidate's less the baseline's."""
    found = pair_verdict("one", (8, 5), (4, 9))
    assert (found.difference, found.consistent, found.first_preferred) == (4, True, 1)


@pytest.mark.parametrize(
    ("differences", "came"),
    [
        ([2, 2, 0], Outcome.WIN),
        ([2, 0.4, 0], Outcome.TIE),
        ([-2, -0.5, 5], Outcome.LOSS),
        ([2, -2], Outcome.INCONCLUSIVE),
        ([2, -2, 0], Outcome.INCONCLUSIVE),
        ([2, 0], Outcome.TIE),
        ([2], Outcome.INCONCLUSIVE),
        ([], Outcome.INCONCLUSIVE),
    ],
)
def test_more_than_half_of_the_judges_decide(differences: list[float], came: Outcome) -> None:
    """Margin 0.5, at least two verdicts; judges on both sides without a majority decide nothing."""
    assert outcome(differences, plan()) is came


def test_by_the_mean_one_judge_can_outweigh() -> None:
    """The other rule."""
    made = plan(tie_rule="mean")
    assert outcome([5, -1, 0], made) is Outcome.WIN
    assert outcome([0.5, 0.4], made) is Outcome.TIE
    assert outcome([0.0, 0.0], plan(tie_rule="mean", margin=0)) is Outcome.TIE


def test_judges_take_turns_in_picking() -> None:
    """About equally often over questions; a named one always."""
    first = Counter(pickers(plan(), f"q-{number}")[0].name for number in range(600))
    assert set(first) == {"judge-one", "judge-two", "judge-three"}
    assert min(first.values()) > 150
    named = plan(picker="judge-two")
    assert {pickers(named, f"q-{number}")[0].name for number in range(20)} == {"judge-two"}


def test_the_picker_and_related_judges_do_not_judge_the_pair() -> None:
    """As long as somebody else is left."""
    made = plan(candidate=entrant("ours=two"))
    assert [judge.name for judge in scorers(made, "judge-one", entrant("alpha=maker"))] == ["judge-three"]
    left = scorers(made, "judge-one", entrant("alpha=three"))
    assert [judge.name for judge in left] == ["judge-two", "judge-three"]
    assert len(unrelated(made.judges, entrant("alpha=one"))) == 2


def test_equal_baselines_are_drawn_by_the_seed() -> None:
    """Not by their order."""
    scores = {name: {"one": 0.5} for name in BASELINES}
    drawn = Counter(pick(scores, ["one"], 5, f"q-{number}") for number in range(300))
    assert min(drawn[name] for name in BASELINES) > 60
    assert pick(scores, ["nobody"], 5, "q-1") is None
