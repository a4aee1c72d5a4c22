"""The plainest clients pay: curl, step by step, and a page in a browser."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import time
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.peers.chain import NETWORK, USDC, Chain
from tests.support.paid import CHAT, PaidWorld, body
from tests.support.paid_clients import TEXT, said
from tests.support.x402 import Payload

ORIGIN = "https://app.example"
PAYMENT_HEADERS = (
    "X-Route-Model", "X-Route-Category", "Payment-Required", "WWW-Authenticate", "X-Cashu-Change", "X-Dedup",
    "X-Cashu-Consumed", "PAYMENT-RESPONSE", "X-Payment-Id", "Payment-Receipt", "Retry-After", "x-tollway-request-id",
)  # fmt: skip


@dataclass
class Told:
    """An answer as `curl -D-` writes it."""

    status: int
    fields: list[tuple[str, str]]
    text: str

    def values(self, name: str) -> list[str]:
        """Of every field of that name, in their order."""
        return [value for key, value in self.fields if key.lower() == name]


def curl(url: str, asked: dict[str, Any], *headers: str, options: tuple[str, ...] = ()) -> Told:
    """`curl -s -D- -X POST URL -H 'Content-Type: application/json' -d BODY`."""
    named = [part for header in ("Content-Type: application/json", *headers) for part in ("-H", header)]
    command = ["curl", "-s", "-D-", "--max-time", "20", *options, "-X", "POST", url, *named, "-d", json.dumps(asked)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert run.returncode == 0, run.stderr
    head, _, text = run.stdout.replace("\r\n", "\n").partition("\n\n")
    first, *lines = head.split("\n")
    fields = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return Told(int(first.split()[1]), fields, text)


@pytest.mark.needs("curl")
def test_curl_is_told_the_price_in_every_way(shop: PaidWorld, base_chain: Chain) -> None:
    """Body and header fields as documented, L402 first."""
    told = curl(shop.url + CHAT, body("Say hello."))
    assert told.status == 402
    assert told.values("cache-control") == ["no-store"]
    lightning, mpp = told.values("www-authenticate")
    found = re.fullmatch(
        r'L402 macaroon="([A-Za-z0-9+/]+=*)", invoice="(lnbcrt[a-z0-9]+)", version="0", token="([^"]+)"', lightning
    )
    assert found is not None and found[1] == found[3]
    assert mpp.startswith('Payment id="')
    page = json.loads(told.text)
    assert (page["error"], page["model"], page["max_tokens"]) == ("Payment Required", "gpt-4o", 50)
    assert {type(page[name]) for name in ("description", "provider")} == {str}
    assert (page["price"], page["estimated_input_tokens"] > 0) == (21, True)
    assert (page["macaroon"], page["invoice"]) == (found[1], found[2])
    assert re.fullmatch(r"[0-9a-f]{64}", page["paymentHash"])
    assert page["x402"] == {
        "price_usd": "0.001000", "network": NETWORK, "address": base_chain.pay_to, "asset": USDC, "scheme": "exact",
    }  # fmt: skip
    (header,) = told.values("payment-required")
    assert "," not in header and len(header) <= 8192
    envelope = json.loads(base64.b64decode(header))
    (offer,) = envelope["accepts"]
    assert (envelope["x402Version"], envelope["resource"]["mimeType"]) == (2, "application/json")
    assert envelope["resource"]["url"].endswith(CHAT)
    assert (offer["scheme"], offer["network"], offer["amount"], offer["asset"]) == ("exact", NETWORK, "1000", USDC)
    assert (offer["payTo"], offer["maxTimeoutSeconds"]) == (base_chain.pay_to, 120)
    assert offer["extra"] == {"name": "USD Coin", "version": "2"}


@pytest.mark.needs("curl")
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_curl_pays_an_invoice(shop: PaidWorld, stream: bool) -> None:
    """The very request again, with macaroon and preimage; the model may stand in the path."""
    for path, model in ((CHAT, {"model": "gpt-4o"}), (f"{CHAT}/gpt-4o", {})):
        asked = {**body(f"by curl to {path}", stream=stream), **model}
        if not model:
            del asked["model"]
        page = json.loads(curl(shop.url + path, asked).text)
        paid = f"Authorization: L402 {page['macaroon']}:{shop.wallet.pay(page['invoice'])}"
        told = curl(shop.url + path, asked, paid, options=("-N",))
        assert (told.status, said(told.text)) == (200, TEXT)
        assert told.values("cache-control") == ["no-store"]
        assert re.fullmatch(r"pay_[0-9a-f]{32}", *told.values("x-payment-id"))


@pytest.mark.needs("curl")
def test_curl_pays_with_a_signature(shop: PaidWorld, base_chain: Chain) -> None:
    """EIP-712 by whatever tool; the receipt names the transaction."""
    asked = body("signed for by hand")
    (header,) = curl(shop.url + CHAT, asked).values("payment-required")
    offer = json.loads(base64.b64decode(header))["accepts"][0]
    payer = base_chain.payer
    payload = Payload(
        value=offer["amount"], to=offer["payTo"], payer=payer.address, signer=payer, nonce=os.urandom(32),
        valid_after=int(time.time()) - 600, valid_before=int(time.time()) + 120,
    )  # fmt: skip
    before = base_chain.balance(base_chain.pay_to)
    told = curl(shop.url + CHAT, asked, f"Payment-Signature: {payload.header()}")
    assert (told.status, said(told.text)) == (200, TEXT)
    assert base_chain.balance(base_chain.pay_to) - before == int(offer["amount"])
    receipt = json.loads(base64.b64decode(*told.values("payment-response")))
    assert (receipt["success"], int(base_chain.receipt(receipt["transaction"])["status"], 16)) == (True, 1)


@pytest.mark.needs("curl")
def test_curl_is_told_of_two_payments(shop: PaidWorld) -> None:
    """Neither is taken: the one that was good still is."""
    asked = body("two payments")
    page = json.loads(curl(shop.url + CHAT, asked).text)
    paid = f"Authorization: L402 {page['macaroon']}:{shop.wallet.pay(page['invoice'])}"
    told = curl(shop.url + CHAT, asked, paid, "X-Cashu: cashuBo2FteA")
    assert (told.status, json.loads(told.text)["error"]["code"]) == (400, "ambiguous_payment")
    assert curl(shop.url + CHAT, asked, paid).status == 200


def preflight(shop: PaidWorld, path: str, *names: str) -> httpx.Response:
    with shop.client() as client:
        asked = {"origin": ORIGIN, "access-control-request-method": "POST"}
        return client.options(path, headers={**asked, "access-control-request-headers": ",".join(names)})


@pytest.mark.parametrize("path", [CHAT, "/v1/balance", "/v1/payments/refund", "/v1/messages", "/v1/embeddings"])
def test_a_page_may_send_every_payment(shop: PaidWorld, path: str) -> None:
    """The preflight is answered before anybody is asked to pay, and allows what paying takes."""
    names = ("content-type", "authorization", "payment-signature", "x-cashu", "x-payment", "x-no-cache")
    answer = preflight(shop, path, *names)
    assert answer.status_code in (200, 204)
    allowed = answer.headers["access-control-allow-headers"].lower().split(", ")
    assert set(names) <= set(allowed)
    assert answer.headers["access-control-allow-origin"] in ("*", ORIGIN)
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "www-authenticate" not in answer.headers


def test_a_page_can_read_what_paying_takes(shop: PaidWorld) -> None:
    """Of the 402, of the paid answer and of a refusal alike."""
    with shop.client(headers={"origin": ORIGIN}) as client:
        asked = body("by a page")
        challenge = client.post(CHAT, json=asked)
        paid = {"authorization": shop.l402(challenge)}
        served = client.post(CHAT, json=asked, headers=paid)
        refused = client.post(CHAT, json=body("by another page"), headers=paid)
    assert [answer.status_code for answer in (challenge, served, refused)] == [402, 200, 401]
    for answer in (challenge, served, refused):
        exposed = {name.lower() for name in answer.headers["access-control-expose-headers"].split(", ")}
        assert {name.lower() for name in PAYMENT_HEADERS} <= exposed
        assert answer.headers["access-control-allow-origin"] in ("*", ORIGIN)
