"""Claims: merged by what they say, counted by families."""

from __future__ import annotations

from fractions import Fraction

import pytest

from proxy.consensus.ballots import Mark, Verdict
from proxy.consensus.claims import (
    Claim,
    checked,
    compared,
    contested,
    contested_share,
    marked,
    merged,
    sentences,
    supported_share,
    unresolved,
    unverified,
)

FAMILIES = {"a": "A", "a2": "A", "b": "B", "c": "C", "d": "D"}
YES, NO, PERHAPS = Verdict.SUPPORTED, Verdict.CONTRADICTED, Verdict.UNSURE


def judged(said: dict[str, list[str]], *marks: Mark) -> tuple[Claim, ...]:
    return marked(merged(said, FAMILIES), said, marks, FAMILIES)


def test_equal_claims_are_one() -> None:
    """Case, punctuation, articles and the spelling of numbers apart; each knows who makes it."""
    found = merged({"a": ["The fee is $1,200.50."], "a2": ["fee is 1200.5"], "b": ["The fee is due.", "x"]}, FAMILIES)
    assert [(claim.text, claim.seats, claim.families) for claim in found[:2]] == [
        ("The fee is $1,200.50.", ("a", "a2"), {"A"}),
        ("The fee is due.", ("b",), {"B"}),
    ]
    assert not any(claim.contested for claim in found)


@pytest.mark.parametrize(
    "other",
    [
        "The limit is 15 days from notice.",
        "The limit is not 14 days from notice.",
        "the LIMIT is 1,400 days from notice",
    ],
)
def test_members_who_claim_otherwise_contest(other: str) -> None:
    """Another number, or the negation, of another family; one family alone does not disagree with itself."""
    mine = "The limit is 14 days from notice."
    assert all(claim.contested for claim in merged({"a": [mine], "b": [other]}, FAMILIES))
    assert not any(claim.contested for claim in merged({"a": [mine], "a2": [other]}, FAMILIES))


def test_verdicts_are_counted_by_families() -> None:
    """Two seats of one family are one voice, and unsure where they say different things."""
    said = {"d": ["It rains.", "It snows."]}
    marks = [
        Mark("a", "d", 0, YES),
        Mark("a2", "d", 0, YES),
        Mark("b", "d", 0, NO, "No cloud.", "It shines."),
        Mark("a", "d", 1, YES),
        Mark("a2", "d", 1, NO),
    ]
    rains, snows = judged(said, *marks)
    assert (rains.supported, rains.contradicted, rains.unsure) == ({"A"}, {"B"}, frozenset())
    assert (rains.reasons, rains.corrections) == (("No cloud.",), ("It shines.",))
    assert rains.contested and rains.holds
    assert (snows.supported, snows.contradicted, snows.unsure) == (frozenset(), frozenset(), {"A"})


def test_judges_do_not_vouch_for_themselves_and_odd_marks_count_nothing() -> None:
    """A mark on one's own claim, on a claim that is not there, or of a seat that made none."""
    said = {"a": ["It rains."]}
    (claim,) = judged(said, Mark("a", "a", 0, YES), Mark("b", "a", 7, YES), Mark("b", "x", 0, YES))
    assert not claim.supported and not claim.holds


def test_one_makers_word_is_no_support() -> None:
    """A claim holds by another family that supports it or makes it, too."""
    alone, both = merged({"a": ["It rains.", "It pours."], "b": ["It pours."]}, FAMILIES)
    assert not alone.holds and both.holds
    assert supported_share((alone, both)) == Fraction(1, 2)
    assert unverified((alone, both), 6) == ("It rains.",)


def test_verifiers_replace_the_judges() -> None:
    """Those who did not see the draft settle it, either way; where none of them decides it stays as it was."""
    (claim,) = judged({"a": ["It rains."]}, Mark("b", "a", 0, NO, "No."))
    upheld = checked(claim, [Mark("c", "", 0, YES), Mark("d", "", 0, YES)], FAMILIES)
    assert upheld.holds and not upheld.contested and upheld.verified
    refuted = checked(claim, [Mark("c", "", 0, NO, "Dry."), Mark("d", "", 0, YES)], FAMILIES)
    assert refuted.contested and not refuted.holds
    assert checked(claim, [Mark("c", "", 0, PERHAPS)], FAMILIES) == claim


