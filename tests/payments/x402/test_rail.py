"""The rail: one authorization pays for one request, once, and is refused in the protocol's words otherwise."""

from __future__ import annotations

import time
from dataclasses import replace

import httpx
import pytest
from eth_account.messages import encode_defunct
from x402 import x402Client
from x402.http.clients.httpx import PaymentError, x402AsyncTransport
from x402.http.utils import decode_payment_required_header, decode_payment_response_header
from x402.mechanisms.evm.exact.register import register_exact_evm_client

from proxy.errors import Refusal
from proxy.ledger.payment_api import OnFailure, PaymentTaken, Receipt, Taken, Unit
from proxy.ledger.payment_states import PaymentState
from proxy.payments.api import Declined, Doubtful, Settled
from proxy.payments.x402.payload import Authorization
from proxy.payments.x402.responses import settlement_failed
from proxy.payments.x402.verify import claim_text
from tests.support.x402 import (
    NOW,
    NOW_MS,
    PAYER,
    STRANGER,
    Payload,
    Till,
    ask,
    encoded,
    lease,
    payment,
    presented,
    till,
)

RPC = {"eip155:8453": "https://rpc.example"}
LATER_MS = NOW_MS + 3_600_000


async def refused(own: Till, shown, asked=None) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await own.rail.check(shown, asked or ask())
    return caught.value


async def test_rail_opens_and_closes_its_settler():
    """It is nobody else's."""
    own = till()
    await own.rail.start()
    assert own.settler.open
    await own.rail.stop()
    assert not own.settler.open


async def test_tender_is_the_price_and_the_proof_all_that_was_signed():
    """The price is taken; the proof is what there is only one of, bound to the request, not settled."""
    tender = await till().rail.check(Payload(value=5000).presented(), ask())
    proof = tender.proof
    assert (tender.unit, tender.amount, tender.request_digest) == (Unit.USDC, 3150, ask().request_digest)
    assert (proof.rail, proof.amount, proof.settled, proof.use_until_ms) == ("x402", 5000, False, 0)
    assert proof.on_failure is OnFailure.FREE
    assert Authorization.parse(proof.detail).key == proof.key


async def test_tolerated_amount_is_handed_on_as_the_required_one():
    """Five units less than the price: verifiers outside want the signed value and the required one equal."""
    own = till()
    tender = await own.rail.check(Payload(value=3145).presented(), ask())
    assert tender.amount == tender.proof.amount == 3145
    assert isinstance(await own.rail.settle(lease(tender.proof), ask()), Settled)
    ((authorization, requirements),) = own.settler.settled
    assert requirements["amount"] == "3145" == str(authorization.value)
    assert requirements["maxTimeoutSeconds"] == 120


async def test_underpayment_by_six_units_is_refused_with_a_fresh_offer():
    """402 with the reason, the offer again, and the settlement's header."""
    refusal = await refused(till(), Payload(value=3144).presented())
    assert refusal.code == "x402_underpayment"
    offered = decode_payment_required_header(refusal.headers["Payment-Required"])
    assert offered.accepts[0].amount == "3150"
    failed = decode_payment_response_header(refusal.headers["PAYMENT-RESPONSE"])
    assert (failed.success, failed.payer) == (False, PAYER.address)
    assert failed.error_reason == offered.error == "invalid_exact_evm_payload_authorization_value_mismatch"


async def test_bad_signature_tells_nothing_of_a_payer():
    """Who sent junk is not known: a fresh offer, and no settlement's header."""
    refusal = await refused(till(), Payload(signer=STRANGER).presented())
    assert refusal.details == {"reason": "invalid_exact_evm_payload_signature"}
    assert list(refusal.headers) == ["Payment-Required"]


async def test_malformed_payload_is_400_and_no_offer():
    """It is the client that must be mended."""
    refusal = await refused(till(), presented(encoded({"x402Version": 2})))
    assert (refusal.status, refusal.headers) == (400, {})


@pytest.mark.parametrize("state", [state for state in PaymentState if state is not PaymentState.SEEN])
async def test_expired_authorization_is_the_ledgers_once_it_was_tried_with(state):
    """What was settled in time may be used later, and what was spent is told so: the ledger decides."""
    own = till()
    tender = await own.rail.check(Payload().presented(), ask())
    own.ledger.known[tender.proof.key] = payment(tender.proof, state)
    again = await own.rail.check(Payload().presented(), ask(now_ms=LATER_MS))
    assert again.proof == tender.proof


