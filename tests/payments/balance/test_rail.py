"""Balances as a way to pay: what is seen before anything is held."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plugins.balance.plugin import BalancePlugin
from proxy.errors import Refusal
from proxy.ledger.api import HoldRequest
from proxy.ledger.payment_api import BalanceExceeded, Unit
from proxy.payments.api import Ask, Credential, Declined, Presented, Price
from proxy.payments.balance.rail import BalanceRail
from proxy.payments.balance.refusals import short
from proxy.payments.settings import Payments
from proxy.pricing.money import Nano
from tests.support.shop import Shop, digest

NANO_PER_BTC = 68_000 * 10**9
PRICE = Price(
    usd=Nano(68_000_000),
    input_usd=Nano(6_800_000),
    msat=100_000,
    input_tokens=8,
    input_chars=40,
    input_items=0,
    output_tokens=50,
    max_tokens=50,
    rates_digest="r",
    nano_per_btc=NANO_PER_BTC,
)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    made = Shop(tmp_path)
    made.open(BalancePlugin)
    yield made
    await made.close()


def rail_of(shop: Shop) -> BalanceRail:
    rail = shop.rails.taking(Credential.BALANCE)
    assert isinstance(rail, BalanceRail)
    return rail


def ask(shop: Shop, **changes: Any) -> Ask:
    price = replace(PRICE, **changes)
    path = "/v1/chat/completions"
    return Ask(
        "POST", path, f"https://x{path}", "chat.completions", "gpt-4o", True, price, "d" * 64, "c", shop.clock.now_ms()
    )


def presented(token: str) -> Presented:
    return Presented(Credential.BALANCE, token, "digest")


async def refused(shop: Shop, token: str, **changes: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await rail_of(shop).check(presented(token), ask(shop, **changes))
    assert token not in str(caught.value)
    return caught.value


async def usdc(shop: Shop, sats: int = 1000) -> str:
    answer = await shop.balance({"sats": sats}, x402=f"{sats * 680}/n")
    return str(json.loads(answer.body)["token"])


async def test_a_tender_is_the_price_in_the_balances_own_unit(shop: Shop) -> None:
    """With the part that is input; the token itself goes nowhere, its digest does."""
    token = (await shop.buy(1000))["token"]
    tender = await rail_of(shop).check(presented(token), ask(shop))
    assert (tender.unit, tender.amount, tender.input_amount) == (Unit.MSAT, 100_000, 10_000)
    assert (tender.balance, tender.proof, tender.request_digest) == (digest(token), None, "d" * 64)
    dollars = await rail_of(shop).check(presented(await usdc(shop)), ask(shop))
    assert (dollars.unit, dollars.amount, dollars.input_amount) == (Unit.USDC, 68_000, 6_800)


async def test_a_small_price_is_the_floor(shop: Shop) -> None:
    """21 sats, or a tenth of a cent; the input's part is what it is, never more than the whole."""
    token = (await shop.buy(1000))["token"]
    small = {"usd": Nano(10), "input_usd": Nano(10), "msat": 1}
    tender = await rail_of(shop).check(presented(token), ask(shop, **small))
    assert (tender.amount, tender.input_amount) == (21_000, 1)
    tender = await rail_of(shop).check(presented(await usdc(shop)), ask(shop, **small))
    assert (tender.amount, tender.input_amount) == (1000, 1)


@pytest.mark.parametrize("token", ["bal_", "bal_x", "bal_" + "A" * 43, "bal_" + "A" * 200])
async def test_what_is_no_balance_is_401(shop: Shop, token: str) -> None:
    """Malformed and unknown alike."""
    assert (await refused(shop, token)).code == "invalid_balance"


async def test_an_ended_balance_is_401(shop: Shop) -> None:
    """To the millisecond; one that was seen before is judged by its hold."""
    token = (await shop.buy(1000))["token"]
    shop.clock.ms += 30 * 86_400_000 - 1
    await BalanceRail(shop.settings, shop.ledger).check(presented(token), ask(shop))
    shop.clock.ms += 1
    assert (await refused(shop, token)).code == "invalid_balance"


