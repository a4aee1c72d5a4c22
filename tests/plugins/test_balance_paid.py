"""POST /v1/balance with a payment beside it: taken once, whoever leaves, whoever copies it, whatever fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from plugins.balance.plugin import BalancePlugin
from proxy.errors import Refusal
from proxy.ledger.payment_api import Receipt
from proxy.ledger.payment_states import PaymentState
from proxy.payments.api import Declined, Doubtful
from proxy.payments.tokens import is_token
from tests.support.shop import Shop, code, told

SATS_1000_USDC = "680000"
"""What 1000 sats are worth at 68,000 dollars a bitcoin."""


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    made = Shop(tmp_path)
    made.open(BalancePlugin)
    yield made
    await made.close()


# -- a payment that comes along


async def test_an_x402_payment_buys_at_once(shop: Shop) -> None:
    """A balance of dollars: settled once, its value there, its rail's headers on the answer."""
    answer = await shop.balance({"sats": 1000}, x402=f"{SATS_1000_USDC}/n1")
    paid = told(answer)
    assert (paid["paid"], paid["sats"]) == (True, 1000)
    assert answer.headers["x-served"].startswith("pay_")
    assert paid["balance"] == {
        "sats": 1000,
        "usd": "0.68",
        "expires_at": paid["expires_at"],
        "total_spent": 0,
        "total_spent_usd": "0.00",
        "requests": 0,
        "unit": "usdc",
    }
    assert shop.x402.settled == ["n1"]


async def test_ecash_buys_at_once(shop: Shop) -> None:
    """A balance of sats; shown again, the same token."""
    first = told(await shop.balance({"sats": 1000}, cashu="1000000/t1"))
    assert first["balance"]["unit"] == "msat"
    assert told(await shop.balance({"sats": 1000}, cashu="1000000/t1"))["token"] == first["token"]
    assert shop.cashu.settled == ["t1"]


async def test_a_payment_shown_again_gives_the_same_token_to_its_payer_alone(shop: Shop) -> None:
    """An x402 payment is public once it paid: a copy of it is told nothing, the payer's claim the token."""
    token = told(await shop.balance({"sats": 1000}, x402=f"{SATS_1000_USDC}/n1"))["token"]
    copied = await shop.balance({"sats": 1000}, x402=f"{SATS_1000_USDC}/n1")
    assert code(copied) == (401, "invalid_payment")
    assert token.encode() not in copied.body
    claimed = told(await shop.balance({"sats": 1000}, x402=f"{SATS_1000_USDC}/n1/claim"))
    assert claimed["token"] == token
    assert shop.x402.settled == ["n1"]


async def test_twenty_showings_at_once_settle_once_and_tell_one_token(shop: Shop) -> None:
    """The others are told that it is under way: one of them may be a copy."""
    shop.x402.gate = asyncio.Event()
    asked = [asyncio.ensure_future(shop.balance({"sats": 1000}, x402=f"{SATS_1000_USDC}/n1")) for _ in range(20)]
    while sum(one.done() for one in asked) < 19:
        await asyncio.sleep(0.001)
    shop.x402.gate.set()
    answers = await asyncio.gather(*asked)
    assert sorted(answer.status for answer in answers) == [200] + [409] * 19
    assert shop.x402.settled == ["n1"]


async def test_a_payer_that_leaves_has_its_balance(shop: Shop) -> None:
    """The settlement goes on, and the money is on the balance that the payment names."""
    shop.x402.gate = asyncio.Event()
    task = asyncio.ensure_future(shop.balance({"sats": 1000}, x402=f"{SATS_1000_USDC}/n1"))
    while not shop.x402.settled:
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    shop.x402.gate.set()
    while (payment := await shop.ledger.payment("x402", "n1")) is None or payment.state is not PaymentState.BURNT:
        await asyncio.sleep(0.001)
    assert is_token(told(await shop.balance({"sats": 1000}, x402=f"{SATS_1000_USDC}/n1/claim"))["token"])


