"""What becomes of the payments and balances of a process that died."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from proxy.ledger.payment_api import LeaseLost, PaymentTaken, Receipt, Taken
from proxy.ledger.payment_states import PaymentState
from proxy.pricing.money import ZERO
from tests.ledger.making import (
    bought,
    crash,
    dispatched,
    drawing,
    ecash,
    funded,
    leased,
    notes,
    opened,
    proof,
    rows,
    settlement,
    unsettled,
)

S = PaymentState


async def test_what_was_being_asked_for_is_unknown(tmp_path: Path) -> None:
    """With a hold, without one, and after the hold has ended: the reconciler's at once, and nobody else's."""
    path = tmp_path / "tollway.db"
    before = opened(path)
    held, alone, orphan = unsettled(detail=b"held"), unsettled(), unsettled()
    first = await before.hold(bought(held))
    await before.lease(alone, "top-up")
    before.release(await before.hold(bought(orphan)), reason="client_gone", at_ms=0)
    await before.flush()
    crash(before)
    after = opened(path)
    assert (after.recovered.released, after.recovered.unknown, after.recovered.freed) == (1, 3, 0)
    leases = await after.unknown_payments(count_max=8, idle_ms=60_000)
    assert {lease.proof.key for lease in leases} == {held.key, alone.key, orphan.key}
    assert leases[0].proof.detail == b"held"
    with pytest.raises(LeaseLost):
        await after.payment_settled(leased(first), Receipt(1000))
    for lease in leases:
        await after.payment_settled(lease, Receipt(1000))
        assert (await after.lease(lease.proof, "refund")).settled
    assert await after.audit() == []
    await after.close()


async def test_a_fixed_price_is_charged_where_its_payment_was_burnt(tmp_path: Path) -> None:
    """It has bought the answer. Before that nothing is owed for one that nobody has, and the payment is free."""
    path = tmp_path / "tollway.db"
    before = opened(path)
    free, burnt = proof(), proof()
    await dispatched(before, replace(bought(free), owed=ZERO, input_charged=ZERO))
    hold, _ = await dispatched(before, replace(bought(burnt), owed=ZERO, input_charged=ZERO))
    await before.commit(hold)
    crash(before)
    after = opened(path)
    charged = rows(path, "SELECT charged, held_charged FROM holds ORDER BY id")
    assert [row[0] for row in charged] == [0, charged[1][1]]
    assert charged[1][1] > 0
    assert await after.audit() == []
    await after.close()


async def test_settled_money_is_its_payers_again(tmp_path: Path) -> None:
    """Freed to be used again, or given back as ecash; what was burnt stays burnt."""
    path = tmp_path / "tollway.db"
    before = opened(path)
    usable, returned, burnt = proof(), ecash(), proof()
    await dispatched(before, bought(usable))
    await before.payment_settled(leased(await before.hold(bought(returned))), Receipt(30_000, ecash=notes(30)))
    hold, _ = await dispatched(before, bought(burnt))
    await before.commit(hold)
    crash(before)
    after = opened(path)
    assert (after.recovered.unknown, after.recovered.freed, after.recovered.committed) == (0, 2, 1)
    states = [await after.payment(one.rail, one.key) for one in (usable, returned, burnt)]
    assert [one and (one.state, one.leased) for one in states] == [
        (S.SETTLED, False),
        (S.REFUNDED, False),
        (S.BURNT, False),
    ]
    hold, attempt = await dispatched(after, bought(usable))
    assert leased(hold).settled
    await after.commit(hold)
    after.settle(hold, settlement(60, attempt))
    with pytest.raises(PaymentTaken) as taken:
        await after.hold(bought(burnt))
    assert taken.value.why is Taken.SPENT
    assert await after.audit() == []
    await after.close()


async def test_a_balance_pays_the_input_of_what_a_crash_left(tmp_path: Path) -> None:
    """Of holds that had called an upstream; nothing for the others."""
    path = tmp_path / "tollway.db"
    before = opened(path)
    digest = await funded(before, 50_000)
    await before.hold(drawing(digest, 10_000))
    await dispatched(before, drawing(digest, 10_000))
    hold, _ = await dispatched(before, drawing(digest, 20_000))
    await before.commit(hold)
    crash(before)
    after = opened(path)
    state = await after.balance(digest)
    assert state is not None
    assert (state.spent, state.held, state.left) == (1_000 + 2_000, 0, 47_000)
    assert rows(path, "SELECT tender_paid FROM holds ORDER BY id") == [(0,), (1_000,), (2_000,)]
    assert await after.audit() == []
    await after.close()


async def test_a_living_siblings_leases_are_not_touched(tmp_path: Path) -> None:
    """Another process that opens the file takes nothing from one that still runs; its word still counts."""
    path = tmp_path / "tollway.db"
    first = opened(path)
    shown = unsettled()
    hold = await first.hold(bought(shown))
    second = opened(path)
    assert await second.unknown_payments(count_max=8, idle_ms=0) == []
    with pytest.raises(PaymentTaken) as taken:
        await second.hold(bought(shown))
    assert taken.value.why is Taken.UNDER_WAY
    await first.payment_settled(leased(hold), Receipt(1000))
    first.release(hold, reason="upstream failed", at_ms=0)
    await first.close()
    assert leased(await second.hold(bought(shown))).settled
    assert await second.audit() == []
    await second.close()


async def test_a_lease_that_outlives_its_ledger_is_ended_by_the_next_start(tmp_path: Path) -> None:
    """Closed in order, with somebody still asking outside."""
    path = tmp_path / "tollway.db"
    ledger = opened(path)
    lease = await ledger.lease(unsettled(), "top-up")
    await ledger.close()
    ledger.unlease(lease, reason="too late")
    after = opened(path)
    assert (after.recovered.boots, after.recovered.unknown) == (1, 1)
    assert await after.audit() == []
    await after.close()


async def test_two_that_start_together_recover_once(tmp_path: Path) -> None:
    """And one of two reconcilers gets each unknown payment."""
    path = tmp_path / "tollway.db"
    before = opened(path)
    for _ in range(5):
        await before.lease(unsettled(), "top-up")
    crash(before)
    both = [opened(path), opened(path)]
    assert sorted(one.recovered.unknown for one in both) == [0, 5]
    leases = [await one.unknown_payments(count_max=3, idle_ms=60_000) for one in both]
    assert [len(some) for some in leases] == [3, 2]
    assert len({lease.row for some in leases for lease in some}) == 5
    for one in both:
        await one.close()
