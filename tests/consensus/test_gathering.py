"""Quorum, grace, spares and hedges, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from proxy.consensus.api import CallSpec, Role
from proxy.consensus.budget import Budget
from proxy.consensus.calling import Caller
from proxy.consensus.gathering import Gathered, Gathering, Plan
from proxy.consensus.settings import Deadlines, Rules, Seat
from proxy.pricing.money import Nano
from tests.support.scripted_panels import FIVE, FOUR, ONE, THREE, TWO, USD, Says, ScriptedCalls, seat
from tests.support.virtual_time import run

DEADLINES = Deadlines(total=60, call=20, first_byte=4, idle=3)
SAME_VENDOR = seat("same", vendor=ONE.vendor)
OTHER = seat("other")


def spec(of: Seat, hedge: bool = False) -> CallSpec:
    return CallSpec(of, Role.MEMBER, 0, ({"role": "user", "content": "?"},), 100, hedge=hedge)


class Stage:
    """What a stage came to, when, and what it told."""

    def __init__(self, script: dict[str, Says], limit: int = USD) -> None:
        self.calls = ScriptedCalls(lambda asked: script[asked.seat.name])
        self.limit = limit
        self.reached: list[float] = []
        self.seconds = 0.0
        self.gathered = Gathered()

    def gather(self, seats: Sequence[Seat] = (ONE, TWO, THREE), **plan: Any) -> Stage:
        async def main() -> None:
            caller = Caller(self.calls, Budget(self.calls, Nano(self.limit)), DEADLINES)

            async def reached(seconds: float) -> None:
                self.reached.append(seconds)

            settings: dict[str, Any] = {"quorum": 2, "ends_at": 20, "respec": spec, "reached": reached, **plan}
            self.gathered = await Gathering(caller, Rules(), Plan(**settings)).gather([spec(one) for one in seats])
            self.seconds = asyncio.get_running_loop().time()
            assert not asyncio.all_tasks() - {asyncio.current_task()}

        run(main())
        assert self.calls.running == 0
        return self

    def statuses(self) -> dict[str, str]:
        return {one.spec.seat.name: one.status for one in self.gathered.outcomes}


def says(seconds: float, **more: Any) -> Says:
    return Says("an answer", seconds, first=min(seconds, 1.0), pieces=16, **more)


def test_all_answer_and_nobody_waits_longer() -> None:
    """The stage is over with its last answer."""
    stage = Stage({"one": says(2), "two": says(2.2), "three": says(2.3)}).gather()
    assert stage.statuses() == {"one": "answered", "two": "answered", "three": "answered"}
    assert (stage.seconds, stage.reached) == (pytest.approx(2.3), [pytest.approx(2.2)])


@pytest.mark.parametrize(("quorum_at", "ends"), [(1.0, 1.5), (8.0, 10.0)])
def test_hanging_member_costs_a_quarter_of_the_time_or_half_a_second(quorum_at: float, ends: float) -> None:
    """The stage ends by max(1.25 x quorum time, quorum time + 0.5 s), and the late one is cancelled."""
    stage = Stage({"one": says(quorum_at / 2), "two": says(quorum_at), "three": Says("", 1, hangs=True)})
    stage.gather()
    assert stage.seconds == pytest.approx(ends)
    assert stage.statuses()["three"] == "late"
    assert [one.seat.name for one in stage.calls.cancelled] == ["three"]


def test_grace_lets_a_straggler_in() -> None:
    """Who answers within the grace is among the answers."""
    stage = Stage({"one": says(4), "two": says(8), "three": says(9.9)}).gather()
    assert stage.statuses()["three"] == "answered"


def test_failed_member_is_replaced_by_another_vendor_first() -> None:
    """The spare of the failed one's own vendor waits."""
    script = {"one": says(1, fails="unavailable"), "two": says(2), "three": says(9), "other": says(2), "same": says(1)}
    stage = Stage(script).gather(spares=(SAME_VENDOR, OTHER))
    assert stage.statuses() == {"one": "replaced", "two": "answered", "three": "late", "other": "answered"}