@pytest.mark.parametrize("known", [True, False])
async def test_expired_authorization_that_brought_nothing_is_refused(known):
    """Nobody ever saw money come by it."""
    own = till()
    tender = await own.rail.check(Payload().presented(), ask())
    if known:
        own.ledger.known[tender.proof.key] = payment(tender.proof, PaymentState.SEEN)
    refusal = await refused(own, Payload().presented(), ask(now_ms=LATER_MS))
    assert refusal.details["reason"] == "invalid_exact_evm_payload_authorization_valid_before"


async def test_settled_payment_serves_at_the_price_of_its_day():
    """A price that rose since does not make the payer pay twice."""
    own = till()
    tender = await own.rail.check(Payload().presented(), ask())
    own.ledger.known[tender.proof.key] = payment(tender.proof, PaymentState.SETTLED)
    assert (await own.rail.check(Payload().presented(), ask(9000))).amount == 3150


async def test_nonce_is_bound_to_its_request_and_terms():
    """Another body, or the same nonce signed for another amount: the same payment under another binding."""
    rail = till().rail
    first = (await rail.check(Payload().presented(), ask())).proof
    body = (await rail.check(Payload().presented(), ask(body=b'{"n":2}'))).proof
    terms = (await rail.check(Payload(value=4000).presented(), ask())).proof
    assert first.key == body.key == terms.key
    assert len({first.binding, body.binding, terms.binding}) == 3


async def test_junk_with_a_victims_nonce_does_not_take_the_victims_key():
    """It is another payment, and its wallet is asked before anything is settled."""
    own = till(rpc=RPC)
    victim = await own.rail.check(Payload().presented(), ask())
    junk = await own.rail.check(Payload(signature=b"\x01" * 90).presented(), ask())
    assert junk.proof.key != victim.proof.key
    own.settler.wallet = False
    outcome = await own.rail.settle(lease(junk.proof), ask())
    assert isinstance(outcome, Declined)
    assert outcome.final
    assert own.settler.settled == []
    assert (await refused(till(), Payload(signature=b"\x01" * 90).presented())).code == "x402_settlement_failed"


async def test_contract_wallet_that_agrees_is_settled():
    """Asked once, then settled."""
    own = till(rpc=RPC)
    tender = await own.rail.check(Payload(signature=b"\x01" * 90).presented(), ask())
    assert isinstance(await own.rail.settle(lease(tender.proof), ask()), Settled)
    assert len(own.settler.asked) == len(own.settler.settled) == 1


async def test_contract_wallet_that_cannot_be_asked_is_not_settled_and_may_try_again():
    """503, and nothing was taken."""
    own = till(rpc=RPC)
    tender = await own.rail.check(Payload(signature=b"\x01" * 90).presented(), ask())
    own.settler.wallet = None
    outcome = await own.rail.settle(lease(tender.proof), ask())
    assert isinstance(outcome, Declined)
    assert (outcome.refusal.status, outcome.final, own.settler.settled) == (503, False, [])
    assert outcome.refusal.retry_after_seconds


async def test_failed_settlement_answers_with_both_headers():
    """success false, and the offer again."""
    own = till()
    tender = await own.rail.check(Payload().presented(), ask())
    reason = "invalid_exact_evm_insufficient_balance"
    own.settler.outcome = Declined(settlement_failed(reason), reason, final=True)
    outcome = await own.rail.settle(lease(tender.proof), ask())
    assert isinstance(outcome, Declined)
    assert decode_payment_response_header(outcome.refusal.headers["PAYMENT-RESPONSE"]).error_reason == reason
    assert decode_payment_required_header(outcome.refusal.headers["Payment-Required"]).error == reason


async def test_doubt_is_passed_on():
    """Neither settled nor refused."""
    own = till()
    tender = await own.rail.check(Payload().presented(), ask())
    own.settler.outcome = Doubtful("timeout")
    assert await own.rail.settle(lease(tender.proof), ask()) == await own.rail.reconcile(lease(tender.proof))


async def test_version_1_is_answered_in_its_own_words():
    """Requirements, network's name and header are version 1's."""
    own = till()
    tender = await own.rail.check(Payload(version=1).presented(), ask())
    await own.rail.settle(lease(tender.proof), ask())
    ((_, requirements),) = own.settler.settled
    assert (requirements["network"], requirements["maxAmountRequired"]) == ("base", "3150")
    ((name, value),) = await own.rail.served(lease(tender.proof, receipt=Receipt(3150, reference="0xtx")))
    assert name == "X-PAYMENT-RESPONSE"
    assert decode_payment_response_header(value).network == "base"


async def test_version_1_can_be_off():
    """Then it is said which header is taken."""
    refusal = await refused(till(v1=False), Payload(version=1).presented())
    assert refusal.code == "payment_not_accepted"


