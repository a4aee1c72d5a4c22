"""A payer's own payments, shown again: looked at, refunded, and invoices asked about, over a real ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plugins.balance.plugin import BalancePlugin
from plugins.payer_api.plugin import PayerApiPlugin
from proxy.errors import Refusal
from proxy.exchange import Response
from proxy.ledger.api import HoldRequest
from proxy.ledger.payment_api import EcashProof, Lease, Receipt, Tender
from proxy.ledger.payment_states import PaymentState
from proxy.payments.api import Ask, Credential, IssuedInvoice, Presented, Price
from proxy.payments.l402.terms import Terms
from proxy.pricing.money import Nano
from tests.support.fakes import generation
from tests.support.shop import Shop, code, digest, told

YEAR_SECONDS = 365 * 86_400
PATH = "/v1/chat/completions"
NOTE = EcashProof("https://mint.test", "00ffd48b8f5ecf80", 500, "s" * 64, "02" + "11" * 32)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    made = Shop(tmp_path)
    made.open(BalancePlugin, PayerApiPlugin, under=generation())
    yield made
    await made.close()


# -- payments over Lightning


def ask(shop: Shop) -> Ask:
    price = Price(Nano(1_000_000), Nano(1), 100_000, 1, 1, 0, 1, 1, "r")
    return Ask(
        "POST", PATH, f"https://x{PATH}", "chat.completions", "gpt-4o", False, price, "d" * 64, "c", shop.clock.ms
    )


async def paid_l402(shop: Shop, msat: int = 100_000) -> tuple[str, str, IssuedInvoice]:
    """A macaroon that was paid for and never used: the header's value, the preimage, the invoice."""
    assert shop.rails.invoices is not None
    terms = Terms.of(ask(shop)).json()
    made = await shop.rails.invoices.issue(msat=msat, memo="m", client="c", purpose="request", seconds=300, terms=terms)
    offer = shop.l402.offer(ask(shop), made)
    assert offer is not None
    macaroon, preimage = offer.members["macaroon"], shop.wallet.pay(made.bolt11)
    return f"L402 {macaroon}:{preimage}", preimage, made


async def refund(shop: Shop, credential: str, header: str = "authorization") -> Response:
    return await shop.ask("/v1/payments/refund", b"", headers={header: credential})


async def hold(shop: Shop, credential: str, name: str = "x") -> Any:
    """The hold of a request that is being served for a Lightning payment."""
    tender = await shop.l402.check(Presented(Credential.L402, credential.removeprefix("L402 "), "d"), ask(shop))
    return await shop.ledger.hold(
        HoldRequest(name, "k", "u", "t", "o", "m", "op", Nano(1), None, (), shop.clock.ms, tender=tender)
    )


async def test_a_paid_and_unused_invoice_becomes_a_balance(shop: Shop) -> None:
    """Whatever its amount, before or after the macaroon expired, for a year; again and again the same token."""
    credential, *_ = await paid_l402(shop, 21_000)
    shop.clock.advance(86_400)
    first = told(await refund(shop, credential))
    assert first == {
        "refunded": True,
        "payment_id": first["payment_id"],
        "token": first["token"],
        "amount": 21_000,
        "unit": "msat",
        "sats": 21,
        "left": 21_000,
        "expires_at": "2024-11-14T22:13:20Z",
    }
    assert told(await refund(shop, credential)) == first
    shop.open(BalancePlugin, PayerApiPlugin, under=generation())
    assert told(await refund(shop, credential)) == first
    shop.clock.advance(YEAR_SECONDS - 1)
    assert told(await shop.balance({"action": "status"}, token=first["token"]))["sats"] == 21
    shop.clock.advance(1)
    assert code(await shop.balance({"action": "status"}, token=first["token"])) == (401, "invalid_balance")


async def test_twenty_refunds_at_once_credit_once(shop: Shop) -> None:
    """Each is told the same."""
    credential, *_ = await paid_l402(shop)
    answers = await asyncio.gather(*[refund(shop, credential) for _ in range(20)])
    tokens = {told(answer)["token"] for answer in answers}
    assert len(tokens) == 1
    state = await shop.ledger.balance(digest(tokens.pop()))
    assert state is not None
    assert state.deposited == 100_000


