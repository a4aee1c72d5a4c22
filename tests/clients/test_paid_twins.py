"""Payers who ask twice, at a proxy with the shipped chain: one answer a payment, whoever shows it and however often."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import openai
import pytest

from tests.peers.behaviour import Behaviour
from tests.support.paid import CHAT, PaidWorld, body
from tests.support.paid_clients import TEXT, said

FLOOR = 21
SLOW = Behaviour(delay_seconds=0.05, head_delay_seconds=0.3)


def ask(shop: PaidWorld, asked: dict[str, Any], headers: dict[str, str]) -> httpx.Response:
    with shop.client() as client:
        return client.post(CHAT, json=asked, headers=headers)


def bought(shop: PaidWorld, asked: dict[str, Any]) -> dict[str, str]:
    """The headers of a paid invoice."""
    return {"authorization": shop.l402(ask(shop, asked, {}))}


def balance(shop: PaidWorld) -> dict[str, str]:
    """The headers of a balance of a thousand sats."""
    with shop.client() as client:
        told = client.post("/v1/balance", json={"sats": 1000}).json()
        shop.wallet.pay(told["invoice"])
        poll = {"payment_hash": told["payment_hash"], "poll_secret": told["poll_secret"]}
        return {"authorization": f"Bearer {client.post('/v1/balance', json=poll).json()['token']}"}


def under_way(shop: PaidWorld, pool: ThreadPoolExecutor, send: Callable[[], httpx.Response]) -> Future[httpx.Response]:
    """A request that the provider takes its time with, once it is there."""
    calls = len(shop.world.provider.requests)
    shop.world.provider.script(SLOW)
    first = pool.submit(send)
    deadline = time.monotonic() + 10
    while len(shop.world.provider.requests) == calls:
        assert time.monotonic() < deadline, first.result()
        time.sleep(0.002)
    return first


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_twin_of_a_paid_request_is_told_to_wait(shop: PaidWorld, stream: bool) -> None:
    """409 while the first is answered, and never a new price; the provider is called once."""
    asked = body(f"twins, streamed: {stream}", stream=stream)
    paid, calls = bought(shop, asked), len(shop.world.provider.requests)
    with ThreadPoolExecutor(1) as pool:
        first = under_way(shop, pool, lambda: ask(shop, asked, paid))
        twin = ask(shop, asked, paid)
        assert (twin.status_code, twin.json()["error"]["code"]) == (409, "payment_under_way"), twin.text
        assert int(twin.headers["retry-after"]) >= 1
        assert (first.result().status_code, said(first.result().text)) == (200, TEXT)
    assert len(shop.world.provider.requests) == calls + 1


def test_a_paid_whole_answer_is_given_again(shop: PaidWorld) -> None:
    """For nothing; a client that wants another one has to pay for it."""
    asked = body("again")
    paid = bought(shop, asked)
    first, calls = ask(shop, asked, paid), len(shop.world.provider.requests)
    again = ask(shop, asked, paid)
    assert (again.status_code, again.content, again.headers["x-dedup"]) == (200, first.content, "hit")
    fresh = ask(shop, asked, {**paid, "x-no-cache": "true"})
    assert (fresh.status_code, fresh.content) == (200, first.content)
    assert len(shop.world.provider.requests) == calls


def test_a_paid_stream_is_given_once(shop: PaidWorld) -> None:
    """It is not kept: who shows the payment again is told that it has bought something."""
    asked = body("streamed once", stream=True)
    paid = bought(shop, asked)
    assert ask(shop, asked, paid).status_code == 200
    calls = len(shop.world.provider.requests)
    again = ask(shop, asked, paid)
    assert (again.status_code, again.json()["error"]["code"]) == (401, "invalid_payment")
    assert "already been used" in again.json()["error"]["message"]
    assert len(shop.world.provider.requests) == calls


def test_two_who_pay_for_the_same_have_an_answer_each(shop: PaidWorld) -> None:
    """Nobody is given what another has paid for."""
    asked, calls = body("the same for two"), len(shop.world.provider.requests)
    answers = [ask(shop, asked, bought(shop, asked)) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].headers["x-payment-id"] != answers[1].headers["x-payment-id"]
    assert len(shop.world.provider.requests) == calls + 2


def test_a_balance_pays_once_for_twins_and_again_for_an_answer_of_its_own(shop: PaidWorld) -> None:
    """From memory within half a minute; X-No-Cache buys another one; another balance is another payer."""
    asked, key, other = body("twins of a balance"), balance(shop), balance(shop)
    calls = len(shop.world.provider.requests)
    seen = [ask(shop, asked, {**key, **more}) for more in ({}, {}, {"x-no-cache": "true"})]
    assert [answer.headers.get("x-dedup") for answer in seen] == ["miss", "hit", None]
    assert ask(shop, asked, other).headers["x-dedup"] == "miss"
    assert len(shop.world.provider.requests) == calls + 3
    with shop.client() as client:
        stands = [client.post("/v1/balance", json={"action": "status"}, headers=one).json() for one in (key, other)]
    assert [one["total_spent"] for one in stands] == [2 * FLOOR, FLOOR]
    assert [one["sats"] for one in stands] == [1000 - 2 * FLOOR, 1000 - FLOOR]


def test_an_sdk_is_told_of_a_twin_in_its_own_exception(shop: PaidWorld, opened: ExitStack) -> None:
    """As a conflict, which the SDKs try again by themselves: the second try has the answer."""
    asked = body("twins of an SDK")
    paid = bought(shop, asked)
    sdk = {"api_key": "unused", "base_url": shop.world.base_url, "default_headers": paid}
    strict, patient = (
        opened.enter_context(openai.OpenAI(**sdk, max_retries=tries))
        for tries in (0, 3)  # type: ignore[arg-type]
    )
    with ThreadPoolExecutor(2) as pool:
        first = under_way(shop, pool, lambda: ask(shop, asked, paid))
        second = pool.submit(patient.chat.completions.create, **asked)
        with pytest.raises(openai.ConflictError) as told:
            strict.chat.completions.create(**asked)
        assert told.value.code == "payment_under_way"
        assert second.result().choices[0].message.content == TEXT == said(first.result().text)
