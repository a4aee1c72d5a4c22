"""Transfers made before the request, on a real chain: the sender's key, one transaction once, exactly what it moved."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount

from proxy.errors import Refusal
from proxy.ledger.payment_api import Lease, PaymentTaken, Proof, Taken, Tender
from proxy.ledger.payment_states import PaymentState
from proxy.payments.api import Ask, Credential, Declined, Doubtful, Outcome, Presented, Settled
from proxy.payments.settings import Payments
from proxy.payments.x402 import eip3009
from proxy.payments.x402.transfers import TransferRail
from tests.peers.chain import NETWORK
from tests.peers.chain.faults import Fault
from tests.support import x402
from tests.support.fakes import FakeClock, Log
from tests.support.onchain import PRICE, Till, settler, till
from tests.support.x402 import KnownPayments, decoded

SHORT = 1.0


@pytest.fixture(scope="module")
def chain() -> Iterator[Till]:
    with till() as own:
        yield own


@dataclass
class Counter:
    """A rail, and what its ledger knows."""

    till: Till
    rail: TransferRail
    ledger: KnownPayments = field(default_factory=KnownPayments)

    def ask(self, usdc: int = PRICE, **changes: Any) -> Ask:
        return x402.ask(usdc, now_ms=self.till.chain.now() * 1000, **changes)

    def pay(self, value: int = PRICE, sender: LocalAccount | None = None) -> str:
        return self.till.chain.transfer(sender or self.till.chain.payer, self.till.chain.pay_to, value)

    def header(self, transaction: str, ask: Ask, *, signer: LocalAccount | None = None, **members: Any) -> Presented:
        """What a payer sends: the text is the 402's."""
        offer = self.rail.offer(ask, None)
        assert offer is not None
        text = offer.members["transfer"]["sign"].replace("{txHash}", transaction)
        signature = (signer or self.till.chain.payer).sign_message(encode_defunct(text=text)).signature
        sent = {"txHash": transaction, "from": self.till.chain.payer.address, "signature": "0x" + signature.hex()}
        return presented(sent | members)

    async def tried(self, transaction: str, ask: Ask | None = None, **changes: Any) -> Outcome:
        asked = ask or self.ask()
        tender = await self.rail.check(self.header(transaction, asked, **changes), asked)
        return await self.rail.settle(leased(tender), asked)


@asynccontextmanager
async def counter(at: Till, **changes: Any) -> AsyncIterator[Counter]:
    settings, ledger, clock = at.settings(transfers=True, **changes), KnownPayments(), FakeClock()
    rail = TransferRail(Payments(x402=settings), settings, ledger, clock, Log())  # type: ignore[arg-type]
    await rail.start()
    try:
        yield Counter(at, rail, ledger)
    finally:
        await rail.stop()


@pytest.fixture
async def at(chain: Till) -> AsyncIterator[Counter]:
    chain.node.faults.clear()
    async with counter(chain) as own:
        yield own


def presented(document: Any) -> Presented:
    return Presented(Credential.TRANSFER, base64.b64encode(json.dumps(document).encode()).decode(), "")


def leased(tender: Tender) -> Lease:
    assert tender.proof is not None
    return x402.lease(tender.proof)


async def test_transfer_pays(at: Counter) -> None:
    """Its hash, its sender and its sender's signature over the text of the 402."""
    transaction, ask = at.pay(), at.ask()
    tender = await at.rail.check(at.header(transaction, ask), ask)
    assert tender.proof is not None
    assert tender.proof.rail == "transfer"
    assert tender.proof.key == f"{NETWORK}:{transaction}:{at.till.chain.payer.address.lower()}"
    assert tender.proof.binding == ask.request_digest == tender.request_digest
    lease = leased(tender)
    outcome = await at.rail.settle(lease, ask)
    assert isinstance(outcome, Settled)
    assert (outcome.receipt.amount, outcome.receipt.reference) == (PRICE, transaction)
    ((name, value),) = await at.rail.served(lease)
    assert name == "X-PAYMENT-RESPONSE"
    assert decoded(value)["transaction"] == transaction


async def test_text_to_sign_is_the_documented_one(at: Counter) -> None:
    """Host, request, digest, network and transaction: what a payer without a 402 can write itself."""
    offer = at.rail.offer(at.ask(), None)
    assert offer is not None
    member = offer.members["transfer"]
    assert member["sign"] == (
        "This transfer pays for one request.\nhost: llm.example\nrequest: POST /v1/chat/completions\n"
        f"digest: {at.ask().request_digest}\nnetwork: eip155:8453\ntransaction: {{txHash}}"
    )
    assert (member["amount"], member["payTo"]) == (str(PRICE), at.till.chain.pay_to)


