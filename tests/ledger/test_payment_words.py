"""What is said of a payment after somebody outside was asked, in time or after the exchange has ended."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from proxy.ledger.payment_api import (
    LeaseLost,
    OnFailure,
    Receipt,
    StoredAnswer,
    Taken,
)
from proxy.ledger.payment_states import PaymentState
from proxy.ledger.store import SqliteLedger
from tests.ledger.making import (
    bought,
    ecash,
    leased,
    notes,
    proof,
    rows,
    stands,
    taken,
    unsettled,
)
from tests.support.fakes import FakeClock

ANSWER = StoredAnswer("request", 200, (("content-type", "application/json"), ("x", "1")), b'{"ok": true}', 77)
S = PaymentState


# -- the word from outside


async def test_a_payment_that_did_not_come_may_be_tried_again(ledger: SqliteLedger) -> None:
    """With what is shown then: nothing was taken for what was shown before."""
    shown = unsettled("key")
    hold = await ledger.hold(bought(shown))
    await ledger.payment_freed(leased(hold), "nothing was sent")
    assert (await stands(ledger, shown)).state is S.SEEN
    second = await ledger.hold(bought(unsettled("key", amount=1500, detail=b"new")))
    ledger.release(hold, reason="refused", at_ms=0)
    await ledger.flush()
    payment = await stands(ledger, shown)
    assert (payment.state, payment.amount, payment.detail, payment.leases) == (S.LEASED, 1500, b"new", 2)
    await ledger.payment_freed(leased(second), "nothing was sent")


async def test_a_refused_proof_is_never_taken_again(ledger: SqliteLedger) -> None:
    """The word is final."""
    shown = unsettled()
    hold = await ledger.hold(bought(shown))
    await ledger.payment_refused(leased(hold), "signature of a stranger")
    refused = await taken(ledger, shown)
    assert (refused.why, refused.payment.reason) == (Taken.REFUSED, "signature of a stranger")
    with pytest.raises(LeaseLost):
        await ledger.payment_settled(leased(hold), Receipt(1000))


@pytest.mark.parametrize(
    ("word", "on_failure", "kept"),
    [
        ("payment_refused", OnFailure.FREE, b""),
        ("payment_refused", OnFailure.RETURN, b""),
        ("payment_freed", OnFailure.FREE, b""),
        ("payment_freed", OnFailure.RETURN, b"plan"),
    ],
)
async def test_nothing_is_kept_of_what_brought_nothing(
    ledger: SqliteLedger, word: str, on_failure: OnFailure, kept: bytes
) -> None:
    """Whoever sends junk for a payment cannot fill the disk with it. A swap may yet take effect: its plan stays."""
    shown = unsettled("key", detail=b"plan", on_failure=on_failure)
    hold = await ledger.hold(bought(shown))
    await getattr(ledger, word)(leased(hold), "junk")
    payment = await stands(ledger, shown)
    assert (payment.detail, payment.reason) == (kept, "junk")
    ledger.release(hold, reason="refused", at_ms=0)
    await ledger.flush()


async def test_what_is_unknown_belongs_to_one_reconciler_at_a_time(ledger: SqliteLedger, clock: FakeClock) -> None:
    """Not before it has been left alone for a while; whoever asks last has the word."""
    shown = unsettled(detail=b"authorization", use_until_ms=9000)
    hold = await ledger.hold(bought(shown))
    await ledger.payment_unknown(leased(hold), "no answer")
    assert (await taken(ledger, shown)).why is Taken.UNKNOWN
    assert await ledger.unknown_payments(count_max=8, idle_ms=500) == []
    clock.advance(0.5)
    (first,) = await ledger.unknown_payments(count_max=8, idle_ms=500)
    assert await ledger.unknown_payments(count_max=8, idle_ms=500) == []
    assert (first.proof, first.settled, first.fence) == (replace(shown, settled=False), False, 2)
    clock.advance(0.5)
    (second,) = await ledger.unknown_payments(count_max=8, idle_ms=500)
    for late in (leased(hold), first):
        with pytest.raises(LeaseLost):
            await ledger.payment_settled(late, Receipt(1000))
    await ledger.payment_unknown(second, "still no answer")
    assert (await stands(ledger, shown)).reason == "still no answer"
    await ledger.payment_settled(second, Receipt(1000, reference="0xabc"))
    payment = await stands(ledger, shown)
    assert (payment.state, payment.leased, payment.reference) == (S.SETTLED, False, "0xabc")
    assert leased(await ledger.hold(bought(shown))).settled
    ledger.release(hold, reason="unknown", at_ms=0)


@pytest.mark.parametrize(("word", "state"), [("payment_freed", S.SEEN), ("payment_refused", S.REFUSED)])
async def test_what_never_came_is_said_of_what_was_unknown(ledger: SqliteLedger, word: str, state: S) -> None:
    """The reconciler found out."""
    shown = unsettled()
    hold = await ledger.hold(bought(shown))
    await ledger.payment_unknown(leased(hold), "no answer")
    (lease,) = await ledger.unknown_payments(count_max=8, idle_ms=0)
    await getattr(ledger, word)(lease, "it is not on the chain")
    assert (await stands(ledger, shown)).state is state


async def test_the_longest_unasked_come_first_and_no_more_than_wanted(ledger: SqliteLedger, clock: FakeClock) -> None:
    """A reconciler that is behind is not buried."""
    shown = [unsettled() for _ in range(3)]
    for one in shown:
        await ledger.payment_unknown(leased(await ledger.hold(bought(one))), "no answer")
        clock.advance(1)
    first = await ledger.unknown_payments(count_max=2, idle_ms=0)
    assert [lease.proof.key for lease in first] == [one.key for one in shown[:2]]


async def test_what_nobody_can_tell_is_asked_about_less_and_less(ledger: SqliteLedger, clock: FakeClock) -> None:
    """After twice the time each, ten minutes at most: many that stay unknown leave room for those that need not."""
    for _ in range(2):
        await ledger.payment_unknown(leased(await ledger.hold(bought(unsettled()))), "no answer")
    asked, seconds = [], 0
    while seconds < 3000:
        if await ledger.unknown_payments(count_max=8, idle_ms=15_000):
            asked.append(seconds)
        clock.advance(5)
        seconds += 5
    assert asked == [15, 30, 60, 120, 240, 480, 960, 1560, 2160, 2760]
    await ledger.payment_unknown(leased(await ledger.hold(bought(unsettled()))), "no answer")
    clock.advance(15)
    assert len(await ledger.unknown_payments(count_max=8, idle_ms=15_000)) == 1


# -- an exchange that ended before the word


async def test_the_end_of_a_hold_does_not_free_what_is_being_asked_for(ledger: SqliteLedger) -> None:
    """The client left: the lease stays with who asks, and nobody else asks for the same money."""
    shown = unsettled()
    hold = await ledger.hold(bought(shown))
    ledger.release(hold, reason="client_gone", at_ms=0)
    assert (await taken(ledger, shown)).why is Taken.UNDER_WAY
    await ledger.payment_settled(leased(hold), Receipt(1000))
    payment = await stands(ledger, shown)
    assert (payment.state, payment.leased) == (S.SETTLED, False)


async def test_ecash_that_comes_after_the_hold_goes_back_at_once(ledger: SqliteLedger) -> None:
    """Nobody is there to be served."""
    shown = ecash()
    hold = await ledger.hold(bought(shown))
    ledger.release(hold, reason="client_gone", at_ms=0)
    await ledger.payment_settled(leased(hold), Receipt(30_000, ecash=notes(30)))
    assert (await stands(ledger, shown)).state is S.REFUNDED


@pytest.mark.parametrize(
    ("word", "state"), [("payment_unknown", S.UNKNOWN), ("payment_refused", S.REFUSED), ("payment_freed", S.SEEN)]
)
async def test_any_word_after_the_hold_ends_the_lease(ledger: SqliteLedger, word: str, state: S) -> None:
    """As it would have before."""
    shown = unsettled()
    hold = await ledger.hold(bought(shown))
    ledger.release(hold, reason="client_gone", at_ms=0)
    await getattr(ledger, word)(leased(hold), "so it is")
    payment = await stands(ledger, shown)
    assert (payment.state, payment.leased) == (state, False)


async def test_what_nobody_was_asked_for_is_free_with_the_end_of_the_hold(ledger: SqliteLedger) -> None:
    """Who knows that nothing was sent says so."""
    shown = unsettled()
    hold = await ledger.hold(bought(shown))
    leased(hold).asked = False
    ledger.release(hold, reason="refused", at_ms=0)
    assert (await stands(ledger, shown)).state is S.SEEN
    with pytest.raises(LeaseLost):
        await ledger.payment_settled(leased(hold), Receipt(1000))


async def test_a_hold_that_nobody_got_frees_its_proof(ledger: SqliteLedger) -> None:
    """The exchange was cancelled while it waited for its hold: nobody can have asked for the money."""
    shown, alone = unsettled(), proof()
    tasks = [asyncio.ensure_future(ledger.hold(bought(shown))), asyncio.ensure_future(ledger.lease(alone, "top-up"))]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with asyncio.timeout(10):
        while rows(ledger.path, "SELECT count(*) FROM payments WHERE boot IS NOT NULL OR state = 1") != [(0,)]:
            await ledger.flush()
