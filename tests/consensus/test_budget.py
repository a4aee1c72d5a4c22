"""What a run may still spend, and how many runs may hedge."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.consensus.api import Answer, CallFailed, CallRecord, CallSpec, Deltas, Role
from proxy.consensus.budget import Budget, HedgeBudget
from proxy.pricing.money import Nano
from tests.support.scripted_panels import ONE


class Priced:
    """Calls whose bound is their output limit."""

    def __init__(self) -> None:
        self.records_: list[CallRecord] = []

    @property
    def records(self) -> Sequence[CallRecord]:
        return self.records_

    def cost_max(self, spec: CallSpec) -> Nano:
        if spec.output_tokens > 1000:
            raise CallFailed("unavailable")
        return Nano(spec.output_tokens)

    async def call(self, spec: CallSpec, deltas: Deltas | None = None) -> Answer:
        raise NotImplementedError


def spec(tokens: int) -> CallSpec:
    return CallSpec(ONE, Role.MEMBER, 0, (), tokens)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.booleans()), max_size=40))
def test_what_is_spent_never_exceeds_the_limit(calls: list[tuple[int, int, bool]]) -> None:
    """Whatever calls are begun, and in whatever order they end at or below their bounds."""
    priced = Priced()
    budget = Budget(priced, Nano(200))
    open_: list[tuple[int, CallRecord, int]] = []
    for bound, cost, ends in calls:
        try:
            ticket = budget.take(spec(bound))
        except CallFailed as failed:
            assert failed.kind == "budget"
            assert bound > budget.room()
        else:
            record = CallRecord(ONE, Role.MEMBER, 0, cost=Nano(bound))
            priced.records_.append(record)
            open_.append((ticket, record, min(cost, bound)))
        if ends and open_:
            ticket, record, real = open_.pop(0)
            record.status, record.cost = "served", Nano(real)
            budget.give_back(ticket)
        assert 0 <= budget.spent() <= 200
        assert sum(record.cost for record in priced.records_) <= 200


def test_reserve_is_for_the_final_answer_alone() -> None:
    """Others are refused what it needs."""
    budget = Budget(Priced(), Nano(100))
    budget.reserved = Nano(60)
    with pytest.raises(CallFailed, match="budget"):
        budget.take(spec(41))
    budget.take(spec(40))
    budget.take(spec(60), final=True)
    assert budget.room(final=True) == 0


def test_seat_that_cannot_take_a_call_has_no_bound() -> None:
    """Its own reason is told, and it counts nothing."""
    budget = Budget(Priced(), Nano(100))
    with pytest.raises(CallFailed, match="unavailable"):
        budget.take(spec(2000))
    assert budget.bound(spec(2000)) is None
    assert budget.bounds([spec(10), spec(2000), spec(5)]) == 15


@pytest.mark.parametrize("percent", [0, 1, 5, 33, 100])
def test_hedges_never_exceed_their_share_of_runs(percent: int) -> None:
    """From the first run on."""
    budget = HedgeBudget(percent)
    hedges = 0
    for runs in range(1, 500):
        budget.bring()
        hedges += budget.take()
        assert hedges * 100 <= runs * percent
    assert hedges == 499 * percent // 100


def test_a_quiet_time_saves_up_few_hedges() -> None:
    """Ten at most, however long it was."""
    budget = HedgeBudget(50)
    for _ in range(1000):
        budget.bring()
    assert sum(budget.take() for _ in range(50)) == 10