async def test_whoever_merely_saw_a_transaction_has_no_claim_to_it(at: Counter) -> None:
    """The signature must be of the sender's key; another `from` is another payment, which moved nothing."""
    transaction, ask, thief = at.pay(), at.ask(), at.till.chain.other
    with pytest.raises(Refusal) as caught:
        await at.rail.check(at.header(transaction, ask, signer=thief), ask)
    assert caught.value.code == "invalid_payment"
    stolen = await at.tried(transaction, signer=thief, **{"from": thief.address})
    assert isinstance(stolen, Declined)
    assert (stolen.reason, stolen.final) == ("transfer_not_to_us", True)
    assert isinstance(await at.tried(transaction), Settled)


async def test_signature_for_another_request_is_refused(at: Counter) -> None:
    """Another body, path or host is another text."""
    transaction, ask = at.pay(), at.ask()
    header = at.header(transaction, ask)
    for other in (
        at.ask(body=b'{"n": 2}'),
        replace(ask, path="/v1/embeddings"),
        replace(ask, url="https://else.example/v1/chat/completions"),
    ):
        with pytest.raises(Refusal) as caught:
            await at.rail.check(header, other)
        assert caught.value.code == "invalid_payment"


async def test_check_asks_nobody(at: Counter) -> None:
    """The chain is for `settle`."""
    ask = at.ask()
    header = at.header("0x" + "1" * 64, ask)
    at.till.node.methods.clear()
    await at.rail.check(header, ask)
    assert at.till.node.methods == []


async def test_transfer_that_moved_too_little_is_kept_for_a_refund(at: Counter) -> None:
    """It is not served, it is not lost: in doubt, then settled for what it is worth, then refused as too little."""
    transaction, ask = at.pay(PRICE - 1), at.ask()
    tender = await at.rail.check(at.header(transaction, ask), ask)
    lease = leased(tender)
    assert isinstance(await at.rail.settle(lease, ask), Doubtful)
    outcome = await at.rail.reconcile(lease)
    assert isinstance(outcome, Settled)
    assert outcome.receipt.amount == PRICE - 1
    at.ledger.known[lease.proof.key] = x402.payment(lease.proof, PaymentState.SETTLED, amount=PRICE - 1)
    async with counter(at.till) as again:
        again.rail._ledger.known.update(at.ledger.known)  # type: ignore[attr-defined]
        with pytest.raises(Refusal) as caught:
            await again.rail.check(at.header(transaction, ask), ask)
    assert caught.value.code == "x402_underpayment"
    assert "refund" in caught.value.message


async def test_transfer_that_moved_more_is_worth_what_it_moved(at: Counter) -> None:
    """The books say what came."""
    outcome = await at.tried(at.pay(5 * PRICE))
    assert isinstance(outcome, Settled)
    assert outcome.receipt.amount == 5 * PRICE


async def test_signed_authorization_is_no_transfer(at: Counter) -> None:
    """Else one payment by x402 would pay twice."""
    authorization = at.till.authorization()
    async with settler(at.till.settings()) as own:
        paid = await own.settle(authorization, {})
    assert isinstance(paid, Settled)
    outcome = await at.tried(paid.receipt.reference)
    assert isinstance(outcome, Declined)
    assert (outcome.reason, outcome.final) == ("transfer_was_authorization", True)


async def test_transfer_to_somebody_else_is_declined_for_good(at: Counter) -> None:
    """What it says never changes."""
    chain = at.till.chain
    outcome = await at.tried(chain.transfer(chain.payer, chain.other.address, PRICE))
    assert isinstance(outcome, Declined)
    assert (outcome.reason, outcome.final) == ("transfer_not_to_us", True)


async def test_failed_transaction_is_declined_for_good(at: Counter) -> None:
    """It is in a block, and moved nothing."""
    chain = at.till.chain
    outcome = await at.tried(chain.transfer(chain.payer, chain.pay_to, 10**15))
    assert isinstance(outcome, Declined)
    assert (outcome.reason, outcome.final) == ("transaction_failed", True)


async def test_unknown_transaction_may_be_shown_again(at: Counter) -> None:
    """It may be on its way: nothing is held against it."""
    outcome = await at.tried("0x" + "1" * 64)
    assert isinstance(outcome, Declined)
    assert (outcome.reason, outcome.final) == ("transaction_not_found", False)