def test_spare_that_fails_is_replaced_by_the_next() -> None:
    """Of the same vendor where there is no other."""
    script = {
        "one": says(1, fails="broken"),
        "two": says(2, fails="broken"),
        "three": says(3),
        "other": says(1, fails="broken"),
        "same": says(4),
    }
    stage = Stage(script).gather(spares=(OTHER, SAME_VENDOR))
    assert stage.statuses() == {
        "one": "replaced",
        "two": "replaced",
        "three": "answered",
        "other": "failed",
        "same": "answered",
    }


def test_after_the_quorum_nobody_is_replaced() -> None:
    """A failure then costs no further call."""
    stage = Stage({"one": says(1), "two": says(2), "three": says(2.2, fails="broken"), "other": says(1)})
    stage.gather(spares=(OTHER,))
    assert stage.statuses() == {"one": "answered", "two": "answered", "three": "failed"}


def test_quorum_waits_for_the_vendors_it_needs() -> None:
    """Two answers of one vendor are no quorum of two vendors, as long as another can still answer."""
    stage = Stage({"one": says(1), "same": says(1), "three": says(6)}).gather((ONE, SAME_VENDOR, THREE), vendors=2)
    assert stage.reached == [pytest.approx(6)]


def test_quorum_takes_what_vendors_are_left() -> None:
    """A vendor that has failed is not waited for."""
    stage = Stage({"one": says(1), "same": says(1), "three": says(6, fails="broken")})
    stage.gather((ONE, SAME_VENDOR, THREE), vendors=2)
    assert stage.reached == [pytest.approx(6)]
    assert stage.seconds == pytest.approx(6)


def test_spare_brings_the_vendor_that_is_missing() -> None:
    """Two answers of one vendor: where the other one fails, a spare of a third is called before that will do."""
    stage = Stage({"one": says(1), "same": says(1), "three": says(3, fails="broken"), "other": says(2)})
    stage.gather((ONE, SAME_VENDOR, THREE), vendors=2, spares=(OTHER,))
    assert stage.statuses() == {"one": "answered", "same": "answered", "three": "replaced", "other": "answered"}


def test_silent_member_is_hedged_with_another_vendor() -> None:
    """After the silence allowed, while the quorum is open, once."""
    script = {
        "one": Says("", 1, hangs=True),
        "two": says(1),
        "three": Says("", 1, hangs=True),
        "other": says(2),
        "same": says(2),
    }
    stage = Stage(script).gather(spares=(SAME_VENDOR, OTHER), hedge_after=4.0, may_hedge=lambda: True)
    assert stage.statuses() == {"one": "late", "two": "answered", "three": "late", "other": "answered"}
    assert [one.hedge for one in stage.calls.specs] == [False, False, False, True]
    assert stage.seconds == pytest.approx(6 * 1.25)


def test_speaking_member_is_not_hedged() -> None:
    """Slow is not silent."""
    stage = Stage(
        {
            "one": Says("slow", 12, first=1, pieces=16),
            "two": says(1),
            "three": Says("slow", 11, first=1, pieces=16),
            "other": says(1),
        }
    )
    stage.gather(spares=(OTHER,), hedge_after=4.0, may_hedge=lambda: True)
    assert "other" not in stage.statuses()


def test_no_hedge_without_budget_for_it() -> None:
    """The share of runs that may hedge is used up."""
    script = {"one": Says("", 1, hangs=True), "two": says(1), "three": says(9), "other": says(1)}
    stage = Stage(script).gather(spares=(OTHER,), hedge_after=4.0, may_hedge=lambda: False)
    assert "other" not in stage.statuses()


def test_stage_ends_in_time_without_a_quorum() -> None:
    """All hang: they are failed by timeout, with what they had said."""
    script = {name: Says("some words", 2, first=1, hangs=True) for name in ("one", "two", "three")}
    stage = Stage(script).gather(ends_at=3.5)
    assert stage.seconds == pytest.approx(3.5)
    assert [one.status for one in stage.gathered.outcomes] == ["failed"] * 3
    assert {one.reason for one in stage.gathered.outcomes} == {"timeout"}
    assert {one.partial for one in stage.gathered.outcomes} == {"some words"}


