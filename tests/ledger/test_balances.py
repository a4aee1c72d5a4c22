"""Prepaid balances: funded by payments, held from with the caps, paid by what was really used, ended in time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from proxy.ledger.api import CapExceeded, Hold
from proxy.ledger.errors import AMOUNT_UNITS_MAX
from proxy.ledger.payment_api import (
    BalanceExceeded,
    BalanceKind,
    BalanceMismatch,
    BalanceState,
    LeaseLost,
    PaymentTaken,
    Proof,
    Receipt,
    Taken,
    Unit,
)
from proxy.ledger.payment_expiry import UNCLAIMED_MS
from proxy.ledger.payment_states import PaymentState
from proxy.ledger.store import SqliteLedger
from tests.ledger.making import (
    BERLIN,
    DAY_MS,
    bought,
    cap,
    dispatched,
    drawing,
    ecash,
    funded,
    new_balance,
    notes,
    opened,
    proof,
    rows,
    settlement,
    unsettled,
)
from tests.support.fakes import FakeClock


async def stands(ledger: SqliteLedger, digest: bytes) -> BalanceState:
    state = await ledger.balance(digest)
    assert state is not None
    return state


async def exceeded(ledger: SqliteLedger, digest: bytes, amount: int, **changes: Any) -> BalanceState | None:
    with pytest.raises(BalanceExceeded) as refused:
        await ledger.hold(drawing(digest, amount, **changes))
    return refused.value.state


# -- holds


async def test_a_balance_pays_what_was_used(ledger: SqliteLedger) -> None:
    """Held in full, settled at the real cost, the rest is there again."""
    digest = await funded(ledger, 50_000)
    hold, attempt = await dispatched(ledger, drawing(digest, 30_000))
    state = await stands(ledger, digest)
    assert (hold.balance, state.held, state.left, state.requests) == (state.row, 30_000, 20_000, 0)
    await ledger.commit(hold)
    ledger.settle(hold, settlement(60, attempt, tendered=7_000))
    state = await stands(ledger, digest)
    assert (state.spent, state.held, state.left, state.requests) == (7_000, 0, 43_000, 1)
    assert rows(ledger.path, "SELECT tender_unit, tender_held, tender_input, tender_paid FROM holds") == [
        ("msat", 30_000, 3_000, 7_000)
    ]


async def test_a_balance_pays_at_most_what_was_held(ledger: SqliteLedger) -> None:
    """Whatever is asked of it; and nothing for a hold that is released."""
    digest = await funded(ledger, 50_000)
    hold, attempt = await dispatched(ledger, drawing(digest, 30_000))
    ledger.settle(hold, settlement(60, attempt, tendered=31_000))
    ledger.release(await ledger.hold(drawing(digest, 20_000)), reason="refused", at_ms=0)
    state = await stands(ledger, digest)
    assert (state.spent, state.held, state.requests) == (30_000, 0, 1)


async def test_an_impossible_amount_is_paid_in_full(ledger: SqliteLedger) -> None:
    """As caps and purses are."""
    digest = await funded(ledger, 50_000)
    hold, attempt = await dispatched(ledger, drawing(digest, 30_000))
    ledger.settle(hold, settlement(60, attempt, tendered=-1))
    assert (await stands(ledger, digest)).spent == 30_000
    assert ledger.alarms.invalid_amounts == 1


async def test_nobody_holds_more_than_there_is(ledger: SqliteLedger) -> None:
    """Neither from a token that nobody knows, nor in another unit; nothing counts in a cap either."""
    digest = await funded(ledger, 50_000)
    first = await ledger.hold(drawing(digest, 50_000))
    short = await exceeded(ledger, digest, 1, caps=(cap(1000),))
    assert short is not None
    assert short.left == 0
    ledger.release(first, reason="refused", at_ms=0)
    other = await exceeded(ledger, digest, 1, unit=Unit.USDC)
    assert other is not None
    assert other.unit is Unit.MSAT
    assert await exceeded(ledger, b"?" * 32, 0) is None
    (state,) = await ledger.cap_states((cap(1000),))
    assert state.held == 0


async def test_a_refused_cap_leaves_the_balance_alone(ledger: SqliteLedger) -> None:
    """One transaction over both."""
    digest = await funded(ledger, 50_000)
    with pytest.raises(CapExceeded):
        await ledger.hold(drawing(digest, 1, cap(5)))
    assert (await stands(ledger, digest)).held == 0


async def test_many_at_once_never_overdraw_it(ledger: SqliteLedger) -> None:
    """Fifty exchanges of a balance that is good for seven."""
    digest = await funded(ledger, 7_000)
    tried = await asyncio.gather(*[ledger.hold(drawing(digest, 1_000)) for _ in range(50)], return_exceptions=True)
    holds = [one for one in tried if isinstance(one, Hold)]
    assert len(holds) == 7
    assert all(isinstance(one, Hold | BalanceExceeded) for one in tried)
    for hold in holds:
        ledger.release(hold, reason="refused", at_ms=0)


async def test_another_process_sees_it_at_once(ledger: SqliteLedger) -> None:
    """Two processes on one file draw from the same balance."""
    digest = await funded(ledger, 50_000)
    other = opened(ledger.path)
    hold = await other.hold(drawing(digest, 40_000))
    state = await exceeded(ledger, digest, 20_000)
    assert state is not None
    assert state.held == 40_000
    other.release(hold, reason="refused", at_ms=0)
    await other.close()
    assert (await stands(ledger, digest)).held == 0


# -- deposits


async def test_a_payment_funds_one_balance_once(ledger: SqliteLedger) -> None:
    """The same payment again gives the same answer, and nothing more."""
    shown, balance = proof(amount=50_000), new_balance()
    lease = await ledger.lease(shown, "top-up")
    state = await ledger.fund(lease, balance)
    assert (state.unit, state.kind, state.deposited, state.left) == (Unit.MSAT, BalanceKind.BOUGHT, 50_000, 50_000)
    assert (state.created_ms, state.expires_ms) == (1000, 1000 + 30 * DAY_MS)
    assert await ledger.fund(lease, balance) == state
    with pytest.raises(BalanceMismatch):
        await ledger.fund(lease, new_balance())
    with pytest.raises(PaymentTaken) as spent:
        await ledger.lease(shown, "top-up")
    assert spent.value.why is Taken.SPENT
    payment = spent.value.payment
    assert (payment.state, payment.credited, payment.balance) == (PaymentState.BURNT, 50_000, state.row)
    ledger.unlease(lease, reason="done")


async def test_a_top_up_adds_to_it(ledger: SqliteLedger, clock: FakeClock) -> None:
    """And it counts as use."""
    digest = await funded(ledger, 50_000)
    clock.advance(10 * 86_400)
    lease = await ledger.lease(proof(amount=5_000), "top-up")
    state = await ledger.fund(lease, (await stands(ledger, digest)).row)
    assert (state.deposited, state.expires_ms) == (55_000, clock.ms + 30 * DAY_MS)
    assert await ledger.fund(lease, state.row) == state


async def test_change_is_not_put_on_a_balance(ledger: SqliteLedger) -> None:
    """Ecash that pays for a balance gives change as it does for an answer; our notes are ours."""
    lease = await ledger.lease(ecash(), "top-up")
    kept, change = notes(16, 4), notes(change=(8, 1))
    await ledger.payment_settled(lease, Receipt(30_000, 1_000, 9_000, ecash=kept + change))
    state = await ledger.fund(lease, new_balance())
    assert state.deposited == 20_000
    assert await ledger.wallet() == kept
    assert await ledger.ecash_of(lease.row, kept=False) == change


@pytest.mark.parametrize("why", ["unit", "ended", "gone", "opened"])
async def test_a_balance_that_cannot_take_it_leaves_the_payment_alone(
    ledger: SqliteLedger, clock: FakeClock, why: str
) -> None:
    """Other unit, ended, not there, or opened with another payment: it stays settled, and leased."""
    digest = await funded(ledger, 50_000, name="bal")
    row = (await stands(ledger, digest)).row
    clock.advance(31 * 86_400 if why == "ended" else 0)
    shown = unsettled() if why == "unit" else proof()
    lease = await ledger.lease(shown, "top-up")
    if why == "unit":
        await ledger.payment_settled(lease, Receipt(1_000))
    with pytest.raises(BalanceMismatch):
        await ledger.fund(lease, {"gone": 99, "opened": new_balance("bal")}.get(why, row))
    assert (await ledger.fund(lease, new_balance())).deposited == shown.amount


async def test_a_balance_never_holds_more_than_can_be_counted(ledger: SqliteLedger) -> None:
    """The row stays inside its bounds."""
    digest = await funded(ledger, AMOUNT_UNITS_MAX)
    lease = await ledger.lease(proof(), "top-up")
    with pytest.raises(BalanceMismatch):
        await ledger.fund(lease, (await stands(ledger, digest)).row)
    ledger.unlease(lease, reason="too much")


async def test_only_what_is_settled_and_leased_funds(ledger: SqliteLedger) -> None:
    """No balance comes of money that did not."""
    lease = await ledger.lease(unsettled(), "top-up")
    with pytest.raises(LeaseLost):
        await ledger.fund(lease, new_balance())
    with pytest.raises(LeaseLost):
        await ledger.refund(lease, new_balance())
    await ledger.payment_freed(lease, "nothing was sent")
    assert rows(ledger.path, "SELECT count(*) FROM balances") == [(0,)]


async def test_a_balance_is_named_by_a_digest(ledger: SqliteLedger) -> None:
    """Never by its token."""
    lease = await ledger.lease(proof(), "top-up")
    for wrong in (replace(new_balance(), digest=b"bal_token"), replace(new_balance(), life_ms=-1)):
        with pytest.raises(ValueError, match=r"."):
            await ledger.fund(lease, wrong)
        with pytest.raises(ValueError, match=r"."):
            await ledger.refund(lease, wrong)
    ledger.unlease(lease, reason="wrong")


# -- refunds


async def refunded(ledger: SqliteLedger, shown: Proof) -> BalanceState:
    lease = await ledger.lease(shown, "refund")
    balance = new_balance(kind=BalanceKind.REFUND, life_ms=365 * DAY_MS, idle_ms=0)
    state = await ledger.refund(lease, balance)
    assert await ledger.refund(lease, balance) == state
    return state


async def test_an_unused_payment_is_refunded_to_a_balance(ledger: SqliteLedger) -> None:
    """All of it, in its own unit, for a year, however idle; the same payment again gives the same answer."""
    shown = unsettled()
    hold = await ledger.hold(bought(shown))
    lease = hold.lease
    assert lease is not None
    await ledger.payment_settled(lease, Receipt(1_000, fee=10))
    ledger.release(hold, reason="upstream failed", at_ms=0)
    state = await refunded(ledger, shown)
    assert (state.unit, state.kind, state.deposited) == (Unit.USDC, BalanceKind.REFUND, 990)
    assert state.expires_ms == 1000 + 365 * DAY_MS
    payment = await ledger.payment(shown.rail, shown.key)
    assert payment is not None
    assert (payment.state, payment.credited, payment.balance) == (PaymentState.REFUNDED, 990, state.row)
    with pytest.raises(PaymentTaken) as taken:
        await ledger.lease(shown, "refund")
    assert taken.value.why is Taken.RETURNED


async def test_refunded_ecash_is_ours(ledger: SqliteLedger) -> None:
    """Change and all: its worth is on the balance."""
    lease = await ledger.lease(ecash(), "refund")
    swapped = notes(16, 4) + notes(change=(8, 2))
    await ledger.payment_settled(lease, Receipt(30_000, 0, 10_000, ecash=swapped))
    state = await ledger.refund(lease, new_balance(kind=BalanceKind.REFUND))
    assert state.deposited == 30_000
    assert set(await ledger.wallet()) == set(swapped)


# -- ends


async def test_a_bought_balance_ends_idle_or_old(ledger: SqliteLedger, clock: FakeClock) -> None:
    """30 days after its last use; 90 days after it was opened, however much it is used."""
    idle, used = await funded(ledger, 50_000), await funded(ledger, 60_000)
    for _ in range(4):
        clock.advance(29 * 86_400)
        if (await stands(ledger, used)).expires_ms > clock.ms:
            ledger.release(await ledger.hold(drawing(used, 1_000, at_ms=clock.ms)), reason="x", at_ms=0)
    assert (await stands(ledger, idle)).expires_ms == 1000 + 30 * DAY_MS
    assert (await stands(ledger, used)).expires_ms == 1000 + 90 * DAY_MS
    state = await exceeded(ledger, used, 1, at_ms=clock.ms)
    assert state is not None
    assert state.left == 60_000
    assert await ledger.expire_payments(clock.ms) == 2
    assert await ledger.expire_payments(clock.ms) == 0
    state = await stands(ledger, idle)
    assert (state.expired, state.left) == (50_000, 0)


async def test_a_balance_does_not_end_under_a_hold(ledger: SqliteLedger, clock: FakeClock) -> None:
    """What is held when it ends is paid; the rest ends after that."""
    digest = await funded(ledger, 50_000)
    hold, attempt = await dispatched(ledger, drawing(digest, 30_000, at_ms=clock.ms))
    clock.advance(31 * 86_400)
    assert await ledger.expire_payments(clock.ms) == 0
    ledger.settle(hold, settlement(60, attempt, tendered=10_000))
    assert await ledger.expire_payments(clock.ms) == 1
    state = await stands(ledger, digest)
    assert (state.spent, state.expired, state.left) == (10_000, 40_000, 0)


async def test_money_that_nobody_claims_for_a_year_is_ours(ledger: SqliteLedger, clock: FakeClock) -> None:
    """Not a millisecond before, and not while somebody has it."""
    shown, other = proof(amount=21_000), ecash()
    ledger.release(await ledger.hold(bought(shown)), reason="upstream failed", at_ms=clock.ms)
    lease = await ledger.lease(other, "refund")
    await ledger.payment_settled(lease, Receipt(30_000, ecash=notes(30)))
    at = clock.ms + UNCLAIMED_MS
    assert await ledger.expire_payments(at - 1) == 0
    assert await ledger.expire_payments(at) == 1
    payment = await ledger.payment(shown.rail, shown.key)
    assert payment is not None
    assert (payment.state, payment.expired, payment.reason) == (PaymentState.BURNT, 21_000, "expired")
    with pytest.raises(PaymentTaken) as taken:
        await ledger.lease(shown, "refund")
    assert taken.value.why is Taken.SPENT
    ledger.unlease(lease, reason="changed my mind")


async def test_what_never_brought_anything_is_forgotten(ledger: SqliteLedger, clock: FakeClock) -> None:
    """Proofs that came to nothing a month ago; what was paid is never forgotten."""
    paid = proof()
    ledger.release(await ledger.hold(bought(paid)), reason="upstream failed", at_ms=0)
    junk = unsettled()
    hold = await ledger.hold(bought(junk))
    lease = hold.lease
    assert lease is not None
    await ledger.payment_refused(lease, "no money")
    clock.advance(40 * 86_400)
    assert await ledger.expire_payments(clock.ms) == 0
    assert await ledger.payment(junk.rail, junk.key) is None
    assert await ledger.payment(paid.rail, paid.key) is not None
    with pytest.raises(LeaseLost):
        await ledger.payment_settled(lease, Receipt(1))
    ledger.release(hold, reason="payment refused", at_ms=0)


async def test_pruned_holds_leave_the_balance_provable(ledger: SqliteLedger) -> None:
    """What it paid for exchanges that were folded into days is kept as one sum."""
    digest = await funded(ledger, 50_000)
    for paid in (7_000, 0, 5_000):
        hold, attempt = await dispatched(ledger, drawing(digest, 10_000, at_ms=10))
        ledger.settle(hold, settlement(60, attempt, tendered=paid))
    burnt, attempt = await dispatched(ledger, bought(proof(), at_ms=10))
    await ledger.commit(burnt)
    ledger.settle(burnt, settlement(60, attempt))
    await ledger.hold(drawing(digest, 1_000, at_ms=5_000))
    await ledger.flush()
    assert await ledger.prune(1_000, BERLIN) == 4
    assert rows(ledger.path, "SELECT spent, folded, requests, held FROM balances") == [(12_000, 12_000, 2, 1_000)]
    assert rows(ledger.path, "SELECT amount FROM transfers WHERE kind = 42") == [(12_000,)]
    hold, attempt = await dispatched(ledger, drawing(digest, 10_000))
    ledger.settle(hold, settlement(60, attempt, tendered=1_000))
    assert (await stands(ledger, digest)).spent == 13_000
