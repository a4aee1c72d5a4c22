"""Ecash of a real mint, in nutshell's own wallet, buys answers of a whole proxy; the wallet receives the change."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from x402.http.clients import x402HttpxClient

from tests.peers.chain import Chain
from tests.peers.mint import PROGRAM, Mint, Wallet
from tests.peers.paywall import wallet_server
from tests.support.paid import CHAT, PaidWorld, body
from tests.support.paid_clients import TEXT, dollars, node, said

pytestmark = pytest.mark.needs(PROGRAM)

PRICE = 21
FEE = 1
"""In sats, of a swap of up to ten notes."""


def ask(market: PaidWorld, token: str | None, text: str, **more: Any) -> httpx.Response:
    with market.client() as client:
        return client.post(CHAT, json=body(text, **more), headers={} if token is None else {"x-cashu": token})


def test_a_wallet_pays_what_it_is_asked_for_and_receives_the_change(
    market: PaidWorld, ecash_mint: Mint, purse: Wallet
) -> None:
    """NUT-24 from end to end: the request in the 402, the token in the next request, the rest in the answer."""
    challenge = ask(market, None, "by nutshell")
    asked = purse.read(challenge.headers["x-cashu"])
    assert (asked["a"], asked["u"], asked["m"]) == (PRICE, "sat", [ecash_mint.url])
    assert challenge.json()["cashu"]["price_sats"] == PRICE
    answer = ask(market, purse.send(64), "by nutshell")
    assert (answer.status_code, said(answer.text)) == (200, TEXT)
    assert answer.headers["x-cashu-consumed"] == "true"
    assert purse.receive(answer.headers["x-cashu-change"]) == 64 - FEE - PRICE - FEE


def test_the_exact_price_brings_no_change(market: PaidWorld, purse: Wallet) -> None:
    """Price and the mint's fee."""
    answer = ask(market, purse.send(PRICE + FEE), "exactly")
    assert (answer.status_code, answer.headers["x-cashu-consumed"]) == (200, "true")
    assert "x-cashu-change" not in answer.headers


def test_a_token_is_worth_one_answer(market: PaidWorld, purse: Wallet) -> None:
    """Shown again it gives the same one, with the same change; for another request it is spent."""
    token = purse.send(32)
    answer = ask(market, token, "once")
    calls = len(market.world.provider.requests)
    again = ask(market, token, "once")
    assert (again.status_code, again.text) == (200, answer.text)
    assert again.headers["x-cashu-change"] == answer.headers["x-cashu-change"]
    other = ask(market, token, "twice")
    assert (other.status_code, other.json()["error"]["code"]) == (400, "cashu_token_spent")
    assert len(market.world.provider.requests) == calls
    assert purse.receive(answer.headers["x-cashu-change"]) == 32 - FEE - PRICE - FEE


def test_what_bought_no_answer_comes_back_to_the_wallet(market: PaidWorld, purse: Wallet) -> None:
    """With the failure itself, and again from the refund endpoint; the wallet receives it once."""
    token = purse.send(64)
    failed = ask(market, token, "unserved", model="dead-end")
    assert failed.status_code >= 500, failed.text
    back = failed.headers["x-cashu-change"]
    with market.client() as client:
        refund = client.post("/v1/payments/refund", headers={"x-cashu": token})
    assert (refund.status_code, refund.json()["cashu"]) == (200, back)
    assert purse.receive(back) == 64 - FEE - FEE


def test_too_little_is_the_wallets_still(market: PaidWorld, purse: Wallet) -> None:
    """402 in the rail's own words before the mint is asked; what was sent can be received back."""
    for sats, code in ((PRICE - 1, "cashu_underpayment"), (PRICE, "cashu_underpayment_after_fees")):
        token = purse.send(sats)
        refused = ask(market, token, "too little")
        assert (refused.status_code, refused.json()["error"]["code"]) == (402, code)
        assert purse.receive(token) == sats - FEE


def test_streams_are_not_sold_for_ecash(market: PaidWorld, purse: Wallet) -> None:
    """Neither offered nor taken, and the token stays good."""
    assert "x-cashu" not in ask(market, None, "streamed", stream=True).headers
    token = purse.send(32)
    refused = ask(market, token, "streamed", stream=True)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "cashu_no_stream")
    assert purse.receive(token) == 32 - FEE


def test_a_balance_is_bought_with_ecash_and_is_a_key(market: PaidWorld, purse: Wallet) -> None:
    """At once; the change comes back, and the balance pays for requests, streamed ones, too."""
    with market.client() as client:
        bought = client.post("/v1/balance", json={"sats": 500}, headers={"x-cashu": purse.send(600)})
        assert (bought.status_code, bought.json()["paid"], bought.json()["sats"]) == (200, True, 500), bought.text
        assert purse.receive(bought.headers["x-cashu-change"]) == 600 - FEE - 500 - FEE
        key = {"authorization": f"Bearer {bought.json()['token']}"}
        streamed = client.post(CHAT, json=body("by ecash bought before", stream=True), headers=key)
        assert (streamed.status_code, said(streamed.text)) == (200, TEXT)
        topped = client.post("/v1/balance", json={"sats": 100}, headers={**key, "x-cashu": purse.send(100 + FEE)})
        assert topped.status_code == 200, topped.text
        status = client.post("/v1/balance", json={"action": "status"}, headers=key).json()
        assert (status["sats"], status["total_spent"], status["requests"]) == (600 - PRICE, PRICE, 1)


@pytest.mark.needs("node")
async def test_every_client_finds_its_own_offer_in_the_same_402(
    market: PaidWorld, base_chain: Chain, purse: Wallet
) -> None:
    """All rails at once, within what clients and servers take for header fields: none disturbs another's client."""
    challenge = ask(market, None, "of all")
    assert {"invoice", "macaroon", "paymentHash", "x402", "cashu", "balance"} <= set(challenge.json())
    assert sum(len(name) + len(value) + 4 for name, value in challenge.headers.multi_items()) < 8192
    with wallet_server(market.wallet.pay) as lightning:
        told = node("pay-l402.mjs", market.url + CHAT, body("of all, by Alby"), WALLET_URL=lightning)
    assert (told["status"], len(told["invoices"])) == (200, 1)
    key = "0x" + base_chain.payer.key.hex()
    signed = node("pay-x402.mjs", market.url + CHAT, body("of all, by @x402/fetch"), EVM_KEY=key)
    assert (signed["status"], signed["receipt"]["success"]) == (200, True)
    async with x402HttpxClient(dollars(base_chain.payer), timeout=20) as http:
        assert (await http.post(market.url + CHAT, json=body("of all, by x402"))).status_code == 200
    assert ask(market, purse.send(64), "of all, by nutshell").status_code == 200