def test_silence_within_an_answer_fails_it() -> None:
    """The idle deadline counts from the last word."""
    script = {"one": Says("some words", 2, first=1, hangs=True), "two": says(9), "three": says(9)}
    stage = Stage(script).gather()
    assert (stage.gathered.outcomes[0].reason, stage.gathered.outcomes[0].seconds) == ("timeout", pytest.approx(4.75))


def test_unusable_answer_is_a_failure() -> None:
    """What the stage's own judge says decides."""
    stage = Stage({"one": says(1), "two": says(1), "three": says(1)})
    stage.gather(judge=lambda asked, _: "garbage" if asked.seat.name == "two" else "")
    assert stage.gathered.outcomes[1].reason == "garbage"
    assert stage.gathered.outcomes[1].partial == "an answer"


def test_call_without_room_is_not_made() -> None:
    """The budget carries two of three."""
    room = 2 * ScriptedCalls(lambda _: says(1)).cost_max(spec(ONE))
    stage = Stage({"one": says(2), "two": says(2), "three": says(2)}, limit=room).gather()
    assert stage.statuses() == {"one": "answered", "two": "answered", "three": "failed"}
    assert stage.gathered.outcomes[2].reason == "budget"
    assert len(stage.calls.specs) == 2


@pytest.mark.parametrize("content_filter", [True, False])
def test_empty_and_filtered_answers_fail(content_filter: bool) -> None:
    """An answer that says nothing is none."""
    bad = Says("half", 1, finish_reason="content_filter") if content_filter else Says("  \n", 1)
    stage = Stage({"one": bad, "two": says(1), "three": says(1)}).gather()
    assert stage.gathered.outcomes[0].reason == ("content_filter" if content_filter else "empty")


def test_cancelled_stage_leaves_no_call() -> None:
    """Cancelled twice, it still waits for their ends."""
    calls = ScriptedCalls(lambda _: Says("", 1, hangs=True))

    async def main() -> None:
        caller = Caller(calls, Budget(calls, Nano(USD)), DEADLINES)
        stage = Gathering(caller, Rules(), Plan(quorum=3, ends_at=50))
        loop = asyncio.get_running_loop()
        task = loop.create_task(stage.gather([spec(one) for one in (ONE, TWO, THREE, FOUR, FIVE)]))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert calls.running == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())
    assert len(calls.cancelled) == 5


def test_gathering_is_the_same_every_time() -> None:
    """Answers that come at one moment are taken in the order of the seats."""
    orders = set()
    for _ in range(5):
        stage = Stage({"one": says(2), "two": says(2), "three": says(2)}).gather()
        orders.add(tuple(one.spec.seat.name for one in stage.gathered.answered))
    assert orders == {("one", "two", "three")}


def test_spare_that_cannot_be_called_is_followed_by_the_next() -> None:
    """The first has no room in the budget."""
    dear = seat("dear")
    asked = {"one": says(2, fails="broken"), "two": says(1), "other": says(1), "dear": says(1)}

    def respec(of: Seat, hedge: bool) -> CallSpec:
        return CallSpec(of, Role.MEMBER, 0, ({"role": "user", "content": "?"},), 10**9 if of is dear else 100)

    found = Stage(asked).gather((ONE, TWO), spares=(dear, OTHER), respec=respec)
    assert found.statuses() == {"one": "replaced", "two": "answered", "dear": "replaced", "other": "answered"}


def test_vendors_that_are_there_already_count() -> None:
    """One more answer is wanted, of another vendor than the one that is there."""
    asked = {"same": says(1), "two": says(6)}
    there = frozenset({ONE.vendor})
    found = Stage(asked).gather((SAME_VENDOR, TWO), quorum=1, vendors=2, there=there)
    assert found.statuses() == {"same": "answered", "two": "answered"}
