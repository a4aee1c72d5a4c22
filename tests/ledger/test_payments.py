"""Proofs of payment: leased with the hold, burnt before the answer, else free again or given back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from proxy.errors import Refusal
from proxy.ledger.api import CapExceeded, Hold, PurseExceeded
from proxy.ledger.errors import AMOUNT_UNITS_MAX, DuplicateHold, HoldNotOpen
from proxy.ledger.payment_api import (
    LeaseLost,
    OnFailure,
    PaymentTaken,
    Receipt,
    StoredAnswer,
    Taken,
    Unit,
)
from proxy.ledger.payment_states import PaymentState
from proxy.ledger.store import SqliteLedger
from tests.ledger.making import (
    PURSE,
    bought,
    cap,
    dispatched,
    ecash,
    leased,
    notes,
    proof,
    rows,
    served,
    settlement,
    stands,
    taken,
    tender,
    unsettled,
)

ANSWER = StoredAnswer("request", 200, (("content-type", "application/json"), ("x", "1")), b'{"ok": true}', 77)
S = PaymentState


# -- at first sight


async def test_what_is_settled_in_itself_is_money_at_once(ledger: SqliteLedger) -> None:
    """A preimage needs nobody to be asked: the row, its deposit and the lease are there with the hold."""
    shown = proof(amount=21_000)
    hold = await ledger.hold(bought(shown))
    lease = leased(hold)
    assert (lease.settled, lease.receipt, lease.fence) == (True, Receipt(21_000), 1)
    payment = await stands(ledger, shown)
    assert (payment.state, payment.leased, payment.amount, payment.held) == (S.SETTLED, True, 21_000, 21_000)
    assert (payment.id, payment.row, payment.leases) == (lease.id, lease.row, 1)
    assert payment.id.startswith("pay_")
    assert len(payment.id) == 36
    assert await ledger.payment_by_id(payment.id) == payment
    ledger.release(hold, reason="refused", at_ms=2000)


async def test_what_must_be_asked_for_is_leased_before(ledger: SqliteLedger) -> None:
    """The row is there before anything is asked outside; it has brought nothing yet."""
    shown = unsettled(detail=b"authorization")
    lease = leased(await ledger.hold(bought(shown)))
    payment = await stands(ledger, shown)
    assert (lease.settled, lease.receipt) == (False, None)
    assert (payment.state, payment.leased, payment.amount, payment.held) == (S.LEASED, True, 1000, 0)
    assert (payment.unit, payment.detail, payment.binding) == (Unit.USDC, b"authorization", "body")
    await ledger.payment_freed(lease, "never asked")


async def test_a_lease_is_on_disk_past_a_loss_of_power(ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lease, word and burning wait for the disk; a hold without a proof does not."""
    used: list[str] = []
    write = ledger._writer._transact
    monkeypatch.setattr(
        ledger._writer, "_transact", lambda batch: (write(batch), used.append(ledger._writer._durability.name))[0]
    )
    hold = await ledger.hold(bought(unsettled()))
    await ledger.payment_settled(leased(hold), Receipt(1000))
    assert used == ["FULL", "FULL"]
    await ledger.cap_states(())
    assert used[-1] == "NORMAL"
    await ledger.dispatch(hold, upstream="openai", upstream_model="m")
    await ledger.commit(hold)
    assert used[-1] == "FULL"
    ledger.settle(hold, settlement(0))


@pytest.mark.parametrize("refusal", ["cap", "purse", "duplicate"])
async def test_a_refused_hold_leaves_no_trace_of_a_lease(ledger: SqliteLedger, refusal: str) -> None:
    """Neither at first sight nor of a payment that is known."""
    known, new = proof(), proof()
    await ledger.hold(bought(known, exchange_id="first"))
    refused: dict[str, Any] = {
        "cap": {"caps": (cap(5),)},
        "purse": {"purse": PURSE},
        "duplicate": {"exchange_id": "first"},
    }[refusal]
    with pytest.raises((CapExceeded, PurseExceeded, DuplicateHold)):
        await ledger.hold(bought(new, **refused))
    assert await ledger.payment(new.rail, new.key) is None
    assert rows(ledger.path, "SELECT count(*) FROM transfers") == [(1,)]


async def test_a_taken_proof_leaves_no_trace_of_a_hold(ledger: SqliteLedger) -> None:
    """Nothing counts in a cap, and the exchange may try again under its own id."""
    shown = proof()
    first = await ledger.hold(bought(shown))
    assert (await taken(ledger, shown, caps=(cap(1000),), exchange_id="again")).why is Taken.UNDER_WAY
    (state,) = await ledger.cap_states((cap(1000),))
    assert state.held == 0
    ledger.release(first, reason="gone", at_ms=0)
    await ledger.hold(bought(shown, exchange_id="again"))