async def test_twenty_refunds_over_two_processes_credit_once(shop: Shop) -> None:
    """The same token, or be patient."""
    credential, *_ = await paid_l402(shop)
    apps = [shop._app]
    shop.open(BalancePlugin, PayerApiPlugin, under=generation())
    apps.append(shop._app)

    async def one(number: int) -> Response:
        shop._app = apps[number % 2]
        return await refund(shop, credential)

    answers = await asyncio.gather(*[one(number) for number in range(20)])
    assert {answer.status for answer in answers} <= {200, 409}
    tokens = {told(answer)["token"] for answer in answers if answer.status == 200}
    assert tokens == {told(await refund(shop, credential))["token"]}
    payment = await shop.ledger.payment_by_id(told(await refund(shop, credential))["payment_id"])
    assert payment is not None
    assert (payment.state, payment.credited, payment.held) == (PaymentState.REFUNDED, 100_000, 0)


async def test_a_refunded_payment_buys_no_answer(shop: Shop) -> None:
    """Nor can a request that is being served be refunded under its feet."""
    credential, *_ = await paid_l402(shop)
    held = await hold(shop, credential)
    answer = await refund(shop, credential)
    assert code(answer) == (409, "payment_under_way")
    assert int(answer.headers["retry-after"]) > 0
    shop.ledger.release(held, reason="upstream failed", at_ms=shop.clock.ms)
    await shop.ledger.flush()
    assert told(await refund(shop, credential))["refunded"] is True
    with pytest.raises(Exception, match="returned"):
        await hold(shop, credential, "y")


async def test_a_burnt_payment_is_409(shop: Shop) -> None:
    """It has bought an answer."""
    credential, *_ = await paid_l402(shop)
    held = await hold(shop, credential)
    await shop.ledger.dispatch(held, upstream="openai", upstream_model="gpt-4o")
    await shop.ledger.commit(held)
    assert code(await refund(shop, credential)) == (409, "payment_spent")
    shop.ledger.release(held, reason="done", at_ms=shop.clock.ms)


async def test_a_worn_out_payment_is_refunded(shop: Shop) -> None:
    """So often it was tried with that it can only be refunded."""
    credential, *_ = await paid_l402(shop)
    for number in range(5):
        held = await hold(shop, credential, f"x{number}")
        shop.ledger.release(held, reason="upstream failed", at_ms=shop.clock.ms)
        await shop.ledger.flush()
    with pytest.raises(Exception, match="worn_out"):
        await hold(shop, credential, "last")
    assert told(await refund(shop, credential))["amount"] == 100_000


@pytest.mark.parametrize(
    "spoil",
    [lambda value: value[:-1] + ("0" if value[-1] != "0" else "1"), lambda value: value.replace("L402 A", "L402 B", 1)],
)
async def test_a_wrong_proof_is_its_rails_refusal_and_leaves_no_trace(shop: Shop, spoil: Any) -> None:
    """Another preimage, another macaroon."""
    credential, _, invoice = await paid_l402(shop)
    assert code(await refund(shop, spoil(credential))) == (401, "invalid_payment")
    assert await shop.ledger.payment("lightning", invoice.payment_hash) is None


async def test_a_ledger_that_cannot_write_leaves_the_payment_to_be_refunded(shop: Shop) -> None:
    """503, and then the refund."""
    credential, *_ = await paid_l402(shop)
    kept = shop.ledger.refund

    async def overloaded(*_: Any) -> Any:
        raise Refusal("overloaded", "The ledger cannot write.", retry_after_seconds=1)

    shop.ledger.refund = overloaded  # type: ignore[method-assign]
    assert code(await refund(shop, credential)) == (503, "overloaded")
    shop.ledger.refund = kept  # type: ignore[method-assign]
    await shop.ledger.flush()
    assert told(await refund(shop, credential))["refunded"] is True


# -- payments over other rails


