"""Balances, refunds and what payers may ask, through a whole proxy: bought, spent, topped up, given back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.peers.behaviour import Behaviour, Fault
from tests.support.paid import CHAT, PaidWorld, body, paid_world

FLOOR = 21


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaidWorld]:
    with paid_world(tmp_path_factory.mktemp("balances") / "proxy") as running:
        yield running


def balance(shop: PaidWorld, content: dict[str, Any], token: str | None = None) -> httpx.Response:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return httpx.post(f"{shop.url}/v1/balance", json=content, headers=headers, timeout=20)


def buy(shop: PaidWorld, sats: int) -> str:
    offer = balance(shop, {"sats": sats})
    assert offer.status_code == 402, offer.text
    told = offer.json()
    shop.wallet.pay(told["invoice"])
    polled = balance(shop, {"payment_hash": told["payment_hash"], "poll_secret": told["poll_secret"]})
    assert polled.json()["paid"] is True, polled.text
    return str(polled.json()["token"])


def status(shop: PaidWorld, token: str) -> dict[str, Any]:
    answer = balance(shop, {"action": "status"}, token)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ask(shop: PaidWorld, token: str, **changes: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {token}"}
    return httpx.post(f"{shop.url}{CHAT}", json=body(**changes), headers=headers, timeout=20)


def test_a_balance_is_an_api_key(shop: PaidWorld) -> None:
    """OpenAI's own SDK, streamed and not: each answer takes what it used, the floor at least."""
    token = buy(shop, 1000)
    client = openai.OpenAI(api_key=token, base_url=f"{shop.url}/v1", max_retries=0)
    messages: Any = [{"role": "user", "content": "Say hello."}]
    whole = client.chat.completions.create(model="gpt-4o", messages=messages, max_tokens=50)
    assert whole.choices[0].message.content
    with client.chat.completions.create(model="gpt-4o", messages=messages, max_tokens=50, stream=True) as stream:
        assert list(stream)
    stands = status(shop, token)
    assert (stands["requests"], stands["total_spent"]) == (2, 2 * FLOOR)
    assert stands["sats"] == 1000 - 2 * FLOOR
    assert token not in shop.world.gateway.log()


def test_requests_at_once_never_overdraw_a_balance(shop: PaidWorld) -> None:
    """Two fit; the others are told that it is too little, and what was served was paid for."""
    token = buy(shop, 100)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda number: ask(shop, token, text=f"{number}"), range(12)))
    served = sum(answer.status_code == 200 for answer in answers)
    refused = [answer for answer in answers if answer.status_code != 200]
    assert {answer.json()["error"]["code"] for answer in refused} == {"insufficient_balance"}
    stands = status(shop, token)
    assert (stands["requests"], stands["total_spent"]) == (served, served * FLOOR)
    assert 1 <= served <= 100 // FLOOR


def test_a_request_that_is_not_served_takes_nothing(shop: PaidWorld) -> None:
    """What was held is there again."""
    token = buy(shop, 100)
    assert ask(shop, token, model="dead-end").status_code >= 500
    assert status(shop, token) | {"expires_at": ""} == {
        "sats": 100, "total_spent": 0, "requests": 0, "unit": "msat", "expires_at": "",
    }  # fmt: skip
    assert ask(shop, token, max_tokens=16_000).json()["error"]["code"] == "insufficient_balance"


def test_an_unknown_token_is_401_and_never_a_402(shop: PaidWorld) -> None:
    """Whoever believes to have paid must not be asked to pay again."""
    for token in ("bal_", "bal_" + "A" * 43):
        answer = ask(shop, token)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_balance")


