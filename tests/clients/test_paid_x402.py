"""The x402 SDK's clients pay a whole proxy in dollars of a real chain: it settles itself, or a facilitator does."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from eth_account.signers.local import LocalAccount
from x402.http import decode_payment_response_header
from x402.http.clients import x402HttpxClient
from x402.http.clients.httpx import PaymentError, x402AsyncTransport

from tests.peers.chain import NETWORK, USDC, Chain, facilitator
from tests.support.paid import CHAT, PaidWorld, body
from tests.support.paid_clients import DEAR, TEXT, dollars, node, run_node, said, shop_of

USD_MIN = 1000
"""A thousandth of a dollar, in millionths."""


@pytest.fixture(scope="module")
def facilitated(tmp_path_factory: pytest.TempPathFactory, base_chain: Chain) -> Iterator[PaidWorld]:
    """Settled by the SDK's own facilitator."""
    with facilitator(base_chain) as made:
        x402 = {"pay_to": base_chain.pay_to, "facilitator": made.url, "development": True}
        with shop_of(tmp_path_factory.mktemp("facilitated"), x402=x402) as selling:
            yield selling
            selling.world.gateway.cli("ledger", "audit")
            assert made.settled > 0


@pytest.fixture(params=["shop", "facilitated"])
def seller(request: pytest.FixtureRequest) -> PaidWorld:
    """Either way to settle."""
    found: PaidWorld = request.getfixturevalue(request.param)
    return found


def key_of(chain: Chain) -> str:
    return "0x" + chain.payer.key.hex()


def price_of(seller: PaidWorld, asked: dict[str, Any]) -> int:
    """Millionths of a dollar that are offered."""
    with seller.client() as client:
        header = client.post(CHAT, json=asked).headers["payment-required"]
    return int(json.loads(base64.b64decode(header))["accepts"][0]["amount"])


@dataclass
class Wire:
    """What goes between the SDK's client and the proxy; `first` hides what a client of version 1 would not know."""

    first: bool = False
    sent: list[httpx.Headers] = field(default_factory=list)


class WatchedTransport(httpx.AsyncHTTPTransport):
    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self.wire = wire

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.wire.sent.append(request.headers)
        answer = await super().handle_async_request(request)
        if self.wire.first:
            answer.headers.pop("payment-required", None)
        return answer


def python_client(payer: LocalAccount, **spend_controls: str) -> httpx.AsyncClient:
    """The SDK's for httpx, with the payer's key."""
    return x402HttpxClient(dollars(payer, **spend_controls), timeout=20)


def watched_client(payer: LocalAccount, wire: Wire) -> httpx.AsyncClient:
    """The same, on this wire."""
    return httpx.AsyncClient(transport=x402AsyncTransport(dollars(payer), WatchedTransport(wire)), timeout=20)


@pytest.mark.needs("node")
@pytest.mark.parametrize(
    ("seller", "stream"),
    [("shop", False), ("shop", True), ("facilitated", False)],
    indirect=["seller"],
    ids=["shop", "shop-streamed", "facilitated"],
)
def test_the_node_sdk_pays_exactly_the_price(seller: PaidWorld, base_chain: Chain, stream: bool) -> None:
    """With viem's account: 402, one signature, settled, 200. The payee has it, the receipt names the transaction."""
    asked = body(f"by @x402/fetch, streamed: {stream}", max_tokens=2000, stream=stream)
    price, before, had = price_of(seller, asked), balance(base_chain), base_chain.balance(base_chain.payer.address)
    told = node("pay-x402.mjs", seller.url + CHAT, asked, EVM_KEY=key_of(base_chain))
    assert (told["status"], said(told["body"]), told["requests"]) == (200, TEXT, 2)
    assert (price > USD_MIN, balance(base_chain) - before) == (True, price)
    assert had - base_chain.balance(base_chain.payer.address) == price
    receipt = told["receipt"]
    assert (receipt["success"], receipt["network"]) == (True, NETWORK)
    assert receipt["payer"].lower() == base_chain.payer.address.lower()
    landed = base_chain.receipt(receipt["transaction"])
    assert (int(landed["status"], 16), landed["to"].lower()) == (1, USDC.lower())


