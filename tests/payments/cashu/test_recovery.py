"""What is written down before a swap, and what it recovers: late swaps, dead processes, mints that sign late."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from proxy.errors import Refusal
from proxy.ledger.payment_api import LeaseLost
from proxy.ledger.payment_states import PaymentState
from proxy.payments.api import Declined, Doubtful, Settled
from proxy.payments.cashu.blinding import y_of
from proxy.payments.cashu.swaps import SwapRecord
from proxy.payments.cashu.tokens import encode_token, parse_token
from proxy.payments.refunds import Refunds
from tests.ledger.making import crash
from tests.payments.cashu.desk import Desk, Doubt, ask, presented
from tests.peers.mint.scripted import Fault, ScriptedMint

SWAP, STATES, RESTORE = "/v1/swap", "/v1/checkstate", "/v1/restore"


def take_late(mint: ScriptedMint, record: SwapRecord) -> None:
    """The mint does what it was asked for long ago."""
    assert record.plan is not None
    mint._own(
        SWAP,
        {
            "inputs": [
                {"amount": n.amount, "id": n.keyset, "secret": n.secret, "C": n.signature.hex()} for n in record.inputs
            ],
            "outputs": [{"amount": o.amount, "id": o.keyset, "B_": o.blinded} for o in record.plan.outputs],
        },
    )


def worth(token: str) -> int:
    return parse_token(token, notes_max=50).amount


async def test_swap_that_takes_effect_late_is_found_by_the_next_try(tmp_path: Path, scripted: ScriptedMint) -> None:
    """Given up, called unspent, and then done: the next try has the same outputs, so its signatures are found."""
    async with Desk(tmp_path, scripted.url) as desk:
        token = scripted.notes(64)
        scripted.faults[SWAP] = Fault.CUT_BEFORE
        with pytest.raises(Doubt):
            await desk.buy(token)
        (outcome,) = await desk.reconcile()
        assert isinstance(outcome, Declined)
        scripted.faults.clear()
        record = SwapRecord.load((await desk.only()).detail)
        assert record.plan is not None
        take_late(scripted, record)
        paid = await desk.buy(token)
        assert (paid.payment.captured, paid.payment.change, worth(paid.change)) == (30_000, 34_000, 34)


async def test_swap_that_takes_effect_late_is_given_back_to_who_asks_for_a_refund(
    tmp_path: Path, scripted: ScriptedMint
) -> None:
    """That nothing was taken was true when it was said: before it is said again the mint is asked again."""
    async with Desk(tmp_path, scripted.url) as desk:
        token = scripted.notes(64)
        rails: Any = SimpleNamespace(proving=lambda _: desk.rail)
        refunds = Refunds(rails, desk.ledger, desk.log)
        scripted.faults[SWAP] = Fault.CUT_BEFORE
        with pytest.raises(Doubt):
            await desk.buy(token)
        await desk.reconcile()
        scripted.faults.clear()
        with pytest.raises(Refusal, match="Nothing was taken"):
            await refunds.refund(await desk.rail.shown(presented(token)))
        assert (await desk.only()).state is PaymentState.SEEN
        scripted.faults[STATES] = Fault.CUT_BEFORE
        with pytest.raises(Refusal) as refused:
            await refunds.refund(await desk.rail.shown(presented(token)))
        assert refused.value.code == "payment_unknown"
        scripted.faults.clear()
        await desk.reconcile()
        take_late(scripted, SwapRecord.load((await desk.only()).detail))
        for _ in range(2):
            refunded = await refunds.refund(await desk.rail.shown(presented(token)))
            assert sum(note.amount for note in refunded.ecash) == 64
        assert (await desk.only()).returned == 64_000


async def test_notes_spent_without_a_signature_for_us_are_not_given_up_at_once(
    scripted: ScriptedMint, desk: Desk
) -> None:
    """A mint may mark notes before it signs: only when it is asked again later that is final."""
    notes = scripted.minted(64)
    own = scripted._own

    def marking(path: str, sent: dict[str, Any]) -> dict[str, Any]:
        if path == SWAP:
            own(path, sent)
            scripted.kept, scripted.signed = scripted.signed, {}  # type: ignore[attr-defined]
        return own(path, sent) if path != SWAP else {}

    scripted._own = marking  # type: ignore[method-assign]
    with pytest.raises(Doubt, match="signed nothing so far"):
        await desk.buy(encode_token(scripted.url, notes))
    scripted.signed = scripted.kept  # type: ignore[attr-defined]
    assert isinstance((await desk.reconcile())[0], Settled)


async def test_mint_that_never_signed_is_believed_in_the_end(scripted: ScriptedMint, desk: Desk) -> None:
    """The notes are spent, and not for us."""
    notes = scripted.minted(64)
    scripted.spent.add(y_of(notes[0].secret))
    scripted.faults[SWAP] = Fault.CUT_BEFORE
    with pytest.raises(Doubt):
        await desk.buy(encode_token(scripted.url, notes))
    (outcome,) = await desk.reconcile()
    assert isinstance(outcome, Declined) and outcome.final
    assert (await desk.only()).state is PaymentState.REFUSED


async def test_process_that_died_after_the_swap_is_made_good(tmp_path: Path, scripted: ScriptedMint) -> None:
    """kill -9 between the mint's act and our note of it: the next process gives the payer the value back."""
    token = scripted.notes(64)
    dead = await Desk(tmp_path, scripted.url).__aenter__()
    wanted = ask()
    _, lease = await dead.leased(token, wanted)
    assert isinstance(await dead.rail.settle(lease, wanted), Settled)
    crash(dead.ledger)
    await dead.rail.stop()
    async with Desk(tmp_path, scripted.url) as desk:
        (outcome,) = await desk.reconcile()
        assert isinstance(outcome, Settled)
        payment = await desk.only()
        assert (payment.state, payment.returned) == (PaymentState.REFUNDED, 64_000)
        assert worth(await desk.rail.token_of(payment)) == 64
    assert scripted.calls.count(SWAP) == 1


