"""The whole way of ecash with nutshell's own mint and wallet."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.errors import Refusal
from proxy.ledger.payment_states import PaymentState
from proxy.payments.api import Declined, Settled
from proxy.payments.cashu.tokens import encode_token, parse_token
from tests.payments.cashu.desk import Desk, Doubt, ask
from tests.peers.mint import PROGRAM, Mint, Wallet
from tests.peers.mint.scripted import Fault, ScriptedMint

pytestmark = pytest.mark.needs(PROGRAM)


def worth(token: str) -> int:
    return parse_token(token, notes_max=50).amount if token else 0


async def test_exact_payment_is_kept_whole(tmp_path: Path, free: Mint) -> None:
    """Price and value are the same: all of it is ours, nothing goes back."""
    async with Desk(tmp_path, free.url) as desk:
        paid = await desk.buy(await free.notes(30))
        assert (paid.payment.state, paid.payment.captured, paid.change) == (PaymentState.BURNT, 30_000, "")
        assert paid.headers == {"X-Cashu-Consumed": "true"}
        assert sum(note.amount for note in await desk.ledger.wallet()) == 30


async def test_one_sat_over_is_absorbed(tmp_path: Path, free: Mint) -> None:
    """Below two sats nothing goes back."""
    async with Desk(tmp_path, free.url) as desk:
        paid = await desk.buy(await free.notes(31))
        assert (paid.payment.captured, paid.payment.absorbed, paid.change) == (30_000, 1_000, "")
        assert sum(note.amount for note in await desk.ledger.wallet()) == 31


@pytest.mark.parametrize("over", [2, 34, 70])
async def test_change_is_redeemed_by_nutshells_wallet(tmp_path: Path, real: Mint, theirs: Wallet, over: int) -> None:
    """What was paid too much comes back as a token that a stranger's wallet takes; the mint's fee is the payer's."""
    async with Desk(tmp_path, real.url) as desk:
        paid = await desk.buy(await real.notes(31 + over))
        assert (paid.payment.fee, paid.payment.change) == (1_000, over * 1_000)
        assert worth(paid.change) == over
        assert theirs.receive(paid.change) == over - 1


async def test_token_of_nutshells_wallet_pays(tmp_path: Path, real: Mint, theirs: Wallet) -> None:
    """Its tokens name short ids of version 2 and bring proofs of signature."""
    token = theirs.send(40)
    async with Desk(tmp_path, real.url) as desk:
        assert any(note.dleq for note in parse_token(token, notes_max=20).notes)
        paid = await desk.buy(token)
        assert (paid.payment.captured, paid.payment.change, paid.payment.fee) == (30_000, 9_000, 1_000)