@pytest.mark.parametrize("again", [False, True])
async def test_served_answer_names_the_transaction(again):
    """So does one that is given out again."""
    own = till()
    proof = (await own.rail.check(Payload().presented(), ask())).proof
    if again:
        headers = await own.rail.served_again(payment(proof, PaymentState.BURNT))
    else:
        headers = await own.rail.served(lease(proof, receipt=Receipt(3150, reference="0xtx")))
    ((name, value),) = headers
    response = decode_payment_response_header(value)
    assert name == "PAYMENT-RESPONSE"
    assert (response.success, response.transaction, response.amount) == (True, "0xtx", "3150")
    assert (response.network, response.payer) == ("eip155:8453", PAYER.address)


@pytest.mark.parametrize(
    ("why", "code", "status", "reason"),
    [
        (Taken.SPENT, "x402_settlement_failed", 402, "invalid_exact_evm_nonce_already_used"),
        (Taken.BOUND, "x402_settlement_failed", 402, "invalid_exact_evm_nonce_already_used"),
        (Taken.RETURNED, "x402_settlement_failed", 402, "invalid_exact_evm_nonce_already_used"),
        (Taken.REFUSED, "x402_settlement_failed", 402, "transaction_failed"),
        (Taken.UNDER_WAY, "payment_under_way", 409, None),
        (Taken.UNKNOWN, "payment_unknown", 503, None),
        (Taken.WORN_OUT, "payment_spent", 409, None),
    ],
)
async def test_taken_payment_is_refused_in_the_rails_words(why, code, status, reason):
    """Replays are 402, what may still be served never is; each names the payment."""
    own = till()
    proof = (await own.rail.check(Payload().presented(), ask())).proof
    known = payment(proof, PaymentState.SETTLED, reason="the facilitator's own prose")
    refusal = own.rail.taken(PaymentTaken(why, known))
    assert (refusal.code, refusal.status) == (code, status)
    assert refusal.details["payment_id"] == known.id
    assert refusal.details.get("reason") == reason
    assert ("PAYMENT-RESPONSE" in refusal.headers) == (status == 402)
    assert bool(refusal.retry_after_seconds) == (why in {Taken.UNDER_WAY, Taken.UNKNOWN})


async def test_worn_out_authorization_that_brought_nothing_is_no_refund():
    """Then the payer is to sign another one."""
    own = till()
    proof = (await own.rail.check(Payload().presented(), ask())).proof
    refusal = own.rail.taken(PaymentTaken(Taken.WORN_OUT, payment(proof, PaymentState.SEEN)))
    assert (refusal.code, refusal.details["reason"]) == ("x402_settlement_failed", "transaction_failed")


def claimed(payload: Payload, signer=PAYER) -> Payload:
    """The payload with its payer's word about it."""
    key = f"eip155:8453:{payload.asset.address.lower()}:{payload.payer.lower()}:{payload.nonce.hex()}"
    signature = signer.sign_message(encode_defunct(text=f"I claim the x402 payment {key}")).signature
    return replace(payload, extra={"claim": "0x" + bytes(signature).hex()})


async def test_payer_may_ask_about_its_payment_at_any_time():
    """Expired, from a day when another address was paid: the payment as it was first seen."""
    own = till()
    proof = (await own.rail.check(Payload().presented(), ask())).proof
    own.ledger.known[proof.key] = payment(proof, PaymentState.SETTLED)
    later = till(pay_to="0x" + "ab" * 20)
    later.ledger.known = own.ledger.known
    assert await later.rail.shown(claimed(Payload()).presented()) == proof
    assert await own.rail.shown(claimed(Payload(value=10**9)).presented()) == proof


@pytest.mark.parametrize("state", [PaymentState.SEEN, PaymentState.REFUSED])
async def test_payer_may_ask_about_a_payment_that_brought_nothing(state):
    """The ledger keeps nothing of it but what became of it: it is what is shown now."""
    own = till()
    proof = (await own.rail.check(Payload().presented(), ask())).proof
    own.ledger.known[proof.key] = replace(payment(proof, state), detail=b"")
    assert await own.rail.shown(claimed(Payload()).presented()) == proof
    assert own.rail.taken(PaymentTaken(Taken.REFUSED, own.ledger.known[proof.key])).status == 402


@pytest.mark.parametrize("payload", [Payload(), claimed(Payload(), STRANGER)])
async def test_public_signature_is_no_right_to_a_refund(payload):
    """Whoever watches the chain has it: the payer must sign that it asks, and is told what."""
    own = till()
    proof = (await own.rail.check(Payload().presented(), ask())).proof
    own.ledger.known[proof.key] = payment(proof, PaymentState.SETTLED)
    with pytest.raises(Refusal) as caught:
        await own.rail.shown(payload.presented())
    assert caught.value.code == "invalid_payment"
    assert claim_text(Authorization.parse(proof.detail)) in caught.value.message