async def test_a_doubtful_settlement_is_503_and_never_settled_twice(shop: Shop) -> None:
    """With the id and when to ask again; once it is known, its payer gets the balance without another settlement."""
    shop.x402.outcomes = [Doubtful("timeout")]
    answer = await shop.balance({"sats": 1000}, x402=f"{SATS_1000_USDC}/n1")
    assert code(answer) == (503, "payment_unknown")
    assert int(answer.headers["retry-after"]) > 0
    assert b"pay_" in answer.body
    again = await shop.balance({"sats": 1000}, x402=f"{SATS_1000_USDC}/n1")
    assert again.status == 409
    shop.clock.advance(60)
    (lease,) = await shop.ledger.unknown_payments(count_max=8, idle_ms=0)
    await shop.ledger.payment_settled(lease, Receipt(680_000))
    copied = await shop.balance({"sats": 1000}, x402=f"{SATS_1000_USDC}/n1")
    assert code(copied) == (401, "invalid_payment")
    assert is_token(told(await shop.balance({"sats": 1000}, x402=f"{SATS_1000_USDC}/n1/claim"))["token"])
    assert shop.x402.settled == ["n1"]


@pytest.mark.parametrize("final", [True, False])
async def test_a_declined_settlement_is_its_rails_own_refusal(shop: Shop, final: bool) -> None:
    """Nothing was taken; where it is not final the same payment may be tried again."""
    refusal = Refusal("x402_settlement_failed", "No money.")
    shop.x402.outcomes = [Declined(refusal, "no money", final)]
    body, value = {"sats": 1000}, f"{SATS_1000_USDC}/n1"
    assert code(await shop.balance(body, x402=value)) == (402, "x402_settlement_failed")
    second = await shop.balance(body, x402=value)
    assert second.status == (409 if final else 200)


async def test_a_payment_tops_up_the_balance_beside_it(shop: Shop) -> None:
    """Of the same currency; shown again with the token no claim is needed."""
    token = told(await shop.balance({"sats": 1000}, x402=f"{SATS_1000_USDC}/n1"))["token"]
    for _ in range(2):
        topped = told(await shop.balance({"sats": 500}, x402="340000/n2", token=token))
        assert (topped["token"], topped["balance"]["usd"]) == (token, "1.02")
    assert shop.x402.settled == ["n1", "n2"]


async def test_another_currency_is_refused_before_anything_is_taken(shop: Shop) -> None:
    """Sats are not put on dollars, nor the other way round."""
    sats = (await shop.buy(1000))["token"]
    usd = told(await shop.balance({"sats": 1000}, x402=f"{SATS_1000_USDC}/n1"))["token"]
    for token, payment in ((sats, {"x402": "680000/n2"}), (usd, {"cashu": "1000000/t1"})):
        assert code(await shop.balance({"sats": 1000}, token=token, **payment)) == (400, "payment_not_accepted")
    offer = told(await shop.balance({"sats": 1000}, token=usd), 402)
    assert "invoice" not in offer
    assert set(offer) == {"sats", "expires_in", "x402"}
    assert shop.x402.settled == ["n1"]
    assert shop.cashu.settled == []


async def test_a_payment_that_is_on_another_balance_buys_none(shop: Shop) -> None:
    """It says so, and tells no token."""
    token = (await shop.buy(1000))["token"]
    told(await shop.balance({"sats": 1000}, cashu="1000000/t1", token=token))
    for other in (None, (await shop.buy(100))["token"]):
        assert code(await shop.balance({"sats": 1000}, cashu="1000000/t1", token=other)) == (409, "payment_spent")
    assert shop.cashu.settled == ["t1"]


async def test_a_ledger_that_cannot_write_leaves_the_payment_with_its_payer(shop: Shop) -> None:
    """It is freed, and buys the balance when it is shown again."""
    fund, shop.ledger.fund = shop.ledger.fund, _overloaded  # type: ignore[method-assign]
    assert code(await shop.balance({"sats": 1000}, x402=f"{SATS_1000_USDC}/n1")) == (503, "overloaded")
    shop.ledger.fund = fund  # type: ignore[method-assign]
    await shop.ledger.flush()
    assert is_token(told(await shop.balance({"sats": 1000}, x402=f"{SATS_1000_USDC}/n1/claim"))["token"])
    assert shop.x402.settled == ["n1"]


async def _overloaded(*_: Any) -> Any:
    raise Refusal("overloaded", "The ledger cannot write.", retry_after_seconds=1)