async def test_asking_before_the_node_knows_the_transaction_wears_nothing_out(at: Counter) -> None:
    """It is paid already, and what was not taken yet cannot be refunded: its payer must be able to go on asking."""
    transaction, ask = at.pay(), at.ask()
    proof = (await at.rail.check(at.header(transaction, ask), ask)).proof
    assert proof is not None
    at.ledger.known[proof.key] = x402.payment(proof, PaymentState.SEEN)
    untaken = (await at.rail.check(at.header(transaction, ask), ask)).proof
    at.ledger.known[proof.key] = x402.payment(proof, PaymentState.SETTLED)
    settled = (await at.rail.check(at.header(transaction, ask), ask)).proof
    assert untaken is not None and settled is not None
    assert (proof.leases_max, untaken.leases_max, settled.leases_max) == (1000, 1000, 20)


async def test_old_transfer_is_declined(at: Counter) -> None:
    """By its block's time and the time it was first shown, however late anybody could look."""
    transaction = at.pay()
    late = at.ask()
    late = replace(late, now_ms=late.now_ms + 601_000)
    outcome = await at.tried(transaction, late)
    assert isinstance(outcome, Declined)
    assert (outcome.reason, outcome.final) == ("transfer_too_old", True)


async def test_age_is_counted_to_when_it_was_first_shown(at: Counter) -> None:
    """However long its payer had to ask again, since the node did not know it yet."""
    transaction, ask = at.pay(), at.ask()
    proof = (await at.rail.check(at.header(transaction, ask), ask)).proof
    assert proof is not None
    at.ledger.known[proof.key] = x402.payment(proof, PaymentState.SEEN, created_ms=ask.now_ms, detail=b"")
    assert isinstance(await at.tried(transaction, replace(ask, now_ms=ask.now_ms + 601_000)), Settled)


async def test_pending_transfer_is_in_doubt_until_it_lands(at: Counter) -> None:
    """The node knows it: that is no reason to turn it down."""
    chain, ask = at.till.chain, at.ask()
    chain.automine(False)
    try:
        transaction = at.pay()
        async with counter(at.till, settle_seconds=SHORT) as short:
            tender = await short.rail.check(at.header(transaction, ask), ask)
            assert isinstance(await short.rail.settle(leased(tender), ask), Doubtful)
            chain.mine()
            assert isinstance(await short.rail.reconcile(leased(tender)), Settled)
    finally:
        chain.automine(True)


async def test_confirmations_are_waited_for(at: Counter) -> None:
    """A transfer that may yet be undone is not final."""
    transaction, ask = at.pay(), at.ask()
    async with counter(at.till, settle_seconds=SHORT, confirmations=2) as careful:
        tender = await careful.rail.check(at.header(transaction, ask), ask)
        assert isinstance(await careful.rail.settle(leased(tender), ask), Doubtful)
        at.till.chain.mine()
        assert isinstance(await careful.rail.settle(leased(tender), ask), Settled)


@pytest.mark.parametrize("fault", [Fault.DOWN, Fault.GARBAGE, Fault.ERROR, Fault.HANGS])
async def test_node_that_fails_leaves_a_doubt(at: Counter, fault: Fault) -> None:
    """The payer has paid: the reconciler looks again."""
    transaction, ask = at.pay(), at.ask()
    async with counter(at.till, settle_seconds=SHORT) as short:
        tender = await short.rail.check(at.header(transaction, ask), ask)
        at.till.node.faults["eth_getTransactionReceipt"] = fault
        assert isinstance(await short.rail.settle(leased(tender), ask), Doubtful)
        assert isinstance(await short.rail.reconcile(leased(tender)), Doubtful)
        at.till.node.faults.clear()
        assert isinstance(await short.rail.reconcile(leased(tender)), Settled)


async def test_payment_is_shown_by_the_text_that_was_signed(at: Counter) -> None:
    """For who asks about it without its request: the ledger's own account of it comes back."""
    transaction, ask = at.pay(), at.ask()
    header = at.header(transaction, ask)
    tender = await at.rail.check(header, ask)
    assert tender.proof is not None
    at.rail._ledger.known[tender.proof.key] = x402.payment(tender.proof, PaymentState.SETTLED)  # type: ignore[attr-defined]
    offer = at.rail.offer(ask, None)
    assert offer is not None
    text = offer.members["transfer"]["sign"].replace("{txHash}", transaction)
    shown = await at.rail.shown(at.header(transaction, ask, message=text))
    assert shown == replace(tender.proof, leases_max=20)
    for message in (
        "",
        "anything",
        text.replace(transaction, "0x" + "2" * 64),
        text.replace("host", "Host"),
        text + "\n",
    ):
        with pytest.raises(Refusal):
            await at.rail.shown(at.header(transaction, ask, message=message))
    with pytest.raises(Refusal) as caught:
        await at.rail.shown(at.header(transaction, ask, message=text, signer=at.till.chain.other))
    assert caught.value.code == "invalid_payment"


