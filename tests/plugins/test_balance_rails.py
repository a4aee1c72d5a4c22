"""Balances bought with real payments: signed USDC authorizations, ecash of a mint. Shown again, and given back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_account.messages import encode_defunct

from plugins.balance.plugin import BalancePlugin
from plugins.payer_api.plugin import PayerApiPlugin
from proxy.payments.api import Doubtful
from proxy.payments.cashu.rail import CashuRail
from proxy.payments.cashu.tokens import parse_token
from proxy.payments.collection import record
from proxy.payments.settings import Cashu, Mint
from proxy.payments.x402.rail import X402Rail
from tests.peers.mint.scripted import Fault, ScriptedMint
from tests.support.shop import Shop, code, told
from tests.support.x402 import PAYER, Payload, ScriptedSettler, settings

SATS_1000 = 680_000
"""USDC of 1000 sats at 68,000 dollars a bitcoin."""


@pytest.fixture
async def mint() -> AsyncIterator[ScriptedMint]:
    async with ScriptedMint(fee_ppk=100) as running:
        yield running


@pytest.fixture
def settler() -> ScriptedSettler:
    return ScriptedSettler()


@pytest.fixture
async def shop(tmp_path: Path, mint: ScriptedMint, settler: ScriptedSettler) -> AsyncIterator[Shop]:
    made = Shop(tmp_path)
    own: Any = settler
    x402 = X402Rail(made.settings, settings(), own, made.ledger)
    cashu = CashuRail(Cashu((Mint(mint.url, development=True),)), made.ledger, made.clock, made.log)
    for client in cashu._mints.values():
        await client.read()
    made.rails = replace(made.rails, rails=(made.l402, x402, cashu, made.rails.rails[-1]))
    made.open(BalancePlugin, PayerApiPlugin)
    yield made
    await cashu.stop()
    findings = await made.ledger.audit()
    await made.close()
    assert findings == []


def _signed(text: str) -> bytes:
    return bytes(PAYER.sign_message(encode_defunct(text=text)).signature)


async def test_the_offer_is_one_that_stock_clients_pay(shop: Shop) -> None:
    """The envelope of x402 and the request of NUT-24, for what the sats are worth."""
    answer = await shop.balance({"sats": 1000})
    offer = told(answer, 402)
    assert offer["x402"]["price_usd"] == "0.680000"
    assert offer["cashu"]["price_sats"] == 1000
    assert answer.headers["payment-required"]
    assert answer.headers["x-cashu"].startswith("creqA")


async def test_a_signed_authorization_buys_and_comes_back_to_its_signer_alone(
    shop: Shop, settler: ScriptedSettler
) -> None:
    """A copy of what is public on the chain is told nothing."""
    payload = Payload(value=SATS_1000)
    bought = await shop.balance({"sats": 1000}, x402=payload.header())
    paid = told(bought)
    assert bought.headers["payment-response"]
    assert paid["balance"]["usd"] == "0.68"
    copied = await shop.balance({"sats": 1000}, x402=payload.header())
    assert code(copied) == (401, "invalid_payment")
    assert paid["token"].encode() not in copied.body
    wanted = _claim_text(copied.body.decode())
    again = replace(payload, extra={"claim": "0x" + _signed(wanted).hex()})
    assert told(await shop.balance({"sats": 1000}, x402=again.header()))["token"] == paid["token"]
    assert len(settler.settled) == 1


def _claim_text(message: str) -> str:
    """What the refusal asks the payer to sign."""
    start = message.index("I claim the x402 payment")
    return message[start:].partition('"')[0].strip()


async def test_too_small_an_authorization_buys_nothing(shop: Shop, settler: ScriptedSettler) -> None:
    """402 in the rail's words, with a fresh offer."""
    answer = await shop.balance({"sats": 1000}, x402=Payload(value=SATS_1000 - 6).header())
    assert code(answer) == (402, "x402_underpayment")
    assert answer.headers["payment-required"]
    assert settler.settled == []


async def test_ecash_buys_a_balance_and_change_comes_back(shop: Shop, mint: ScriptedMint) -> None:
    """Exactly what was asked for is on the balance; the same token of the mint shown again brings both again."""
    ecash = mint.notes(512, 512, 64)
    bought = await shop.balance({"sats": 1000}, cashu=ecash)
    paid = told(bought)
    assert paid["balance"]["sats"] == 1000
    change = parse_token(bought.headers["x-cashu-change"], notes_max=50).amount
    assert change == 1088 - 1000 - 1
    again = await shop.balance({"sats": 1000}, cashu=ecash)
    assert told(again)["token"] == paid["token"]
    assert again.headers["x-cashu-change"] == bought.headers["x-cashu-change"]
    assert mint.calls.count("/v1/swap") == 1


async def test_doubtful_ecash_is_never_swapped_twice_and_comes_back(shop: Shop, mint: ScriptedMint) -> None:
    """503 with the id; once it is known the payer fetches it, by the same token."""
    ecash = mint.notes(512, 512, 64)
    mint.faults |= {"/v1/swap": Fault.CUT_AFTER, "/v1/restore": Fault.ERROR}
    doubtful = await shop.balance({"sats": 1000}, cashu=ecash)
    assert code(doubtful) == (503, "payment_unknown")
    assert code(await shop.ask("/v1/payments/refund", b"", headers={"x-cashu": ecash})) == (503, "payment_unknown")
    mint.faults.clear()
    shop.clock.advance(60)
    (lease,) = await shop.ledger.unknown_payments(count_max=1, idle_ms=15_000)
    outcome = await shop.rails.rails[2].reconcile(lease)
    assert not isinstance(outcome, Doubtful)
    await record(shop.ledger, lease, outcome, shop.log)
    refunded = told(await shop.ask("/v1/payments/refund", b"", headers={"x-cashu": ecash}))
    assert parse_token(refunded["cashu"], notes_max=50).amount == 1087
    looked = told(await shop.ask(f"/v1/payments/{refunded['payment_id']}", method="GET", headers={"x-cashu": ecash}))
    assert (looked["state"], looked["cashu"]) == ("refunded", refunded["cashu"])