async def test_of_many_at_once_one_has_it(ledger: SqliteLedger) -> None:
    """Fifty exchanges show the same proof in one instant: one lease, 49 that are told so."""
    shown = proof()
    tried = await asyncio.gather(*[ledger.hold(bought(shown)) for _ in range(50)], return_exceptions=True)
    assert sum(isinstance(one, Hold) for one in tried) == 1
    assert {one.why for one in tried if isinstance(one, PaymentTaken)} == {Taken.UNDER_WAY}


# -- burnt


async def test_the_answer_burns_what_it_was_bought_with(ledger: SqliteLedger) -> None:
    """Captured in full, though it brought more than the price; the hold says what it was paid."""
    shown = proof(amount=30_000)
    hold, attempt = await dispatched(ledger, bought(shown, tender=tender(shown, 21_000)))
    await ledger.commit(hold)
    ledger.settle(hold, settlement(60, attempt))
    payment = await stands(ledger, shown)
    assert (payment.state, payment.captured, payment.held, payment.leased) == (S.BURNT, 30_000, 0, False)
    assert rows(ledger.path, "SELECT tender_held, tender_paid FROM holds") == [(21_000, 30_000)]


async def test_fee_change_and_what_is_absorbed_are_not_captured(ledger: SqliteLedger) -> None:
    """A token of 30 sats for a price of 21: a sat of fee, 6 of change, 2 too small to go back."""
    shown = ecash()
    hold, attempt = await dispatched(ledger, bought(shown))
    kept, change = notes(16, 4, 3), notes(change=(4, 2))
    receipt = Receipt(30_000, 1000, 6000, 2000, "https://mint.test", b"swap", kept + change)
    await ledger.payment_settled(leased(hold), receipt)
    payment = await stands(ledger, shown)
    assert (payment.fee, payment.change, payment.held) == (1000, 0, 29_000)
    assert await ledger.ecash_of(payment.row, kept=False) == ()
    await ledger.commit(hold)
    ledger.settle(hold, settlement(60, attempt))
    payment = await stands(ledger, shown)
    parts = (payment.captured, payment.change, payment.absorbed, payment.fee, payment.held)
    assert parts == (21_000, 6000, 2000, 1000, 0)
    assert (payment.reference, payment.receipt_detail) == ("https://mint.test", b"swap")
    assert await ledger.ecash_of(payment.row, kept=True) == kept
    assert await ledger.ecash_of(payment.row, kept=False) == change
    assert await ledger.wallet() == kept


async def test_a_burnt_proof_is_spent_and_gives_its_answer_again(ledger: SqliteLedger) -> None:
    """To the same request; another one, or one whose answer was not kept, is told that it is spent."""
    shown, bare = proof(), proof()
    await served(ledger, shown, ANSWER)
    await served(ledger, bare)
    again = await taken(ledger, shown)
    assert (again.why, again.answer, again.payment.state) == (Taken.SPENT, ANSWER, S.BURNT)
    other = await taken(ledger, shown, tender=replace(tender(shown), request_digest="other"))
    assert (other.why, other.answer) == (Taken.SPENT, None)
    assert (await taken(ledger, bare)).answer is None


async def test_headers_of_any_bytes_are_kept(ledger: SqliteLedger) -> None:
    """What a provider sends need not be text; the writer lives on."""
    shown = proof()
    answer = replace(ANSWER, headers=(("x", "\udcff\x00é"),))
    await served(ledger, shown, answer)
    assert (await taken(ledger, shown)).answer == answer


async def test_only_what_is_settled_and_leased_here_is_burnt(ledger: SqliteLedger) -> None:
    """Nothing may go out on money that has not come, or that is in other hands; the hold stays as it was."""
    hold, attempt = await dispatched(ledger, bought(unsettled()))
    with pytest.raises(LeaseLost):
        await ledger.commit(hold)
    await ledger.payment_settled(leased(hold), Receipt(1000))
    with pytest.raises(HoldNotOpen):
        await ledger.commit(await ledger.hold(bought(proof())))
    hold.lease = replace(leased(hold), fence=7)
    with pytest.raises(LeaseLost):
        await ledger.commit(hold)
    assert rows(ledger.path, "SELECT state FROM holds WHERE id=?", hold.id) == [(1,)]
    hold.lease = replace(leased(hold), fence=1)
    await ledger.commit(hold)
    with pytest.raises(LeaseLost):
        await ledger.commit(hold)
    ledger.settle(hold, settlement(60, attempt))