def test_a_payment_whose_upstream_failed_is_refunded_and_spent(shop: PaidWorld) -> None:
    """The failed request leaves it; the refund puts all of it on a balance, which pays for the next one."""
    with shop.client() as client:
        challenge = client.post(CHAT, json=body(model="dead-end"))
        assert challenge.status_code == 402
        credential = {"authorization": shop.l402(challenge)}
        failed = client.post(CHAT, json=body(model="dead-end"), headers=credential)
        assert failed.status_code >= 500
        looked = client.get(f"/v1/payments/{failed.headers['x-payment-id']}", headers=credential)
        assert (looked.status_code, looked.json()["state"]) == (200, "settled")
        refunds = [client.post("/v1/payments/refund", headers=credential) for _ in range(2)]
        assert refunds[0].status_code == 200, refunds[0].text
        assert refunds[0].json() == refunds[1].json()
        assert refunds[0].json()["sats"] == challenge.json()["price"]
        again = client.post(CHAT, json=body(model="dead-end"), headers=credential)
        assert again.status_code == 401
    token = refunds[0].json()["token"]
    assert ask(shop, token, max_tokens=1).status_code == 200


def test_a_paid_answer_is_not_refunded(shop: PaidWorld) -> None:
    """It has bought something."""
    with shop.client() as client:
        credential = {"authorization": shop.l402(client.post(CHAT, json=body()))}
        served = client.post(CHAT, json=body(), headers=credential)
        assert served.status_code == 200
        refund = client.post("/v1/payments/refund", headers=credential)
        assert (refund.status_code, refund.json()["error"]["code"]) == (409, "payment_spent")
        looked = client.get(f"/v1/payments/{served.headers['x-payment-id']}", headers=credential).json()
        assert (looked["state"], looked["captured"]) == ("burnt", looked["amount"])


def test_an_estimate_is_the_price_of_the_402(shop: PaidWorld) -> None:
    """Small and long, beyond what other endpoints take."""
    with shop.client() as client:
        for asked in (body(), body("word " * 8000, max_tokens=2000), body(n=3, max_tokens=4000)):
            estimate = client.post("/v1/estimate-cost", json=asked)
            assert estimate.status_code == 200, estimate.text
            assert estimate.json()["costSats"] == client.post(CHAT, json=asked).json()["price"]
            assert estimate.json()["estimatedOutputTokens"] == asked["max_tokens"] * asked.get("n", 1)
        too_long = client.post("/v1/estimate-cost", json={"prompt": "x" * (1 << 20), "model": "gpt-4o"})
        assert too_long.status_code == 413


def test_what_is_sold_is_told(shop: PaidWorld) -> None:
    """And every path that is told is there."""
    with shop.client() as client:
        found = client.get("/.well-known/l402").json()
        assert {"l402", "mpp", "balance"} <= set(found["rails"])
        for endpoint in found["endpoints"]:
            path = endpoint["path"].replace("{model}", "gpt-4o").replace("{id}", "pay_1")
            answer = client.request(endpoint["method"], path)
            assert answer.status_code not in (404, 405), endpoint
        status_of = client.post("/api/invoice/status", json={"payment_hash": "0" * 64, "macaroon": "AgEH"})
        assert status_of.json()["error"]["code"] == "invalid_payment"


def test_balances_survive_a_crash(tmp_path: Path) -> None:
    """kill -9 after the invoice was paid, and again after it was funded: the same token, the same amount; a request
    whose answer was under way has paid its input at least, and never more than was held.
    """
    with paid_world(tmp_path / "proxy") as shop:
        told = balance(shop, {"sats": 1000}).json()
        poll = {"payment_hash": told["payment_hash"], "poll_secret": told["poll_secret"]}
        shop.wallet.pay(told["invoice"])
        shop.world.gateway.kill()
        shop.world.gateway.start()
        token = balance(shop, poll).json()["token"]
        assert status(shop, token)["sats"] == 1000
        shop.world.provider.script(Behaviour(fault=Fault.HANG_BEFORE_HEAD))
        with ThreadPoolExecutor(1) as pool:
            under_way = pool.submit(ask, shop, token)
            while not shop.world.provider.requests:
                time.sleep(0.01)
            shop.world.gateway.kill()
            assert under_way.exception() is not None
        shop.world.gateway.start()
        assert balance(shop, poll).json()["token"] == token
        assert 1000 - FLOOR - 1 <= status(shop, token)["sats"] <= 1000
        audit = shop.world.gateway.cli("ledger", "audit", check=False)
        assert audit.returncode == 0, audit.stdout + audit.stderr
