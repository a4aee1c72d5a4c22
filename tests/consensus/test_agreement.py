"""Agreement: pluralities of families, convergence, stall, and who dissents."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.consensus.agreement import (
    NOTHING_COMPARED,
    Round,
    Tally,
    Vote,
    agreement_share,
    converged,
    dissent,
    effective_votes,
    stalled,
    tally,
)
from proxy.consensus.claims import Claim
from proxy.consensus.settings import Rules
from proxy.consensus.typed import OPEN_ANSWER, Kind, typed

RULES = Rules()


def votes(*said: object, families: str = "") -> list[Vote]:
    """One vote each; `families` names theirs by letters, each its own by default."""
    names = families or "ABCDEFGHI"
    return [
        Vote(f"s{index}", names[index], OPEN_ANSWER if each is None else typed(Kind.SHORT, each))
        for index, each in enumerate(said)
    ]


@pytest.mark.parametrize(
    ("said", "agreed"),
    [
        ((18,), False),
        ((18, 18), True),
        ((18, 19), False),
        ((18, 18, 19), True),
        ((18, 19, 20), False),
        ((18, 18, None), True),
        ((18, None, None), False),
        ((18, 18, 19, 19), False),
        ((18, 18, 18, 19), True),
        ((18, 18, 18, 19, 19), False),
        ((18, 18, 18, 18, 19), True),
        ((18, 18, 18, 18, None), True),
        ((None, None, None), False),
        ((), False),
    ],
)
def test_plurality_needs_two_thirds_of_few_and_four_fifths_of_many(said: tuple[object, ...], agreed: bool) -> None:
    """Up to four families two thirds, from five four fifths; those without a typed answer count against it."""
    assert tally(votes(*said), RULES).agreed is agreed


def test_one_family_does_not_agree_with_itself() -> None:
    """Two seats of one model are one voice."""
    found = tally(votes(18, 18, 19, families="AAB"), RULES)
    assert not found.agreed
    assert [position.share for position in found.positions] == [Fraction(1, 2), Fraction(1, 2)]
    assert not tally(votes(18, 18, 18, families="AAA"), RULES).agreed


def test_split_family_counts_in_parts() -> None:
    """Half its voice here, half there."""
    found = tally(votes(18, 19, 18, 18, families="AABC"), RULES)
    assert found.leader is not None and found.leader.share == Fraction(5, 6)
    assert found.leader.families == {"A", "B", "C"} and found.families == 3


def test_weights_are_of_voices() -> None:
    """A family known to be reliable counts for more."""
    said = votes(18, 19, 19)
    heavy = [Vote(said[0].seat, "A", said[0].answer, Fraction(5)), *said[1:]]
    found = tally(heavy, RULES)
    assert found.leader is not None and found.leader.answer.value == "18" and found.leader.share == Fraction(5, 7)
    assert not found.agreed


@given(st.lists(st.sampled_from([18, 19, "Paris", None]), max_size=7), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_tally_does_not_depend_on_the_order_of_votes(said: list[Any], chance: random.Random) -> None:
    """Not even where shares are equal."""
    cast = votes(*said)
    before = tally(cast, RULES)
    chance.shuffle(cast)
    after = tally(cast, RULES)
    assert [(each.answer.value, each.share, each.families) for each in before.positions] == [
        (each.answer.value, each.share, each.families) for each in after.positions
    ]
    assert sum((each.share for each in before.positions), Fraction(0)) <= 1


OPEN = Tally((), 3, False)


def test_typed_agreement_converges_at_once() -> None:
    """Whoever leads the ballots."""
    assert converged(Round(tally(votes(18, 18, 19), RULES)), None, RULES, reevaluate=True) == "typed_agreement"


def test_unanimous_leader_ends_a_mode_that_does_not_judge_again() -> None:
    """Where answers are judged once more, it takes two evaluations."""
    now = Round(OPEN, leader="x", unanimous=True)
    assert converged(now, None, RULES, reevaluate=False) == "unanimous_leader"
    assert converged(now, None, RULES, reevaluate=True) is None


def test_leader_of_results_that_differ_is_no_convergence() -> None:
    """Of three different results one comes first on both of its ballots more often than not, whoever is right."""
    split = Round(tally(votes(18, 19, 20), RULES), leader="x", unanimous=True)
    assert converged(split, None, RULES, reevaluate=False) is None
    contested = Round(OPEN, contested_share=Fraction(1, 3), leader="x", unanimous=True)
    assert converged(contested, None, RULES, reevaluate=False) is None


def test_stable_leader_with_little_contested_converges() -> None:
    """The same leader twice, and at most a tenth of the claims contested."""
    before, now = Round(OPEN, leader="x"), Round(OPEN, Fraction(1, 10), "x")
    assert converged(now, before, RULES, reevaluate=True) == "stable_leader"
    assert converged(Round(OPEN, Fraction(11, 100), "x"), before, RULES, reevaluate=True) is None
    assert converged(Round(OPEN, leader="y"), before, RULES, reevaluate=True) is None
    assert converged(Round(OPEN, leader="x", judged=False), before, RULES, reevaluate=True) is None
    assert converged(Round(OPEN), Round(OPEN), RULES, reevaluate=True) is None


def test_round_that_changes_or_gains_too_little_stalls() -> None:
    """Under a tenth of the answers (white space and punctuation are no change), or under 0.02 of score."""
    before = Round(OPEN, answers={"x": "It rains.", "y": "It snows."}, score=0.5)
    assert stalled(Round(OPEN, answers={"x": "it  rains", "y": "It snows."}, score=0.9), before, RULES)
    changed = {"x": "It pours.", "y": "It snows."}
    assert stalled(Round(OPEN, answers=changed, score=0.51), before, RULES)
    assert not stalled(Round(OPEN, answers=changed, score=0.53), before, RULES)
    assert not stalled(Round(OPEN, answers=changed, judged=False), before, RULES)


@pytest.mark.parametrize(("count", "votes_worth"), [(0, 0.0), (1, 1.0), (3, 1.667), (5, 1.923), (9, 2.143)])
def test_correlated_votes_are_worth_less(count: int, votes_worth: float) -> None:
    """The figures of nine judges that are worth two (arXiv 2605.29800)."""
    assert effective_votes(count, Fraction(4, 10)) == pytest.approx(votes_worth, abs=0.001)


def contested_claim(text: str, *against: str) -> Claim:
    return Claim(text, ("s",), frozenset("S"), contradicted=frozenset(against), reasons=("Because.",))


def test_dissent_names_positions_and_how_many_take_them() -> None:
    """Families, not seats; the final answer's own position is none; then what is contested."""
    found = tally(votes(18, 18, 18, 19, 19, 20, families="ABCDDE"), RULES)
    claims = [contested_claim("It rains.", "A", "B"), Claim("It snows.", ("s",), frozenset("S"))]
    assert [(each.position, each.members) for each in dissent(found, claims)] == [
        *sorted((("19", 1), ("20", 1)), key=lambda each: [p.answer.shown for p in found.positions].index(each[0])),
        ("Contested: It rains. (Because.)", 2),
    ]
    assert {each.position for each in dissent(found, (), typed(Kind.NUMBER, 19))} == {"18", "20"}
    assert len(dissent(found, (), OPEN_ANSWER)) == 3


def test_dissent_is_bounded() -> None:
    """In number and length."""
    many = dissent(OPEN, [contested_claim("x" * 1000, "A")] * 50)
    assert len(many) == 8 and max(len(each.position) for each in many) <= 300


def test_agreement_is_of_votes_or_of_claims() -> None:
    """Typed answers where half of the voices have one, else claims that nobody contests."""
    claims = [contested_claim("x", "A"), Claim("y", ("s",), frozenset("S"))]
    assert agreement_share(tally(votes(18, 18, 19), RULES), claims) == pytest.approx(2 / 3)
    assert agreement_share(tally(votes(18, None, None), RULES), claims) == 0.5
    assert agreement_share(OPEN, claims) == 0.5
    assert agreement_share(OPEN, claims[1:]) == 1.0


def test_answers_without_anything_to_compare_do_not_agree() -> None:
    """Neither do they disagree: nobody knows."""
    assert agreement_share(OPEN, ()) == NOTHING_COMPARED