async def lease(shop: Shop, rail: Any, value: str, receipt: Receipt | None) -> Lease:
    """The payment of a request: settled where there is a receipt, else leased alone."""
    proof = await rail.shown(Presented(Credential.X402, value, "d"))
    tender = Tender(proof.unit, 1, "d" * 64, proof=proof)
    held = await shop.ledger.hold(
        HoldRequest(value, "k", "u", "t", "o", "m", "op", Nano(1), None, (), shop.clock.ms, tender=tender)
    )
    assert held.lease is not None
    if receipt is not None:
        await shop.ledger.payment_settled(held.lease, receipt)
        shop.ledger.release(held, reason="upstream failed", at_ms=shop.clock.ms)
        await shop.ledger.flush()
    return held.lease


async def test_an_x402_payment_comes_back_in_dollars(shop: Shop) -> None:
    """To its payer, who signs that it asks; nothing is converted."""
    await lease(shop, shop.x402, "5000/n/claim", Receipt(5000))
    assert code(await refund(shop, "5000/n", "payment-signature")) == (401, "invalid_payment")
    refunded = told(await refund(shop, "5000/n/claim", "payment-signature"))
    assert (refunded["amount"], refunded["unit"]) == (5000, "usdc")
    standing = told(await shop.balance({"action": "status"}, token=refunded["token"]))
    assert (standing["usd"], standing["unit"]) == ("0.005", "usdc")


async def test_what_was_never_taken_is_not_refunded(shop: Shop) -> None:
    """Never seen, or seen and declined: 404, and it may still be used."""
    assert code(await refund(shop, "5000/n/claim", "payment-signature")) == (404, "not_found")
    taken = await lease(shop, shop.x402, "5000/n/claim", None)
    assert code(await refund(shop, "5000/n/claim", "payment-signature")) == (409, "payment_under_way")
    await shop.ledger.payment_freed(taken, "declined")
    assert code(await refund(shop, "5000/n/claim", "payment-signature")) == (404, "not_found")
    payment = await shop.ledger.payment("x402", "n")
    assert payment is not None
    assert payment.state is PaymentState.SEEN


async def test_an_unknown_payment_is_503_until_it_is_known(shop: Shop) -> None:
    """With its id; then refunded, or not."""
    taken = await lease(shop, shop.x402, "5000/n/claim", None)
    await shop.ledger.payment_unknown(taken, "timeout")
    answer = await refund(shop, "5000/n/claim", "payment-signature")
    assert code(answer) == (503, "payment_unknown")
    assert taken.id.encode() in answer.body
    assert int(answer.headers["retry-after"]) > 0
    (again,) = await shop.ledger.unknown_payments(count_max=1, idle_ms=0)
    await shop.ledger.payment_refused(again, "never came")
    assert code(await refund(shop, "5000/n/claim", "payment-signature")) == (404, "not_found")


async def test_ecash_that_came_back_is_told_again(shop: Shop) -> None:
    """By the refund, and by a look at the payment."""
    await lease(shop, shop.cashu, "500000/t", Receipt(500_000, ecash=(NOTE,)))
    refunded = told(await refund(shop, "500000/t", "x-cashu"))
    assert refunded["cashu"].startswith("cashuB")
    assert (refunded["amount"], refunded["unit"]) == (500_000, "msat")
    entry = told(
        await shop.ask(f"/v1/payments/{refunded['payment_id']}", method="GET", headers={"x-cashu": "500000/t"})
    )
    assert (entry["state"], entry["returned"], entry["cashu"]) == ("refunded", 500_000, refunded["cashu"])


# -- a look at a payment


async def look(shop: Shop, id_: str, credential: str | None, header: str = "authorization") -> Response:
    headers = {} if credential is None else {header: credential}
    return await shop.ask(f"/v1/payments/{id_}", method="GET", headers=headers)


