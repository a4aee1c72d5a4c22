"""A transfer made before the request buys one answer of a whole proxy, and what it cannot buy comes back."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from eth_account.messages import encode_defunct

from tests.peers.chain import NETWORK, Chain, chain
from tests.support.paid import CHAT, PaidWorld, body, paid_world


@pytest.fixture(scope="module")
def payers() -> Iterator[Chain]:
    with chain() as own:
        own.mint(own.payer.address, 10_000_000)
        yield own


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, payers: Chain) -> Iterator[PaidWorld]:
    x402 = {
        "pay_to": payers.pay_to,
        "rpc": {NETWORK: payers.url},
        "signer_key": "0x" + payers.signer.key.hex(),
        "transfers": True,
        "development": True,
    }
    with paid_world(tmp_path_factory.mktemp("transfers"), payments={"x402": x402}) as made:
        yield made
        made.world.gateway.cli("ledger", "audit")


def offered(client: httpx.Client, asked: dict[str, Any]) -> dict[str, Any]:
    """What the 402 says of transfers."""
    challenge = client.post(CHAT, json=asked)
    assert challenge.status_code == 402
    return dict(challenge.json()["transfer"])


def header(payers: Chain, transaction: str, text: str, **members: str) -> dict[str, str]:
    signature = payers.payer.sign_message(encode_defunct(text=text)).signature
    sent = {"txHash": transaction, "from": payers.payer.address, "signature": "0x" + signature.hex()} | members
    return {"x-payment": base64.b64encode(json.dumps(sent).encode()).decode()}


def test_transfer_buys_one_answer(shop: PaidWorld, payers: Chain) -> None:
    """Paid, proven, served; shown again it gives the same answer, and another request nothing."""
    asked = body("pay first")
    with shop.client() as client:
        offer = offered(client, asked)
        transaction = payers.transfer(payers.payer, offer["payTo"], int(offer["amount"]))
        paid = header(payers, transaction, offer["sign"].replace("{txHash}", transaction))
        calls = len(shop.world.provider.requests)
        answer = client.post(CHAT, json=asked, headers=paid)
        assert answer.status_code == 200, answer.text
        assert json.loads(base64.b64decode(answer.headers["x-payment-response"]))["transaction"] == transaction
        again = client.post(CHAT, json=asked, headers=paid)
        assert (again.status_code, again.content) == (200, answer.content)
        assert client.post(CHAT, json=body("something else"), headers=paid).status_code == 401
        assert len(shop.world.provider.requests) == calls + 1


def test_text_can_be_written_without_a_402(shop: PaidWorld, payers: Chain) -> None:
    """The digest is SHA-256 of method, path and the very bytes of the body."""
    raw = json.dumps(body("I know the price")).encode()
    with shop.client() as client:
        offer = offered(client, body("I know the price"))
        transaction = payers.transfer(payers.payer, payers.pay_to, int(offer["amount"]))
        digest = hashlib.sha256(b"POST " + CHAT.encode() + b"\n" + raw).hexdigest()
        text = (
            f"This transfer pays for one request.\nhost: {httpx.URL(shop.url).netloc.decode()}\nrequest: POST {CHAT}\n"
            f"digest: {digest}\nnetwork: {NETWORK}\ntransaction: {transaction}"
        )
        headers = {**header(payers, transaction, text), "content-type": "application/json"}
        answer = client.post(CHAT, content=raw, headers=headers)
    assert answer.status_code == 200, answer.text


def test_transfer_that_is_worth_too_little_is_kept(shop: PaidWorld, payers: Chain) -> None:
    """Neither served nor lost nor asked for again: unknown, until the reconciler makes it refundable."""
    asked = body("a penny short")
    with shop.client() as client:
        offer, calls = offered(client, asked), len(shop.world.provider.requests)
        transaction = payers.transfer(payers.payer, offer["payTo"], int(offer["amount"]) - 1)
        text = offer["sign"].replace("{txHash}", transaction)
        for url, members in ((CHAT, {}), (CHAT, {}), ("/v1/payments/refund", {"message": text})):
            short = client.post(url, json=asked, headers=header(payers, transaction, text, **members))
            assert (short.status_code, short.json()["error"]["code"]) == (503, "payment_unknown")
        assert len(shop.world.provider.requests) == calls
