"""`auto`: a cheap mode first, and a dearer one where it does not agree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from proxy.consensus.api import CallSpec, Role
from proxy.consensus.settings import Consensus
from proxy.pricing.money import Nano
from tests.consensus.test_deliberation import SCORES, TWELVE, by
from tests.consensus.test_engine import EIGHTEEN, FINAL, OPEN, TWENTY, sound
from tests.support.scripted_panels import FIVE, FOUR, ONE, TWO, Says, Watched, balanced, consensus, mode, said, watch

SECOND = balanced(seats=(ONE, TWO, FOUR))


def auto(**second: Any) -> Consensus:
    """Fast, then balanced with two of fast's models and another one."""
    return consensus(mode(), replace(SECOND, **second), auto=("fast", "balanced"))


def run(members: dict[str, Says], settings: Consensus | None = None, **more: Any) -> Watched:
    def says(spec: CallSpec) -> Says:
        if spec.role is Role.MEMBER:
            return members[spec.seat.name]
        if spec.role is Role.JUDGE:
            return by(SCORES)(spec)
        return FINAL

    return sound(watch(says, settings or auto(), mode_name="auto", **more))


def test_agreement_ends_in_the_first_mode() -> None:
    """Nothing dearer is called."""
    watched = run({"one": EIGHTEEN, "two": EIGHTEEN, "three": TWENTY})
    assert (watched.done.mode, watched.done.escalated) == ("fast", False)
    assert len(watched.calls.specs) == 3


def test_disagreement_goes_on_with_the_answers_that_are_there() -> None:
    """Only the seat whose model has not answered yet is asked."""
    watched = run({"one": EIGHTEEN, "two": TWENTY, "three": TWELVE, "four": EIGHTEEN})
    assert (watched.done.mode, watched.done.escalated) == ("balanced", True)
    assert [spec.seat.name for spec in watched.calls.of(Role.MEMBER)] == ["one", "two", "three", "four"]
    assert watched.done.source == "typed_agreement"
    assert [one.label for one in watched.done.members] == ["A", "B", "C", "D"]
    assert sum(event.name == "detected" for _, event in watched.events) == 1


def test_open_answers_without_anything_to_compare_go_on() -> None:
    """Where nothing can be said to agree, the second mode judges."""
    plain = said("Some prose without any claim that could be compared.")
    watched = run(dict.fromkeys(("one", "two", "three", "four"), plain))
    assert watched.done.escalated
    assert watched.calls.of(Role.JUDGE)


def test_open_answers_that_contest_nothing_are_enough() -> None:
    """The first mode writes the answer."""
    watched = run(dict.fromkeys(("one", "two", "three"), OPEN))
    assert (watched.done.mode, watched.done.escalated) == ("fast", False)
    assert watched.done.source == "synthesis"


def test_first_panel_that_fails_is_followed_by_the_second() -> None:
    """Its models may be there."""
    gone = Says("", fails="unavailable")
    watched = run({"one": EIGHTEEN, "two": gone, "three": gone, "four": EIGHTEEN})
    assert watched.done.escalated
    assert watched.done.source == "typed_agreement"


def test_escalation_without_money_ends_in_the_first_mode() -> None:
    """What both together may cost is the second's budget."""
    others = auto(seats=(FOUR, FIVE), budget=Nano(3_900_000), tokens=replace(SECOND.tokens, member=2000))
    watched = run({"one": EIGHTEEN, "two": TWENTY, "three": TWELVE, "four": EIGHTEEN, "five": EIGHTEEN}, others)
    assert (watched.done.mode, watched.done.escalated) == ("fast", False)
    assert "escalation: budget" in watched.done.skipped
    assert watched.done.source == "synthesis"
    assert watched.calls.cost() <= 3_900_000


def test_both_modes_keep_to_the_seconds_deadline() -> None:
    """Counted from the beginning of the first."""
    slow = {"one": EIGHTEEN, "two": TWENTY, "three": TWELVE, "four": Says("", hangs=True)}
    watched = run(slow)
    assert watched.seconds <= SECOND.deadlines.total


def test_second_panel_without_a_quorum_does_not_undo_the_first() -> None:
    """Three answers are better than the one that the dearer panel has."""
    gone = Says("", fails="unavailable")
    members = {"one": EIGHTEEN, "two": TWENTY, "three": TWELVE, "four": EIGHTEEN, "five": gone}
    watched = run(members, auto(seats=(FOUR, FIVE)))
    assert (watched.done.mode, watched.done.escalated, watched.done.degraded) == ("fast", False, False)
    assert watched.done.source == "synthesis"
    assert "escalation: too few answers" in watched.done.skipped