async def test_locked_token_of_nutshells_wallet_is_refused(tmp_path: Path, real: Mint, theirs: Wallet) -> None:
    """Nobody here has the key that its notes are locked to."""
    token = theirs.send(40, lock="02" + "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
    async with Desk(tmp_path, real.url) as desk:
        with pytest.raises(Refusal) as refused:
            await desk.buy(token)
        assert refused.value.code == "cashu_bad_token"
        assert "locked" in refused.value.message


async def test_two_at_once_have_one_winner(tmp_path: Path, free: Mint) -> None:
    """Two tokens that share a note are swapped at once: the mint decides, and the loser is refused for good."""
    async with Desk(tmp_path, free.url) as desk:
        notes = await free.minted(96, amounts=[32, 32, 32])
        first, second = encode_token(free.url, notes[:2]), encode_token(free.url, notes[1:])
        wanted = ask()
        leases = [await desk.leased(token, wanted) for token in (first, second)]
        outcomes = await asyncio.gather(*[desk.settle(hold, lease, wanted) for hold, lease in leases])
        kinds = sorted(type(outcome).__name__ for outcome in outcomes)
        assert kinds == ["Declined", "Settled"]
        lost = next(outcome for outcome in outcomes if isinstance(outcome, Declined))
        assert (lost.refusal.code, lost.final) == ("cashu_token_spent", True)
        won = next(pair for pair, outcome in zip(leases, outcomes, strict=True) if isinstance(outcome, Settled))
        paid = await desk.finish(*won)
        assert (paid.payment.captured, paid.payment.change) == (30_000, 34_000)


async def test_notes_spent_elsewhere_are_refused_for_good(tmp_path: Path, real: Mint, theirs: Wallet) -> None:
    """The payer's wallet was faster."""
    token = await real.notes(64)
    theirs.receive(token)
    async with Desk(tmp_path, real.url) as desk:
        with pytest.raises(Refusal) as refused:
            await desk.buy(token)
        assert refused.value.code == "cashu_token_spent"
        assert (await desk.only()).state is PaymentState.REFUSED


@pytest.mark.parametrize("fault", [Fault.CUT_AFTER, Fault.ERROR_AFTER, Fault.HUGE, Fault.FORGED_PROOF])
async def test_answer_lost_after_the_swap_is_found_again_at_once(
    tmp_path: Path, real: Mint, theirs: Wallet, fault: Fault
) -> None:
    """The mint acted and its answer was lost: its signatures are asked for again."""
    async with ScriptedMint(behind=real.url) as between, Desk(tmp_path, between.url) as desk:
        notes = await real.minted(64)
        between.faults["/v1/swap"] = fault
        paid = await desk.buy(encode_token(between.url, notes))
        assert (paid.payment.captured, paid.payment.change) == (30_000, 33_000)
        assert between.calls.count("/v1/swap") == 1
        assert theirs.receive(paid.change.replace(between.url, real.url)) == 32


async def test_swap_that_nobody_can_ask_about_is_reconciled(tmp_path: Path, real: Mint, theirs: Wallet) -> None:
    """The mint acted and was gone: later the outputs that were written down bring the notes back to their payer."""
    async with ScriptedMint(behind=real.url) as between, Desk(tmp_path, between.url) as desk:
        token = encode_token(between.url, await real.minted(64))
        between.faults |= {"/v1/swap": Fault.CUT_AFTER, "/v1/checkstate": Fault.CUT_BEFORE}
        with pytest.raises(Doubt):
            await desk.buy(token)
        assert (await desk.only()).state is PaymentState.UNKNOWN
        assert [type(outcome).__name__ for outcome in await desk.reconcile()] == ["Doubtful"]
        between.faults.clear()
        assert [type(outcome).__name__ for outcome in await desk.reconcile()] == ["Settled"]
        payment = await desk.only()
        assert (payment.state, payment.returned, payment.fee) == (PaymentState.REFUNDED, 63_000, 1_000)
        back = await desk.rail.token_of(payment)
        assert worth(back) == 63
        assert theirs.receive(encode_token(real.url, parse_token(back, notes_max=50).notes)) == 62


async def test_failed_upstream_gives_the_value_back(tmp_path: Path, real: Mint, theirs: Wallet) -> None:
    """All of it but the mint's fee, as a token that a stranger's wallet takes, and that can be had again."""
    async with Desk(tmp_path, real.url) as desk:
        paid = await desk.buy(await real.notes(64), served=False)
        assert (paid.payment.state, paid.payment.returned, paid.payment.fee) == (PaymentState.REFUNDED, 63_000, 1_000)
        assert worth(paid.change) == 63
        again = await desk.rail.token_of(paid.payment)
        assert parse_token(again, notes_max=50) == parse_token(paid.change, notes_max=50)
        assert theirs.receive(paid.change) == 62


async def test_fee_is_asked_of_the_payer(tmp_path: Path, real: Mint, theirs: Wallet) -> None:
    """A token that covers the price but not the mint's fee is refused before anything is taken."""
    token = await real.notes(30)
    async with Desk(tmp_path, real.url) as desk:
        with pytest.raises(Refusal) as refused:
            await desk.buy(token)
        assert (refused.value.code, refused.value.status) == ("cashu_underpayment_after_fees", 402)
        assert refused.value.details == {"price_sats": 30, "token_sats": 30, "fee_sats": 1}
    assert theirs.receive(token) == 29