async def test_a_known_balance_is_not_looked_up_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its unit never changes, and the hold judges all the rest."""
    token = (await shop.buy(1000))["token"]
    first = await rail_of(shop).check(presented(token), ask(shop))

    async def looked(_: bytes) -> None:
        raise AssertionError("the ledger was asked")

    monkeypatch.setattr(shop.ledger, "balance", looked)
    assert await rail_of(shop).check(presented(token), ask(shop)) == first


async def test_too_little_is_402_and_says_what_to_do(shop: Shop) -> None:
    """What is left, what is needed, where to top up."""
    token = (await shop.buy(100))["token"]
    refusal = await refused(shop, token, msat=100_001)
    assert (refusal.status, refusal.code) == (402, "insufficient_balance")
    assert "100 sats left" in refusal.message
    assert "101 sats" in refusal.message
    assert "/v1/balance" in refusal.message
    assert refusal.details is not None
    assert refusal.details["balance"] == {"unit": "msat", "left": 100_000, "needed": 100_001, "held": 0}
    await rail_of(shop).check(presented(token), ask(shop, msat=100_000))


async def test_without_a_price_of_bitcoin_a_balance_of_sats_waits_and_one_of_dollars_pays(shop: Shop) -> None:
    """Nothing is priced by a guess."""
    token, dollars = (await shop.buy(1000))["token"], await usdc(shop)
    refusal = await refused(shop, token, msat=None, nano_per_btc=None)
    assert (refusal.code, refusal.status) == ("payment_unavailable", 503)
    assert refusal.retry_after_seconds
    tender = await rail_of(shop).check(presented(dollars), ask(shop, msat=None, nano_per_btc=None))
    assert tender.amount == 68_000


async def test_holds_at_once_never_exceed_the_balance(shop: Shop) -> None:
    """What `check` saw is checked again with the hold: the second of two that fit alone is refused in its words."""
    token = (await shop.buy(150))["token"]
    tender = await rail_of(shop).check(presented(token), ask(shop))

    def request(name: str) -> HoldRequest:
        return HoldRequest(name, "k", "u", "t", "o", "m", "op", Nano(1), None, (), shop.clock.now_ms(), tender=tender)

    hold = await shop.ledger.hold(request("one"))
    with pytest.raises(BalanceExceeded) as caught:
        await shop.ledger.hold(request("two"))
    refusal = short(caught.value.state, tender.amount, shop.settings)
    assert refusal.code == "insufficient_balance"
    assert "50 sats left" in refusal.message
    shop.ledger.release(hold, reason="test", at_ms=shop.clock.now_ms())


def test_a_balance_that_is_gone_by_the_hold_is_401() -> None:
    """None, or one with enough on it that was refused: it has ended."""
    assert short(None, 5, Payments()).code == "invalid_balance"


async def test_the_offer_is_a_hint_in_the_body(shop: Shop) -> None:
    """No header: no client takes it for a challenge."""
    offer = rail_of(shop).offer(ask(shop), None)
    assert offer is not None
    assert offer.headers == ()
    assert offer.members == {"balance": {"url": "/v1/balance", "min_sats": 100, "max_sats": 50_000}}
    assert BalanceRail(Payments(), shop.ledger).offer(ask(shop), None) is None


async def test_a_balance_is_no_single_payment(shop: Shop) -> None:
    """There is nothing to show, settle or ask about."""
    rail, nobody = rail_of(shop), Any
    with pytest.raises(Refusal, match="payment_not_accepted"):
        await rail.shown(presented("bal_" + "A" * 43))
    lease: Any = nobody
    assert isinstance(await rail.settle(lease, ask(shop)), Declined)
    assert isinstance(await rail.reconcile(lease), Declined)
    error: Any = nobody
    assert rail.taken(error).code == "payment_not_accepted"
