"""A prepaid balance is an API key for the SDKs that everybody has; bought, topped up, looked at, spent, given back."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import ExitStack
from typing import Any

import anthropic
import httpx
import openai
import pytest
from x402.http.clients import x402HttpxClient

from tests.peers.behaviour import Behaviour
from tests.peers.chain import Chain
from tests.support.paid import CHAT, PaidWorld, body
from tests.support.paid_clients import DEAR, NODE, NODE_SECONDS_MAX, TEXT, USD_PER_BTC, dollars, gpt_4o_msat

FLOOR = 21
HELLO: Any = [{"role": "user", "content": "Say hello."}]


def balance(shop: PaidWorld, content: dict[str, Any], token: str | None = None) -> httpx.Response:
    """POST /v1/balance."""
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    with shop.client() as client:
        return client.post("/v1/balance", json=content, headers=headers)


def status(shop: PaidWorld, token: str) -> dict[str, Any]:
    """Where it stands."""
    answer = balance(shop, {"action": "status"}, token)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def paid(shop: PaidWorld, sats: int, token: str | None = None) -> dict[str, Any]:
    """Bought by invoice, or topped up; what the poll says at last."""
    offer = balance(shop, {"sats": sats}, token)
    assert offer.status_code == 402, offer.text
    told = offer.json()
    poll = {"payment_hash": told["payment_hash"], "poll_secret": told["poll_secret"]}
    assert balance(shop, poll, token).json() == {"paid": False}
    shop.wallet.pay(told["invoice"])
    return dict(balance(shop, poll, token).json())


@pytest.fixture
def token(shop: PaidWorld) -> str:
    """A thousand sats."""
    return str(paid(shop, 1000)["token"])


def openai_sdk(opened: ExitStack, shop: PaidWorld, token: str) -> openai.OpenAI:
    return opened.enter_context(openai.OpenAI(api_key=token, base_url=shop.world.base_url, max_retries=0))


def anthropic_sdk(opened: ExitStack, shop: PaidWorld, **credentials: str | None) -> anthropic.Anthropic:
    return opened.enter_context(anthropic.Anthropic(base_url=shop.url, max_retries=0, **credentials))  # type: ignore[arg-type]


def test_openais_python_sdk_spends_it(shop: PaidWorld, token: str, opened: ExitStack) -> None:
    """Chat, streamed chat, embeddings: each takes the floor at least. The provider sees the operator's key."""
    sdk = openai_sdk(opened, shop, token)
    answer = sdk.chat.completions.create(model="gpt-4o", messages=HELLO, max_tokens=50)
    assert answer.choices[0].message.content == TEXT
    assert token.encode() not in b"".join(value for _, value in shop.world.provider.requests[-1].headers)
    chunks = list(sdk.chat.completions.create(model="gpt-4o", messages=HELLO, max_tokens=50, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    vectors = sdk.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
    assert len(vectors.data) == 2
    stands = status(shop, token)
    assert (stands["requests"], stands["total_spent"], stands["sats"]) == (3, 3 * FLOOR, 1000 - 3 * FLOOR)


@pytest.mark.needs("node")
def test_openais_node_sdk_spends_it(shop: PaidWorld, token: str) -> None:
    """Whole and streamed; what is refused costs nothing."""
    environment = {"API_KEY": token, "BASE_URL": shop.world.base_url, "MODEL": "gpt-4o"}
    run = subprocess.run(
        ["node", "chat.mjs"],
        cwd=NODE,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=NODE_SECONDS_MAX,
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert (told["whole"], told["streamed"], told["refused"]["status"]) == (TEXT, TEXT, 404)
    assert (status(shop, token)["requests"], status(shop, token)["total_spent"]) == (2, 2 * FLOOR)


@pytest.mark.parametrize("kind", ["auth_token", "api_key"])
def test_anthropics_sdk_spends_it(shop: PaidWorld, token: str, opened: ExitStack, kind: str) -> None:
    """Bearer or X-API-Key, in Anthropic's own format, whole and streamed; the provider sees the operator's key."""
    sdk = anthropic_sdk(opened, shop, **{"auth_token": None, "api_key": None, kind: token})
    answer = sdk.messages.create(model="claude-sonnet", max_tokens=100, messages=HELLO)
    assert answer.content[0].text == TEXT  # type: ignore[union-attr]
    assert token.encode() not in b"".join(value for _, value in shop.world.provider.requests[-1].headers)
    with sdk.messages.stream(model="claude-sonnet", max_tokens=100, messages=HELLO) as stream:
        assert stream.get_final_text() == TEXT
    assert (status(shop, token)["requests"], status(shop, token)["total_spent"]) == (2, 2 * FLOOR)


def test_a_balance_in_x_api_key_is_a_key_of_any_format(shop: PaidWorld, token: str) -> None:
    """Where the provider's own key goes elsewhere it reaches nobody; the endpoint of balances knows it, too."""
    key = {"x-api-key": token}
    with shop.client() as client:
        assert client.post(CHAT, json=body("by X-API-Key"), headers=key).status_code == 200
        assert token.encode() not in b"".join(value for _, value in shop.world.provider.requests[-1].headers)
        stands = client.post("/v1/balance", json={"action": "status"}, headers=key)
        assert stands.json()["sats"] == 1000 - FLOOR
    assert token not in shop.world.gateway.log()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_what_is_taken_is_the_real_cost(shop: PaidWorld, token: str, opened: ExitStack, stream: bool) -> None:
    """By the tokens that the provider reports, not by what could have been used."""
    reported = {"prompt_tokens": 10, "completion_tokens": 3000, "total_tokens": 3010}
    shop.world.provider.script(Behaviour(usage=reported))
    sdk = openai_sdk(opened, shop, token)
    answer = sdk.chat.completions.create(model="gpt-4o", messages=HELLO, max_tokens=4000, stream=stream)
    if stream:
        assert list(answer)
    cost = gpt_4o_msat(10, 3000)
    assert FLOOR * 1000 < cost < gpt_4o_msat(10, 4000)
    stands = status(shop, token)
    assert (stands["sats"], stands["total_spent"]) == ((1_000_000 - cost) // 1000, -(-cost // 1000))


def test_the_sdks_exceptions_say_what_to_do(shop: PaidWorld, token: str, opened: ExitStack) -> None:
    """Too little on it, and one that is none: never a fresh invoice for who believes to have paid."""
    with pytest.raises(openai.APIStatusError) as little:
        openai_sdk(opened, shop, token).chat.completions.create(model=DEAR, messages=HELLO, max_tokens=1000)
    assert (little.value.status_code, little.value.code) == (402, "insufficient_balance")
    assert "1000 sats" in little.value.message and "/v1/balance" in little.value.message
    with pytest.raises(anthropic.APIStatusError) as theirs:
        anthropic_sdk(opened, shop, auth_token=token, api_key=None).messages.create(
            model="claude-sonnet", max_tokens=60_000, messages=HELLO, stream=True
        )
    assert theirs.value.status_code == 402
    assert "insufficient_balance" in str(theirs.value)
    with pytest.raises(openai.AuthenticationError) as unknown:
        openai_sdk(opened, shop, "bal_" + "A" * 43).chat.completions.create(model="gpt-4o", messages=HELLO)
    assert unknown.value.code == "invalid_balance"
    assert (status(shop, token)["sats"], status(shop, token)["requests"]) == (1000, 0)


def test_an_sdk_with_a_dummy_key_is_told_the_price(shop: PaidWorld, opened: ExitStack) -> None:
    """Its exception carries the offers: an agent can go on from there."""
    with pytest.raises(openai.APIStatusError) as told:
        openai_sdk(opened, shop, "unused").chat.completions.create(model="gpt-4o", messages=HELLO, max_tokens=50)
    assert told.value.status_code == 402
    assert told.value.body == "Payment Required"
    assert told.value.response.json()["invoice"].startswith("lnbcrt")
    assert told.value.response.headers["www-authenticate"].startswith("L402 ")
    with pytest.raises(anthropic.APIStatusError) as theirs:
        anthropic_sdk(opened, shop, api_key="unused").messages.create(
            model="claude-sonnet", max_tokens=50, messages=HELLO
        )
    assert (theirs.value.status_code, theirs.value.response.json()["price"]) == (402, FLOOR)


def test_a_balance_is_bought_by_invoice_and_topped_up(shop: PaidWorld) -> None:
    """Polling wants the secret: the hash alone, which every node on the way knows, gets nobody the token."""
    told = balance(shop, {"sats": 300}).json()
    assert (told["sats"], told["expires_in"], len(told["payment_hash"])) == (300, 600, 64)
    shop.wallet.pay(told["invoice"])
    for guess in ({}, {"poll_secret": "A" * 43}):
        refused = balance(shop, {"payment_hash": told["payment_hash"], **guess})
        assert refused.status_code in (400, 401, 404)
        assert "bal_" not in refused.text
    poll = {"payment_hash": told["payment_hash"], "poll_secret": told["poll_secret"]}
    bought = balance(shop, poll).json()
    assert (bought["paid"], bought["sats"], bought["token"][:4], len(bought["token"])) == (True, 300, "bal_", 47)
    assert balance(shop, poll).json()["token"] == bought["token"]
    topped = paid(shop, 200, bought["token"])
    assert (topped["paid"], topped["token"], topped["balance"]["sats"]) == (True, bought["token"], 500)
    stands = status(shop, bought["token"])
    assert (stands["sats"], stands["total_spent"], stands["requests"]) == (500, 0, 0)


async def test_a_stock_x402_client_buys_a_balance_by_itself(
    shop: PaidWorld, base_chain: Chain, opened: ExitStack
) -> None:
    """POST, 402, one signature: a balance of dollars, which is an API key, and is topped up in the same way."""
    before = base_chain.balance(base_chain.pay_to)
    async with x402HttpxClient(dollars(base_chain.payer), timeout=20) as http:
        answer = await http.post(f"{shop.url}/v1/balance", json={"sats": 500})
        assert answer.status_code == 200, answer.text
        bought = answer.json()
        worth = -(-500 * USD_PER_BTC // 100)
        assert base_chain.balance(base_chain.pay_to) - before == worth
        assert (bought["paid"], bought["sats"]) == (True, 500)
        token = bought["token"]
        stands = status(shop, token)
        assert (stands["unit"], float(stands["usd"]), stands["sats"]) == ("usdc", worth / 1_000_000, 500)
        said = openai_sdk(opened, shop, token).chat.completions.create(model="gpt-4o", messages=HELLO, max_tokens=50)
        assert said.choices[0].message.content == TEXT
        assert float(status(shop, token)["total_spent_usd"]) == 0.001
        key = {"authorization": f"Bearer {token}"}
        topped = await http.post(f"{shop.url}/v1/balance", json={"sats": 100}, headers=key)
        assert topped.status_code == 200, topped.text
        assert base_chain.balance(base_chain.pay_to) - before == worth + -(-100 * USD_PER_BTC // 100)
        after = float(status(shop, token)["usd"])
        assert after == pytest.approx((worth + 100 * USD_PER_BTC // 100) / 1_000_000 - 0.001)


def test_what_an_upstream_did_not_answer_is_refunded_to_a_balance(shop: PaidWorld, opened: ExitStack) -> None:
    """The payment is looked up by its id, given back whole, and spent as an API key."""
    with shop.client() as client:
        asked = body("unserved", model="dead-end", max_tokens=5000)
        challenge = client.post(CHAT, json=asked)
        price = challenge.json()["price"]
        proof = {"authorization": shop.l402(challenge)}
        failed = client.post(CHAT, json=asked, headers=proof)
        assert failed.status_code >= 500
        where = f"/v1/payments/{failed.headers['x-payment-id']}"
        assert client.get(where).status_code in (401, 404)
        seen = client.get(where, headers=proof).json()
        assert (seen["state"], seen["amount"], seen["held"]) == ("settled", price * 1000, price * 1000)
        assert seen["refund"] == {"method": "POST", "path": "/v1/payments/refund"}
        given = client.post("/v1/payments/refund", headers=proof)
        assert (given.status_code, given.json()["sats"], given.json()["unit"]) == (200, price, "msat")
        after = client.get(where, headers=proof).json()
        assert (after["state"], after["held"]) == ("refunded", 0)
        token = given.json()["token"]
    answer = openai_sdk(opened, shop, token).chat.completions.create(model="gpt-4o", messages=HELLO, max_tokens=50)
    assert answer.choices[0].message.content == TEXT
    assert status(shop, token)["sats"] == price - FLOOR


def test_a_paid_and_unused_invoice_is_refunded(shop: PaidWorld) -> None:
    """The payer never sent the request."""
    with shop.client() as client:
        challenge = client.post(CHAT, json=body("never sent"))
        proof = {"authorization": shop.l402(challenge)}
        given = client.post("/v1/payments/refund", headers=proof)
        assert (given.status_code, given.json()["sats"]) == (200, FLOOR), given.text
        late = client.post(CHAT, json=body("never sent"), headers=proof)
        assert (late.status_code, late.json()["error"]["code"]) == (401, "invalid_payment")


def test_a_wallet_that_tells_no_preimage_asks_for_it(shop: PaidWorld) -> None:
    """POST /api/invoice/status with the macaroon."""
    with shop.client() as client:
        told = client.post(CHAT, json=body("no preimage")).json()
        asked = {"payment_hash": told["paymentHash"], "macaroon": told["macaroon"]}
        assert client.post("/api/invoice/status", json=asked).json() == {"paid": False}
        preimage = shop.wallet.pay(told["invoice"])
        assert client.post("/api/invoice/status", json=asked).json() == {"paid": True, "preimage": preimage}