async def test_process_that_died_before_the_swap_takes_nothing(tmp_path: Path, scripted: ScriptedMint) -> None:
    """kill -9 while the payment was leased: the payer may try again."""
    token = scripted.notes(64)
    dead = await Desk(tmp_path, scripted.url).__aenter__()
    await dead.leased(token, ask())
    crash(dead.ledger)
    await dead.rail.stop()
    async with Desk(tmp_path, scripted.url) as desk:
        for outcome in await desk.reconcile():
            assert isinstance(outcome, Declined) and not outcome.final
        assert (await desk.buy(token)).payment.captured == 30_000


async def test_outputs_are_durable_before_the_mint_is_asked(scripted: ScriptedMint, desk: Desk) -> None:
    """At the moment of the swap the ledger has all that it takes to recover it."""
    seen: list[SwapRecord] = []
    own = scripted._own

    def looking(path: str, sent: dict[str, Any]) -> dict[str, Any]:
        if path == SWAP:
            row = desk.ledger._connection.execute("SELECT detail FROM payments").fetchone()
            seen.append(SwapRecord.load(row[0]))
            assert seen[0].plan is not None
            assert [o.blinded for o in seen[0].plan.outputs] == [output["B_"] for output in sent["outputs"]]
        return own(path, sent)

    scripted._own = looking  # type: ignore[method-assign]
    await desk.buy(scripted.notes(64))
    assert len(seen) == 1


async def test_nothing_is_swapped_that_could_not_be_written_down(
    scripted: ScriptedMint, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger that refuses: the mint is not asked, and the payer keeps the notes."""

    async def lost(*_: object) -> None:
        raise LeaseLost("in other hands")

    wanted = ask()
    hold, lease = await desk.leased(scripted.notes(64), wanted)
    monkeypatch.setattr(desk.ledger, "note_payment", lost)
    outcome = await desk.settle(hold, lease, wanted)
    assert isinstance(outcome, Declined) and not outcome.final
    assert SWAP not in scripted.calls


async def test_plan_that_the_mint_can_no_longer_sign_is_made_anew(scripted: ScriptedMint, desk: Desk) -> None:
    """A swap was given up and the keyset rotated: the notes are unspent, so other outputs do no harm."""
    token = scripted.notes(64)
    scripted.faults[SWAP] = Fault.CUT_BEFORE
    with pytest.raises(Doubt):
        await desk.buy(token)
    scripted.faults.clear()
    scripted.rotate()
    await desk.rail._mints[scripted.url].read()
    await desk.reconcile()
    assert (await desk.buy(token)).payment.captured == 30_000


async def test_price_stays_as_it_was_first_swapped_for(scripted: ScriptedMint, desk: Desk) -> None:
    """The price rose between two tries of one request: the first plan may have been carried out, so it is kept to."""
    token = scripted.notes(64)
    scripted.faults[SWAP] = Fault.CUT_BEFORE
    with pytest.raises(Doubt):
        await desk.buy(token, msat=30_000)
    scripted.faults.clear()
    await desk.reconcile()
    assert (await desk.buy(token, msat=33_000)).payment.captured == 30_000


async def test_mint_taken_off_the_list_is_not_forgotten(tmp_path: Path, scripted: ScriptedMint) -> None:
    """An unknown payment of such a mint waits until it is configured again."""
    async with Desk(tmp_path, scripted.url) as desk:
        scripted.faults |= {SWAP: Fault.CUT_AFTER, STATES: Fault.CUT_BEFORE}
        with pytest.raises(Doubt):
            await desk.buy(scripted.notes(64))
        scripted.faults.clear()
        client = desk.rail._mints.pop(scripted.url)
        (outcome,) = await desk.reconcile()
        assert isinstance(outcome, Doubtful)
        desk.rail._mints[scripted.url] = client
        assert isinstance((await desk.reconcile())[0], Settled)