async def test_payment_that_was_never_seen_is_not_shown(at: Counter) -> None:
    """There is nothing to give back."""
    transaction, ask = at.pay(), at.ask()
    offer = at.rail.offer(ask, None)
    assert offer is not None
    text = offer.members["transfer"]["sign"].replace("{txHash}", transaction)
    with pytest.raises(Refusal) as caught:
        await at.rail.shown(at.header(transaction, ask, message=text))
    assert caught.value.code == "not_found"


@pytest.mark.parametrize(
    "document",
    [
        "text",
        [],
        {},
        {"txHash": "0x12"},
        {"txHash": 5, "from": "0x" + "1" * 40, "signature": "0x" + "1" * 130},
        {"txHash": "0x" + "1" * 64, "from": "you", "signature": "0x" + "1" * 130},
        {"txHash": "0x" + "1" * 64, "from": "0x" + "1" * 40},
        {"txHash": "0x" + "1" * 64, "from": "0x" + "1" * 40, "signature": "0x" + "1" * 128},
        {"txHash": "0x" + "1" * 64, "from": "0x" + "1" * 40, "signature": "0x" + "1" * 130, "network": "eip155:1"},
        {"txHash": "0x" + "1" * 64, "from": "0x" + "1" * 40, "signature": "0x" + "1" * 130, "network": []},
        {"txHash": "0x" + "1" * 64, "from": "0x" + "1" * 40, "signature": "0x" + "1" * 130, "message": "m" * 1025},
    ],
    ids=str,
)
async def test_header_of_another_shape_is_told_what_is_wanted(at: Counter, document: Any) -> None:
    """400, before anything is computed for it."""
    with pytest.raises(Refusal) as caught:
        await at.rail.check(presented(document), at.ask())
    assert caught.value.code == "x402_bad_payload"


@pytest.mark.parametrize("value", ["", "%", "e30", "x" * 5000, "bnVsbA==", "8J+Y"])
async def test_header_that_is_no_base64_of_an_object_is_refused(at: Counter, value: str) -> None:
    """Whatever it is."""
    with pytest.raises(Refusal) as caught:
        await at.rail.check(Presented(Credential.TRANSFER, value, ""), at.ask())
    assert caught.value.code == "x402_bad_payload"


async def test_every_reason_for_a_taken_proof_has_its_words(at: Counter) -> None:
    """And never an invitation to pay again for what may still be served."""
    proof = Proof("transfer", "k", x402.Unit.USDC, PRICE, settled=False)
    codes = {
        why: at.rail.taken(PaymentTaken(why, x402.payment(proof, PaymentState.UNKNOWN, reason="transfer_too_old"))).code
        for why in Taken
    }
    assert codes[Taken.UNDER_WAY] == "payment_under_way"
    assert codes[Taken.UNKNOWN] == "payment_unknown"
    assert codes[Taken.REFUSED] == "x402_settlement_failed"
    assert {codes[why] for why in (Taken.SPENT, Taken.RETURNED, Taken.BOUND, Taken.WORN_OUT)} == {"payment_spent"}


async def test_network_without_a_node_takes_no_transfers(chain: Till) -> None:
    """Nothing could be looked up: it is not on offer."""
    async with counter(chain, rpc={}) as own:
        assert own.rail.offer(own.ask(), None) is None
        with pytest.raises(Refusal) as caught:
            await own.rail.check(presented({}), own.ask())
    assert caught.value.code == "payment_not_accepted"


def test_events_of_other_tokens_count_for_nothing() -> None:
    """Anybody can write a token that says it paid us."""
    payer, us, fake = "0x" + "1" * 40, "0x" + "2" * 40, "0x" + "3" * 40
    word = lambda address: bytes(12) + bytes.fromhex(address[2:])  # noqa: E731
    event = eip3009.Event(fake, (eip3009.TRANSFER_EVENT, word(payer), word(us)), (9).to_bytes(32), 0)
    assert eip3009.transferred([event], asset=fake, payer=payer, pay_to=us) == 9
    assert eip3009.transferred([event], asset="0x" + "4" * 40, payer=payer, pay_to=us) == 0
    assert eip3009.transferred([event], asset=fake, payer=us, pay_to=payer) == 0
