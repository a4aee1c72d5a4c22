"""Swaps that go wrong: nothing is lost, nothing is had twice, and what nobody knows is asked about later."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import Refusal
from proxy.ledger.payment_api import PaymentTaken, Taken
from proxy.ledger.payment_states import PaymentState
from proxy.payments.api import Declined, Doubtful, Settled
from proxy.payments.cashu.swaps import SwapRecord
from proxy.payments.cashu.tokens import encode_token, parse_token
from tests.payments.cashu.desk import Desk, Doubt, ask
from tests.peers.mint.scripted import Fault, ScriptedMint

SWAP, STATES, RESTORE = "/v1/swap", "/v1/checkstate", "/v1/restore"


def worth(token: str) -> int:
    return parse_token(token, notes_max=50).amount


@pytest.mark.parametrize(
    "fault",
    [
        Fault.CUT_AFTER,
        Fault.ERROR_AFTER,
        Fault.HUGE,
        Fault.JUNK,
        Fault.FEW,
        Fault.FORGED_PROOF,
        Fault.NO_PROOF,
        Fault.OTHER_AMOUNT,
    ],
)
async def test_bad_answer_to_a_swap_that_was_done_is_mended_at_once(
    scripted: ScriptedMint, desk: Desk, fault: Fault
) -> None:
    """Whatever the mint answered, it gives the right signatures when it is asked for them again."""
    scripted.faults[SWAP] = fault
    paid = await desk.buy(scripted.notes(64))
    assert (paid.payment.captured, paid.payment.change, worth(paid.change)) == (30_000, 34_000, 34)
    assert scripted.calls.count(SWAP) == 1


@pytest.mark.parametrize("fault", [Fault.FEW, Fault.FORGED_PROOF, Fault.NO_PROOF, Fault.JUNK, Fault.HUGE, Fault.ERROR])
async def test_mint_that_goes_on_lying_leaves_the_payment_unknown(
    scripted: ScriptedMint, desk: Desk, fault: Fault
) -> None:
    """It is asked again later, and its lie is worth nothing; once it says the truth the payer has the value back."""
    scripted.faults |= {SWAP: Fault.FORGED_PROOF, RESTORE: fault}
    with pytest.raises(Doubt):
        await desk.buy(scripted.notes(64))
    assert isinstance((await desk.reconcile())[0], Doubtful)
    assert (await desk.only()).state is PaymentState.UNKNOWN
    assert await desk.ledger.wallet() == ()
    scripted.faults.clear()
    assert isinstance((await desk.reconcile())[0], Settled)
    payment = await desk.only()
    assert (payment.state, payment.returned) == (PaymentState.REFUNDED, 64_000)
    assert worth(await desk.rail.token_of(payment)) == 64


async def test_hanging_mint_is_given_up(tmp_path: Path, scripted: ScriptedMint) -> None:
    """After the time limit nobody knows; the notes are unspent, so later the payer may try again, and is served."""
    async with Desk(tmp_path, scripted.url, timeout_seconds=0.3) as desk:
        token = scripted.notes(64)
        scripted.faults[SWAP] = Fault.HANG
        with pytest.raises(Doubt):
            await desk.buy(token)
        with pytest.raises(PaymentTaken) as taken:
            await desk.buy(token)
        assert desk.rail.taken(taken.value).code == "payment_unknown"
        scripted.faults.clear()
        (outcome,) = await desk.reconcile()
        assert isinstance(outcome, Declined) and not outcome.final
        assert (await desk.only()).state is PaymentState.SEEN
        paid = await desk.buy(token)
        assert (paid.payment.captured, worth(paid.change)) == (30_000, 34)


async def test_mint_that_is_away_takes_nothing(scripted: ScriptedMint, desk: Desk) -> None:
    """Not a byte was sent: 503, at once, and the same token pays once the mint is back."""
    token = scripted.notes(64)
    port = int(scripted.url.rpartition(":")[2])
    assert scripted._server is not None
    scripted._server.close()
    await scripted._server.wait_closed()
    with pytest.raises(Refusal) as refused:
        await desk.buy(token)
    assert (refused.value.code, refused.value.status) == ("payment_unavailable", 503)
    assert refused.value.retry_after_seconds
    assert (await desk.only()).state is PaymentState.SEEN
    scripted._server = await asyncio.start_server(scripted._serve, "127.0.0.1", port)
    assert (await desk.buy(token)).payment.captured == 30_000


async def test_connection_that_broke_is_tried_again_with_the_same_outputs(scripted: ScriptedMint, desk: Desk) -> None:
    """The notes are unspent: the payer need not know of it, and even if the first swap came late nothing is lost."""
    scripted.faults[SWAP] = Fault.CUT_BEFORE
    scripted.once.add(SWAP)
    paid = await desk.buy(scripted.notes(64))
    assert paid.payment.captured == 30_000
    assert [path for path in scripted.calls if path in (SWAP, STATES)] == [SWAP, STATES, SWAP]


async def test_busy_mint_takes_nothing(scripted: ScriptedMint, desk: Desk) -> None:
    """429: nothing was done, and the same token pays later."""
    token = scripted.notes(64)
    scripted.faults[SWAP] = Fault.BUSY
    with pytest.raises(Refusal) as refused:
        await desk.buy(token)
    assert refused.value.code == "payment_unavailable"
    scripted.faults.clear()
    assert (await desk.buy(token)).payment.captured == 30_000


async def test_redirect_is_not_followed(scripted: ScriptedMint, desk: Desk) -> None:
    """A mint that points at loopback is not obeyed: nothing is swapped, the payer may try again."""
    token = scripted.notes(64)
    scripted.faults[SWAP] = Fault.REDIRECT
    with pytest.raises(Doubt, match="redirect"):
        await desk.buy(token)
    scripted.faults.clear()
    (outcome,) = await desk.reconcile()
    assert isinstance(outcome, Declined) and not outcome.final
    assert (await desk.buy(token)).payment.captured == 30_000


async def test_notes_pending_at_the_mint_are_unknown(scripted: ScriptedMint, desk: Desk) -> None:
    """Neither spent nor unspent: the mint is asked again later."""
    scripted.faults |= {SWAP: Fault.CUT_AFTER, STATES: Fault.PENDING}
    with pytest.raises(Doubt, match="at it still"):
        await desk.buy(scripted.notes(64))
    scripted.faults.clear()
    assert isinstance((await desk.reconcile())[0], Settled)


async def test_amounts_of_outputs_do_not_tell_change_from_price(scripted: ScriptedMint, desk: Desk) -> None:
    """NUT-03: in ascending order, whoever they are for."""
    await desk.buy(scripted.notes(64), msat=37_000)
    record = SwapRecord.load((await desk.only()).detail)
    assert record.plan is not None
    amounts = [output.amount for output in record.plan.outputs]
    assert amounts == sorted(amounts)
    assert len(set(record.plan.kept)) == 2


async def test_notes_that_the_mint_did_not_sign_are_refused_for_good(scripted: ScriptedMint, desk: Desk) -> None:
    """Without a proof of signature only the mint can tell."""
    async with ScriptedMint() as other:
        foreign = other.minted(64, keyset=None)
    forged = encode_token(scripted.url, [_under(scripted.active, foreign[0])], dleq=False)
    with pytest.raises(Refusal) as refused:
        await desk.buy(forged)
    assert refused.value.code == "cashu_bad_token"
    assert (await desk.only()).state is PaymentState.REFUSED


async def test_spent_notes_are_not_asked_about_again(scripted: ScriptedMint, desk: Desk) -> None:
    """In whatever token they come next; a token that did pay is not mistaken for one."""
    notes = scripted.minted(64, 64, 64)
    good = encode_token(scripted.url, notes[:1])
    await desk.buy(good)
    with pytest.raises(Refusal) as refused:
        await desk.buy(encode_token(scripted.url, notes[:2]))
    assert refused.value.code == "cashu_token_spent"
    asked = len(scripted.calls)
    with pytest.raises(Refusal) as refused:
        await desk.buy(encode_token(scripted.url, [notes[0], notes[2]]))
    assert refused.value.code == "cashu_token_spent"
    assert len(scripted.calls) == asked
    with pytest.raises(PaymentTaken) as taken:
        await desk.buy(good)
    assert taken.value.why is Taken.SPENT
    assert (await desk.buy(encode_token(scripted.url, notes[1:2]))).payment.captured == 30_000


async def test_rotated_keyset_is_read_anew(scripted: ScriptedMint, desk: Desk) -> None:
    """New notes cannot be made of an old keyset: nothing is taken, and the next try knows the new one."""
    token = scripted.notes(64)
    scripted.rotate()
    desk.clock.advance(10)
    with pytest.raises(Refusal) as refused:
        await desk.buy(token)
    assert refused.value.code == "payment_unavailable"
    reading = desk.rail._mints[scripted.url]._reading
    assert reading is not None
    await reading
    paid = await desk.buy(token)
    assert {note.keyset for note in parse_token(paid.change, notes_max=50).notes} == {scripted.active}


async def test_change_too_long_for_a_header_is_absorbed(tmp_path: Path, scripted: ScriptedMint) -> None:
    """Price and everything over it stay with us, and the books say so."""
    async with Desk(tmp_path, scripted.url, change_bytes_max=300) as desk:
        paid = await desk.buy(scripted.notes(64), msat=33_000)
        assert (paid.payment.captured, paid.payment.absorbed, paid.change) == (33_000, 31_000, "")
        assert sum(note.amount for note in await desk.ledger.wallet()) == 64


async def test_proofs_of_signature_travel_where_there_is_room(tmp_path: Path, scripted: ScriptedMint) -> None:
    """Change of one note with its proof is about 390 characters long, without about 270."""
    async with Desk(tmp_path, scripted.url, change_bytes_max=300) as desk:
        bare = await desk.buy(scripted.notes(64), msat=32_000)
        assert [note.dleq for note in parse_token(bare.change, notes_max=1).notes] == [None]
    async with Desk(tmp_path / "more", scripted.url) as desk:
        proven = await desk.buy(scripted.notes(64), msat=32_000)
        assert all(note.dleq for note in parse_token(proven.change, notes_max=1).notes)


async def test_two_at_once_of_one_token_have_one_lease(scripted: ScriptedMint, desk: Desk) -> None:
    """However it is wrapped: the second is told that the first is under way."""
    notes = scripted.minted(32, 32)
    wanted = ask()
    pair = await desk.leased(encode_token(scripted.url, notes), wanted)
    with pytest.raises(PaymentTaken) as taken:
        await desk.leased(encode_token(scripted.url + "/", reversed(notes), dleq=False), wanted)
    refusal = desk.rail.taken(taken.value)
    assert (refusal.code, refusal.status) == ("payment_under_way", 409)
    assert isinstance(await desk.settle(*pair, wanted), Settled)
    await desk.finish(*pair)


async def test_returned_token_points_at_its_refund(scripted: ScriptedMint, desk: Desk) -> None:
    """Shown again after its value went back, it says where that is."""
    token = scripted.notes(64)
    await desk.buy(token, served=False)
    with pytest.raises(PaymentTaken) as taken:
        await desk.buy(token)
    refusal = desk.rail.taken(taken.value)
    assert refusal.code == "cashu_token_spent"
    assert "/v1/payments/refund" in refusal.message


async def test_token_that_has_paid_is_answered_while_its_mint_is_away(scripted: ScriptedMint, desk: Desk) -> None:
    """What was paid for is had again whatever the mint, or the price, does meanwhile."""
    token = scripted.notes(64)
    paid = await desk.buy(token)
    desk.rail._mints[scripted.url]._keysets = None
    with pytest.raises(PaymentTaken) as taken:
        await desk.buy(token, msat=10_000_000)
    again = dict(await desk.rail.served_again(taken.value.payment))
    assert again == paid.headers


def _under(keyset: str, note: Any) -> Any:
    return type(note)(keyset, note.amount, note.secret, note.signature)