async def test_unknown_payment_is_not_shown():
    """Nothing was taken for it."""
    with pytest.raises(Refusal) as caught:
        await till().rail.shown(claimed(Payload()).presented())
    assert caught.value.code == "not_found"


@pytest.mark.parametrize("state", [PaymentState.SEEN, PaymentState.REFUSED])
async def test_payment_that_took_nothing_is_shown_as_it_came(state):
    """The ledger keeps no authorization that nobody will be asked about."""
    own = till()
    proof = (await own.rail.check(Payload().presented(), ask())).proof
    own.ledger.known[proof.key] = payment(proof, state, detail=b"")
    assert await own.rail.shown(claimed(Payload()).presented()) == proof


@pytest.mark.parametrize(
    ("claim", "wallet", "code"),
    [
        (None, True, "invalid_payment"),
        (b"junk", True, "invalid_payment"),
        (b"agreed", False, "invalid_payment"),
        (b"agreed", None, "payment_unavailable"),
        (b"agreed", True, None),
    ],
)
async def test_contract_wallet_says_itself_that_it_claims_its_payment(claim, wallet, code):
    """Its signature of the payment is public on chain: who watches it has no right to the money."""
    own = till(rpc=RPC)
    payload = Payload(signature=b"\x01" * 90)
    proof = (await own.rail.check(payload.presented(), ask())).proof
    own.ledger.known[proof.key] = payment(proof, PaymentState.SETTLED)
    own.settler.wallet = wallet
    shown = replace(payload, extra={} if claim is None else {"claim": "0x" + claim.hex()}).presented()
    if code is None:
        assert await own.rail.shown(shown) == proof
        return
    with pytest.raises(Refusal) as caught:
        await own.rail.shown(shown)
    assert caught.value.code == code


def merchant(own: Till, *, v1_only: bool = False, usdc: int = 3150):
    """A server that asks for money, and what it was sent."""
    tenders = []

    async def answer(request: httpx.Request) -> httpx.Response:
        asked = ask(usdc, now_ms=int(time.time() * 1000))
        header = request.headers.get("x-payment" if v1_only else "payment-signature")
        if header is None:
            offer = own.rail.offer(asked, None)
            headers = [] if v1_only else list(offer.headers)
            return httpx.Response(402, headers=headers, json={"error": "Payment Required", **offer.members})
        tender = await own.rail.check(presented(header, 1 if v1_only else 2), asked)
        await own.rail.settle(lease(tender.proof), asked)
        tenders.append(tender)
        served = await own.rail.served(lease(tender.proof, receipt=Receipt(tender.amount, reference="0x" + "ab" * 32)))
        return httpx.Response(200, headers=list(served), json={})

    return httpx.MockTransport(answer), tenders


@pytest.mark.parametrize("v1_only", [False, True])
async def test_sdk_client_pays_by_our_offer(v1_only):
    """The x402 SDK's httpx client, unmodified, builds a payment from the 402 that the rail accepts."""
    own = till()
    transport, tenders = merchant(own, v1_only=v1_only)
    client = register_exact_evm_client(x402Client(), PAYER)
    async with httpx.AsyncClient(transport=x402AsyncTransport(client, transport)) as http:
        answer = await http.post("https://llm.example/v1/chat/completions", json={})
    assert answer.status_code == 200
    (tender,) = tenders
    assert tender.amount == tender.proof.amount == 3150
    ((authorization, _),) = own.settler.settled
    assert (authorization.payer, authorization.version) == (PAYER.address, 1 if v1_only else 2)
    name = "x-payment-response" if v1_only else "payment-response"
    assert decode_payment_response_header(answer.headers[name]).transaction == "0x" + "ab" * 32


@pytest.mark.parametrize("told", [False, True])
async def test_stock_sdk_client_refuses_more_than_a_dollar_unless_told(told):
    """Its own cap of spend: what is dearer has to be paid otherwise, or by a client that was told."""
    transport, tenders = merchant(till(), usdc=1_000_001)
    client = register_exact_evm_client(x402Client(), PAYER)
    if told:
        client.set_spend_controls({"max_amount_per_payment": "$5"})
    async with httpx.AsyncClient(transport=x402AsyncTransport(client, transport)) as http:
        if told:
            assert (await http.post("https://llm.example/v1/chat/completions", json={})).status_code == 200
        else:
            with pytest.raises(PaymentError):
                await http.post("https://llm.example/v1/chat/completions", json={})
    assert len(tenders) == told


async def test_not_yet_valid_authorization_is_refused():
    """Even one second ahead."""
    refusal = await refused(till(), Payload(valid_after=NOW + 1).presented())
    assert refusal.details["reason"] == "invalid_exact_evm_payload_authorization_valid_after"