# -- not burnt


async def test_an_unburnt_proof_may_be_used_again_without_asking(ledger: SqliteLedger) -> None:
    """The upstream failed: the next lease knows that the money is there, and how it came."""
    shown = unsettled()
    hold, attempt = await dispatched(ledger, bought(shown))
    receipt = Receipt(1000, reference="0xabc", detail=b"response")
    await ledger.payment_settled(leased(hold), receipt)
    ledger.settle(hold, settlement(0, attempt))
    payment = await stands(ledger, shown)
    assert (payment.state, payment.leased, payment.held) == (S.SETTLED, False, 1000)
    lease = leased(await served(ledger, shown))
    assert (lease.settled, lease.receipt, lease.fence) == (True, receipt, 2)
    assert (await stands(ledger, shown)).state is S.BURNT


async def test_ecash_goes_back_when_no_answer_goes_out(ledger: SqliteLedger) -> None:
    """All of it less the mint's fee, price and change alike, at the end of the hold."""
    shown = ecash()
    hold = await ledger.hold(bought(shown))
    swapped = notes(16, 4) + notes(change=(8, 1))
    await ledger.payment_settled(leased(hold), Receipt(30_000, 1000, 9000, ecash=swapped))
    ledger.release(hold, reason="upstream failed", at_ms=2000)
    payment = await stands(ledger, shown)
    assert (payment.state, payment.returned, payment.fee, payment.change) == (S.REFUNDED, 29_000, 1000, 0)
    assert await ledger.ecash_of(payment.row, kept=None) == swapped
    assert await ledger.wallet() == ()
    assert (await taken(ledger, shown)).why is Taken.RETURNED


async def test_ecash_is_handed_out_with_the_failure_itself(ledger: SqliteLedger) -> None:
    """While the hold is open; its end changes nothing more."""
    shown = ecash()
    hold, attempt = await dispatched(ledger, bought(shown))
    await ledger.payment_settled(leased(hold), Receipt(30_000, ecash=notes(30)))
    await ledger.payment_returned(leased(hold), "upstream failed")
    assert (await stands(ledger, shown)).state is S.REFUNDED
    with pytest.raises(LeaseLost):
        await ledger.commit(hold)
    ledger.settle(hold, settlement(0, attempt))
    assert (await stands(ledger, shown)).returned == 30_000


async def test_nothing_is_returned_that_is_not_there(ledger: SqliteLedger) -> None:
    """What brought no ecash is kept for its payer instead."""
    shown = proof(on_failure=OnFailure.RETURN)
    hold = await ledger.hold(bought(shown))
    with pytest.raises(LeaseLost):
        await ledger.payment_returned(leased(hold), "upstream failed")
    ledger.release(hold, reason="upstream failed", at_ms=2000)
    assert (await stands(ledger, shown)).state is S.SETTLED


async def test_a_proof_is_worn_out_after_so_many_leases(ledger: SqliteLedger) -> None:
    """Then it can only be refunded: a lease without a hold is still to be had."""
    shown = proof(leases_max=2)
    for _ in range(2):
        ledger.release(await ledger.hold(bought(shown)), reason="upstream failed", at_ms=0)
    assert (await taken(ledger, shown)).why is Taken.WORN_OUT
    lease = await ledger.lease(shown, "refund")
    assert (lease.settled, lease.fence) == (True, 3)
    ledger.unlease(lease, reason="changed my mind")
    assert (await stands(ledger, shown)).leased is False


async def test_a_proof_is_worn_out_after_its_time(ledger: SqliteLedger) -> None:
    """To the millisecond, by the clock of the request."""
    shown = proof(use_until_ms=5000)
    ledger.release(await ledger.hold(bought(shown)), reason="upstream failed", at_ms=0)
    assert (await taken(ledger, shown, at_ms=5001)).why is Taken.WORN_OUT
    ledger.release(await ledger.hold(bought(shown, at_ms=5000)), reason="upstream failed", at_ms=0)
    ledger.unlease(await ledger.lease(replace(shown, use_until_ms=0), "refund"), reason="looked")
    assert (await taken(ledger, shown, at_ms=5001)).why is Taken.WORN_OUT