async def test_a_payment_is_told_to_who_shows_its_proof(shop: Shop) -> None:
    """Where it stands, what became of it, whether it can be refunded."""
    credential, *_ = await paid_l402(shop)
    held = await hold(shop, credential)
    under_way = told(await look(shop, held.lease.id, credential))
    assert (under_way["state"], under_way["under_way"], under_way["refund"]) == ("settled", True, None)
    shop.ledger.release(held, reason="upstream failed", at_ms=shop.clock.ms)
    await shop.ledger.flush()
    answer = await look(shop, held.lease.id, credential)
    assert answer.headers["cache-control"] == "no-store"
    assert told(answer) == {
        "id": held.lease.id,
        "object": "payment",
        "rail": "lightning",
        "state": "settled",
        "under_way": False,
        "amount": 100_000,
        "unit": "msat",
        "created_at": "2023-11-14T22:13:20Z",
        "changed_at": "2023-11-14T22:13:20Z",
        "captured": 0,
        "credited": 0,
        "returned": 0,
        "change": 0,
        "fee": 0,
        "absorbed": 0,
        "expired": 0,
        "held": 100_000,
        "uses_left": 4,
        "use_until": "2023-11-14T22:18:20Z",
        "refund": {"method": "POST", "path": "/v1/payments/refund"},
    }
    told(await refund(shop, credential))
    refunded = told(await look(shop, held.lease.id, credential))
    assert (refunded["state"], refunded["credited"], refunded["refund"]) == ("refunded", 100_000, None)


async def test_nothing_is_told_without_the_proof(shop: Shop) -> None:
    """Another payment's proof, a balance's token, none, two: nothing of it."""
    credential, *_ = await paid_l402(shop)
    other, *_ = await paid_l402(shop)
    held = await hold(shop, credential)
    await hold(shop, other, "y")
    id_ = held.lease.id
    assert code(await look(shop, id_, other)) == (404, "not_found")
    assert code(await look(shop, "pay_" + "0" * 32, credential)) == (404, "not_found")
    assert code(await look(shop, id_, None)) == (401, "invalid_payment")
    assert code(await look(shop, id_, "Bearer bal_" + "A" * 43)) == (400, "payment_not_accepted")
    assert code(await look(shop, id_, "Bearer sk-dummy")) == (401, "invalid_payment")
    assert code(await look(shop, id_, "Payment eyJ9")) == (400, "payment_not_accepted")
    two = await shop.ask(f"/v1/payments/{id_}", method="GET", headers={"authorization": credential, "x-cashu": "1/t"})
    assert code(two) == (400, "ambiguous_payment")


async def test_no_answer_names_a_detail_or_a_reason(shop: Shop) -> None:
    """Those are the operator's, and may be bearer money."""
    taken = await lease(shop, shop.cashu, "500000/t", None)
    await shop.ledger.note_payment(taken, b"CANARY-DETAIL")
    await shop.ledger.payment_unknown(taken, "CANARY-REASON")
    answer = await look(shop, taken.id, "500000/t", "x-cashu")
    assert b"CANARY" not in answer.body
    assert told(answer)["state"] == "unknown"


# -- invoices


async def test_the_macaroon_says_who_may_know_of_an_invoice(shop: Shop) -> None:
    """Unpaid: false. Paid: the preimage. To who has another macaroon: nothing."""
    assert shop.rails.invoices is not None
    made = await shop.rails.invoices.issue(
        msat=21_000, memo="m", client="c", purpose="request", seconds=300, terms=Terms.of(ask(shop)).json()
    )
    offer = shop.l402.offer(ask(shop), made)
    assert offer is not None
    body = {"payment_hash": made.payment_hash, "macaroon": offer.members["macaroon"]}
    assert told(await shop.ask("/api/invoice/status", body)) == {"paid": False}
    preimage = shop.wallet.pay(made.bolt11)
    assert told(await shop.ask("/api/invoice/status", body)) == {"paid": True, "preimage": preimage}
    other, _, _ = await paid_l402(shop)
    foreign = body | {"macaroon": other.removeprefix("L402 ").partition(":")[0]}
    assert code(await shop.ask("/api/invoice/status", foreign)) == (401, "invalid_payment")
    for broken in ({}, {"payment_hash": made.payment_hash}, body | {"payment_hash": "x"}, body | {"more": 1}):
        assert code(await shop.ask("/api/invoice/status", broken)) == (400, "invalid_request")
    assert code(await shop.ask("/api/invoice/status", body | {"macaroon": "!"})) == (401, "invalid_payment")
    shop.rails = replace(shop.rails, invoices=None)
    shop.open(PayerApiPlugin, under=generation())
    assert code(await shop.ask("/api/invoice/status", body)) == (404, "not_found")