async def test_the_python_sdk_pays_exactly_the_price(seller: PaidWorld, base_chain: Chain) -> None:
    """By its httpx client; what it signed is worth nothing a second time for another request."""
    asked = body("by x402's httpx client")
    price, before, wire = price_of(seller, asked), balance(base_chain), Wire()
    async with watched_client(base_chain.payer, wire) as http:
        answer = await http.post(seller.url + CHAT, json=asked)
    assert (answer.status_code, said(answer.text)) == (200, TEXT)
    assert (price, balance(base_chain) - before) == (USD_MIN, price)
    receipt = decode_payment_response_header(answer.headers["payment-response"])
    assert (receipt.success, receipt.network, int(base_chain.receipt(receipt.transaction)["status"], 16)) == (
        True,
        NETWORK,
        1,
    )
    shown = {"payment-signature": wire.sent[-1]["payment-signature"]}
    with seller.client() as client:
        again = client.post(CHAT, json=asked, headers=shown)
        assert (again.status_code, again.text, again.headers["x-dedup"]) == (200, answer.text, "hit")
        other = client.post(CHAT, json=body("another"), headers=shown)
        assert (other.status_code, other.json()["error"]["code"]) == (402, "x402_settlement_failed")
        assert "payment-required" not in other.headers
    assert balance(base_chain) - before == price


async def test_the_python_sdk_reads_a_paid_stream(seller: PaidWorld, base_chain: Chain) -> None:
    """As it comes."""
    asked = body("streamed by x402's httpx client", stream=True)
    async with python_client(base_chain.payer) as http, http.stream("POST", seller.url + CHAT, json=asked) as answer:
        text = "".join([piece async for piece in answer.aiter_text()])
    assert (answer.status_code, said(text)) == (200, TEXT)


async def test_a_client_of_version_1_pays(seller: PaidWorld, base_chain: Chain) -> None:
    """X-PAYMENT, by the requirements in the body; the receipt comes in X-PAYMENT-RESPONSE."""
    asked = body("by version 1")
    price, before = price_of(seller, asked), balance(base_chain)
    wire = Wire(first=True)
    async with watched_client(base_chain.payer, wire) as http:
        answer = await http.post(seller.url + CHAT, json=asked)
    assert (answer.status_code, said(answer.text)) == (200, TEXT)
    shown = json.loads(base64.b64decode(wire.sent[-1]["x-payment"]))
    assert (shown["x402Version"], shown["network"], "payment-signature" in wire.sent[-1]) == (1, "base", False)
    receipt = json.loads(base64.b64decode(answer.headers["x-payment-response"]))
    assert (receipt["success"], balance(base_chain) - before) == (True, price)


@pytest.mark.needs("node")
async def test_stock_clients_sign_for_a_dollar_at_most(shop: PaidWorld, base_chain: Chain) -> None:
    """As docs/x402.md says: they refuse by themselves, and nothing is taken."""
    asked, before = body("dear", model=DEAR), balance(base_chain)
    assert price_of(shop, asked) > 1_000_000
    ran = run_node("pay-x402.mjs", shop.url + CHAT, asked, EVM_KEY=key_of(base_chain))
    assert ran.returncode != 0
    assert "spend" in ran.stderr.lower(), ran.stderr
    async with python_client(base_chain.payer) as http:
        with pytest.raises(PaymentError, match=r"max_amount_per_payment \(\$1"):
            await http.post(shop.url + CHAT, json=asked)
    assert balance(base_chain) == before


async def test_the_python_sdk_pays_more_where_it_is_told_to(shop: PaidWorld, base_chain: Chain) -> None:
    """By the very call that docs/x402.md names."""
    asked = body("dear, allowed", model=DEAR)
    price, before = price_of(shop, asked), balance(base_chain)
    async with python_client(base_chain.payer, max_amount_per_payment="$5") as http:
        answer = await http.post(shop.url + CHAT, json=asked)
    assert (answer.status_code, balance(base_chain) - before) == (200, price), answer.text


async def test_a_payer_without_dollars_is_told_so(seller: PaidWorld, base_chain: Chain) -> None:
    """402 with the reason and a fresh offer; nobody is called, nothing taken."""
    calls, before = len(seller.world.provider.requests), balance(base_chain)
    async with python_client(base_chain.other) as http:
        answer = await http.post(seller.url + CHAT, json=body("poor"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "x402_settlement_failed")
    assert "payment-required" in answer.headers
    assert (len(seller.world.provider.requests), balance(base_chain)) == (calls, before)


def balance(chain: Chain) -> int:
    return chain.balance(chain.pay_to)