def test_claim_that_verifiers_refute_is_settled() -> None:
    """It is contested no more, and held by nobody; a tie of verifiers settles nothing."""
    claim = judged({"a": ["It rains."]}, Mark("b", "a", 0, NO))[0]
    settled = checked(claim, [Mark("c", "", 0, NO, "Dry."), Mark("d", "", 0, NO)], FAMILIES)
    assert settled.refuted and not settled.contested and not settled.holds
    assert not unresolved([settled])
    assert contested_share([settled]) == 1
    tied = checked(claim, [Mark("c", "", 0, NO), Mark("d", "", 0, YES)], FAMILIES)
    assert tied.contested and not tied.refuted and unresolved([tied])


def test_one_judge_against_two_leaves_nothing_unresolved() -> None:
    """Its objection is heard, but it alone caps no score."""
    said = {"a": ["It rains."]}
    (claim,) = judged(said, Mark("b", "a", 0, YES), Mark("c", "a", 0, NO))
    assert claim.contested and not unresolved([claim])
    (split,) = judged(said, Mark("b", "a", 0, NO), Mark("c", "a", 0, NO))
    assert unresolved([split])


def test_other_members_texts_support_and_contradict() -> None:
    """A sentence with the same words supports, one with the same words and another number contradicts, none says
    nothing; the members who make a claim are not asked."""
    claims = merged({"a": ["The appeal must be filed within 30 days."]}, FAMILIES)
    texts = {
        "a": "The appeal must be filed within 30 days.",
        "a2": "The appeal must be filed within 10 days.",
        "b": "Note: the appeal must be filed within 30 days of notice. Good luck.",
        "c": "The appeal must be filed within 60 days.",
        "d": "Ask a lawyer.",
    }
    (claim,) = compared(claims, {seat: sentences(text) for seat, text in texts.items()}, FAMILIES)
    assert (claim.supported, claim.contradicted) == ({"B"}, {"C"})
    negated = sentences("The appeal must not be filed within 30 days.")
    assert compared(claims, {"b": negated}, FAMILIES)[0].contradicted == {"B"}
    assert compared(claims, {}, FAMILIES) == claims


def test_contested_ones_come_most_opposed_first() -> None:
    """With their share of all."""
    said = {"d": ["It rains.", "It snows.", "It blows."]}
    found = judged(said, Mark("a", "d", 0, NO), Mark("a", "d", 1, NO), Mark("b", "d", 1, NO), Mark("c", "d", 2, YES))
    assert [claim.text for claim in contested(found)] == ["It snows.", "It rains."]
    assert contested_share(found) == Fraction(2, 3)
    assert supported_share(found) == Fraction(1, 3)
    assert unverified(found, 6) == ()


def test_nothing_claimed_is_nothing_contested() -> None:
    """And no share of support is made up."""
    assert merged({}, FAMILIES) == ()
    assert (contested_share(()), supported_share(())) == (0, None)


def test_remarks_are_bounded() -> None:
    """Each once, a few, cut to length."""
    marks = [Mark(f"j{index}", "a", 0, NO, f"{index % 9} " + "x" * 1000) for index in range(50)]
    (claim,) = judged({"a": ["It rains."]}, *marks)
    assert len(claim.reasons) == 4 and max(map(len, claim.reasons)) == 300


def test_member_that_is_wrong_all_over_leaves_room_for_others_disputes() -> None:
    """Its second claim comes after everybody's first."""
    against = frozenset("BCD")
    many = [Claim(f"Wrong {n}.", ("a",), frozenset("A"), contradicted=against) for n in range(6)]
    split = Claim("It rains.", ("b",), frozenset("B"), contradicted=frozenset("C"))
    assert [claim.text for claim in contested([*many, split])[:3]] == ["Wrong 0.", "It rains.", "Wrong 1."]