async def test_a_proof_is_for_what_it_was_first_shown_for(ledger: SqliteLedger) -> None:
    """Another binding is told so even while the first is under way; a refund need not know it."""
    shown = unsettled(binding="one")
    hold = await ledger.hold(bought(shown))
    other = replace(shown, binding="two")
    assert (await taken(ledger, other)).why is Taken.BOUND
    assert (await taken(ledger, replace(shown, unit=Unit.MSAT), tender=tender(replace(shown, unit=Unit.MSAT)))).why is (
        Taken.BOUND
    )
    await ledger.payment_settled(leased(hold), Receipt(1000))
    ledger.release(hold, reason="upstream failed", at_ms=0)
    assert (await taken(ledger, other)).why is Taken.BOUND
    with pytest.raises(PaymentTaken) as bound:
        await ledger.lease(other, "top-up")
    assert bound.value.why is Taken.BOUND
    ledger.unlease(await ledger.lease(replace(shown, binding=""), "refund"), reason="looked")


# -- notes and impossible amounts


async def test_the_detail_is_replaced_before_an_outside_call(ledger: SqliteLedger) -> None:
    """Only under the lease, and only while the money has not come."""
    shown = ecash(detail=b"token")
    hold = await ledger.hold(bought(shown))
    await ledger.note_payment(leased(hold), b"blinded outputs")
    assert (await stands(ledger, shown)).detail == b"blinded outputs"
    with pytest.raises(LeaseLost):
        await ledger.note_payment(replace(leased(hold), fence=2), b"late")
    await ledger.payment_settled(leased(hold), Receipt(30_000, ecash=notes(30)))
    with pytest.raises(LeaseLost):
        await ledger.note_payment(leased(hold), b"late")


@pytest.mark.parametrize(
    "receipt",
    [Receipt(-1), Receipt(AMOUNT_UNITS_MAX + 1), Receipt(10, 5, 4, 2), Receipt(10, -1), Receipt(1, ecash=notes(0))],
)
async def test_an_impossible_receipt_is_refused(ledger: SqliteLedger, receipt: Receipt) -> None:
    """Before anything is written; the lease is as it was."""
    shown = unsettled()
    hold = await ledger.hold(bought(shown))
    with pytest.raises(ValueError, match=r"amount|parts"):
        await ledger.payment_settled(leased(hold), receipt)
    assert (await stands(ledger, shown)).state is S.LEASED
    await ledger.payment_settled(leased(hold), Receipt(1000))


@pytest.mark.parametrize(
    "wanted",
    [
        tender(proof(amount=0)),
        tender(proof(), -1),
        tender(proof(key="k" * 513)),
        tender(proof(), 5, input_amount=6),
        tender(proof(), balance=b"b" * 32),
        tender(None, 5),
        tender(None, 5, balance=b"short"),
        tender(proof(), unit=Unit.USDC),
    ],
)
async def test_an_impossible_tender_is_refused(ledger: SqliteLedger, wanted: Any) -> None:
    """Before anything is held."""
    with pytest.raises(ValueError, match=r"."):
        await ledger.hold(bought(proof(), tender=wanted))
    assert rows(ledger.path, "SELECT count(*) FROM holds") == [(0,)]


async def test_nobody_reads_bearer_money_in_a_log(ledger: SqliteLedger) -> None:
    """No shape of a payment shows its details when it is printed."""
    shown = ecash(detail=b"bearer-money")
    hold = await ledger.hold(bought(shown))
    (note,) = notes(30)
    receipt = Receipt(30_000, detail=b"bearer-money", ecash=(note,))
    await ledger.payment_settled(leased(hold), receipt)
    printed = [hold, receipt, note, await stands(ledger, shown), StoredAnswer("d", 200, (), b"bearer-money")]
    assert not any("bearer-money" in repr(one) or note.secret in repr(one) for one in printed)


async def test_a_file_that_cannot_be_written_refuses_a_burning_but_keeps_the_word(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing goes out on what is not burnt durably; what came of asking outside is written as soon as it can be."""
    shown = unsettled()
    hold, attempt = await dispatched(ledger, bought(shown))
    monkeypatch.setattr("proxy.ledger.writer.RETRY_SECONDS", 0.01)
    ledger._connection.execute("PRAGMA query_only=ON")
    said = asyncio.ensure_future(ledger.payment_settled(leased(hold), Receipt(1000)))
    with pytest.raises(Refusal):
        await ledger.commit(hold)
    assert not said.done()
    ledger._connection.execute("PRAGMA query_only=OFF")
    await said
    await ledger.commit(hold)
    ledger.settle(hold, settlement(60, attempt))
