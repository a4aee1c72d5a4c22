"""POST /v1/balance, asked in process over a real ledger and the dev Lightning node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plugins.balance.plugin import BalancePlugin
from proxy.errors import Refusal
from proxy.ledger.payment_api import Receipt
from proxy.ledger.payment_states import PaymentState
from proxy.payments.api import Declined, Doubtful, Settled
from proxy.payments.keys import DerivedKeys
from proxy.payments.settings import Balance
from proxy.payments.tokens import is_token
from tests.support.shop import Shop, code, digest, poll_of, told

DAY = 86_400.0
SATS_1000_USDC = "680000"
"""What 1000 sats are worth at 68,000 dollars a bitcoin."""


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    made = Shop(tmp_path)
    made.open(BalancePlugin)
    yield made
    await made.close()


async def open_shop(folder: Path, **changes: Any) -> Shop:
    folder.mkdir()
    made = Shop(folder, **changes)
    made.open(BalancePlugin)
    return made


# -- bought over Lightning


async def test_an_offer_is_a_402_with_an_invoice_and_every_rail(shop: Shop) -> None:
    """The seed's members, the secret that polling wants, and what the other rails offer for the same."""
    answer = await shop.balance({"sats": 1000})
    offer = told(answer, 402)
    assert {"payment_hash", "invoice", "sats", "expires_in", "poll_secret"} <= set(offer)
    assert (offer["sats"], offer["expires_in"]) == (1000, 600)
    assert offer["invoice"].startswith("lnbcrt10u")
    assert offer["x402"] == {"price": 680_000}
    assert offer["cashu"] == {"price": 1_000_000}
    assert answer.headers["x-offer-x402"] == "680000"
    assert answer.headers["cache-control"] == "no-store"


async def test_a_paid_invoice_gives_the_token_to_who_has_the_secret(shop: Shop) -> None:
    """Not paid: false. Paid: the same token however often it is asked for, across a restart too."""
    offer = told(await shop.balance({"sats": 1000}), 402)
    assert told(await shop.balance(poll_of(offer))) == {"paid": False}
    shop.wallet.pay(offer["invoice"])
    paid = told(await shop.balance(poll_of(offer)))
    assert (paid["paid"], paid["sats"]) == (True, 1000)
    assert is_token(paid["token"])
    assert paid["expires_at"] == "2023-12-14T22:13:20Z"
    assert told(await shop.balance(poll_of(offer))) == paid
    shop.open(BalancePlugin)
    assert told(await shop.balance(poll_of(offer))) == paid
    payment = await shop.ledger.payment("lightning", offer["payment_hash"])
    assert payment is not None
    assert (payment.state, payment.credited) == (PaymentState.BURNT, 1_000_000)


async def test_twenty_polls_at_once_fund_one_balance(shop: Shop) -> None:
    """Each is told the same token, and the money is there once."""
    offer = told(await shop.balance({"sats": 1000}), 402)
    shop.wallet.pay(offer["invoice"])
    answers = await asyncio.gather(*[shop.balance(poll_of(offer)) for _ in range(20)])
    tokens = {told(answer)["token"] for answer in answers}
    assert len(tokens) == 1
    state = await shop.ledger.balance(digest(tokens.pop()))
    assert state is not None
    assert state.deposited == 1_000_000


async def test_two_processes_that_poll_at_once_fund_one_balance(shop: Shop) -> None:
    """Who comes second is told to ask again, and then gets the same."""
    offer = told(await shop.balance({"sats": 1000}), 402)
    shop.wallet.pay(offer["invoice"])
    first = shop._app
    shop.open(BalancePlugin)
    second = shop._app

    async def poll(app: Any) -> Any:
        shop._app = app
        return await shop.balance(poll_of(offer))

    answers = [await one for one in [asyncio.ensure_future(poll(app)) for app in (first, second) * 3]]
    assert {answer.status for answer in answers} <= {200, 409}
    tokens = {told(answer)["token"] for answer in answers if answer.status == 200}
    assert tokens == {told(await shop.balance(poll_of(offer)))["token"]}


async def test_a_poller_that_leaves_loses_nothing(shop: Shop) -> None:
    """What is under way is finished; the next poll is told the token."""
    offer = told(await shop.balance({"sats": 1000}), 402)
    shop.wallet.pay(offer["invoice"])
    task = asyncio.ensure_future(shop.balance(poll_of(offer)))
    for _ in range(12):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert told(await shop.balance(poll_of(offer)))["paid"] is True


@pytest.mark.parametrize("secret", [None, "wrong", "A" * 43])
async def test_a_payment_hash_alone_gives_nothing(shop: Shop, secret: str | None) -> None:
    """Every node on the way knows it."""
    offer = told(await shop.balance({"sats": 1000}), 402)
    shop.wallet.pay(offer["invoice"])
    body = {"payment_hash": offer["payment_hash"]} | ({} if secret is None else {"poll_secret": secret})
    answer = await shop.balance(body)
    assert code(answer) == (401, "invalid_payment")
    assert b"bal_" not in answer.body
    assert await shop.ledger.payment("lightning", offer["payment_hash"]) is None


async def test_hash_only_restores_polling_without_a_secret(tmp_path: Path) -> None:
    """Where the operator says so."""
    shop = await open_shop(tmp_path / "hash", balance=Balance(poll="hash_only"))
    offer = told(await shop.balance({"sats": 100}), 402)
    shop.wallet.pay(offer["invoice"])
    assert is_token(told(await shop.balance({"payment_hash": offer["payment_hash"]}))["token"])
    await shop.close()


async def test_invoices_for_requests_are_no_balances(shop: Shop) -> None:
    """Nor is one that nobody made; both are 404 alike."""
    assert shop.rails.invoices is not None
    made = await shop.rails.invoices.issue(msat=21_000, memo="m", client="c", purpose="request", seconds=60, terms="{}")
    shop.wallet.pay(made.bolt11)
    for payment_hash in (made.payment_hash, "0" * 64):
        answer = await shop.balance({"payment_hash": payment_hash, "poll_secret": "x"})
        assert code(answer) == (404, "not_found")


# -- status and top-up


async def test_status_says_where_a_balance_stands(shop: Shop) -> None:
    """In whole sats: what is left rounded down."""
    bought = await shop.buy(1000)
    assert told(await shop.balance({"action": "status"}, token=bought["token"])) == {
        "sats": 1000,
        "expires_at": bought["expires_at"],
        "total_spent": 0,
        "requests": 0,
        "unit": "msat",
    }


async def test_a_top_up_adds_to_the_balance_whose_token_is_shown(shop: Shop) -> None:
    """Polled with the token it is told again; polled without it is not, since nobody has shown the right to it."""
    token = (await shop.buy(1000))["token"]
    shop.clock.advance(10 * DAY)
    offer = told(await shop.balance({"sats": 500}, token=token), 402)
    assert "x402" not in offer
    shop.wallet.pay(offer["invoice"])
    unseen = told(await shop.balance(poll_of(offer)))
    assert "token" not in unseen
    assert unseen["balance"]["sats"] == 1500
    again = told(await shop.balance(poll_of(offer), token=token))
    assert (again["token"], again["sats"], again["balance"]["sats"]) == (token, 500, 1500)
    assert told(await shop.balance(poll_of(offer))) == {"paid": True, "sats": 500}
    assert told(await shop.balance({"action": "status"}, token=token))["expires_at"] == "2023-12-24T22:13:20Z"


async def test_a_top_up_of_a_balance_that_has_ended_opens_another(shop: Shop) -> None:
    """A payment that arrives is never lost; the old token says nothing any more."""
    token = (await shop.buy(1000))["token"]
    shop.clock.advance(30 * DAY - 60)
    offer = told(await shop.balance({"sats": 500}, token=token), 402)
    shop.wallet.pay(offer["invoice"])
    shop.clock.advance(120)
    paid = told(await shop.balance(poll_of(offer), token=token))
    assert paid["token"] != token
    assert paid["balance"]["sats"] == 500
    assert told(await shop.balance(poll_of(offer))) == paid
    assert code(await shop.balance({"action": "status"}, token=token)) == (401, "invalid_balance")


async def test_a_balance_holds_no_more_than_the_most(shop: Shop) -> None:
    """An offer that would not fit is refused; one that fitted when it was made is honoured when it is paid."""
    token = (await shop.buy(40_000))["token"]
    answer = await shop.balance({"sats": 10_001}, token=token)
    assert code(answer) == (400, "invalid_request")
    assert b"10000" in answer.body
    offers = [told(await shop.balance({"sats": 10_000}, token=token), 402) for _ in range(2)]
    for offer in offers:
        shop.wallet.pay(offer["invoice"])
        told(await shop.balance(poll_of(offer)))
    assert told(await shop.balance({"action": "status"}, token=token))["sats"] == 60_000


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


# -- bad input costs nothing


@pytest.mark.parametrize(
    "body",
    [
        {}, {"sats": 99}, {"sats": 50_001}, {"sats": -1}, {"sats": 1000.0}, {"sats": "1000"}, {"sats": True},
        {"sats": None}, b'{"sats":1000000000000000000000000000000}', {"sats": 1000, "action": "status"},
        {"action": "drain"}, {"sats": 1000, "poll_secret": "x"}, {"sats": 1000, "extra": 1}, {"payment_hash": "xyz"},
        {"payment_hash": "A" * 64}, {"payment_hash": "0" * 64, "sats": 100}, b"", b"[]", b"{", b"null",
        b'{"sats":' + b"9" * 5000 + b"}", b"[" * 5000,
    ],
)  # fmt: skip
@pytest.mark.parametrize("paid", [False, True])
async def test_bad_input_is_told_and_costs_nothing(shop: Shop, body: Any, paid: bool) -> None:
    """400, no invoice, nothing settled."""
    answer = await shop.balance(body, x402="680000/n1" if paid else None)
    assert code(answer) == (400, "invalid_request")
    assert shop.x402.settled == []
    assert await shop.ledger.payment("x402", "n1") is None


@pytest.mark.parametrize("token", ["bal_", "bal_short", "bal_" + "A" * 43])
async def test_an_unknown_token_is_401_whatever_is_asked(shop: Shop, token: str) -> None:
    """Malformed or never sold: alike."""
    for body in ({"action": "status"}, {"sats": 1000}):
        assert code(await shop.balance(body, token=token)) == (401, "invalid_balance")
    assert code(await shop.balance({"sats": 1000}, token=token, x402="680000/n1")) == (401, "invalid_balance")
    assert shop.x402.settled == []


async def test_status_wants_a_token_and_no_payment(shop: Shop) -> None:
    """Asking is free."""
    assert code(await shop.balance({"action": "status"})) == (401, "invalid_balance")
    token = (await shop.buy(100))["token"]
    answer = await shop.balance({"action": "status"}, token=token, x402="680000/n1")
    assert code(answer) == (400, "ambiguous_payment")
    assert shop.x402.settled == []


async def test_one_payment_at_a_time(shop: Shop) -> None:
    """Two are ambiguous, and those that buy answers buy no balance."""
    two = await shop.balance({"sats": 1000}, x402="680000/n1", cashu="1000000/t1")
    assert code(two) == (400, "ambiguous_payment")
    poll = await shop.balance({"payment_hash": "0" * 64}, x402="680000/n1")
    assert code(poll) == (400, "ambiguous_payment")
    lightning = await shop.balance({"sats": 1000}, headers={"authorization": "L402 bWFj:00"})
    assert code(lightning) == (400, "payment_not_accepted")
    assert code(await shop.balance({"sats": 1000}, x402="1/n1")) == (402, "x402_underpayment")
    assert (shop.x402.settled, shop.cashu.settled) == ([], [])


async def test_the_same_payment_for_another_body_is_refused(shop: Shop) -> None:
    """An authorization is for the request it was first sent with."""
    shop.x402.outcomes = [Declined(Refusal("payment_unavailable", "Later.", retry_after_seconds=1), "later", False)]
    assert (await shop.balance({"sats": 1000}, x402="680000/n1")).status == 503
    assert code(await shop.balance({"sats": 100}, x402="680000/n1")) == (409, "payment_spent")


# -- rails that are off


async def test_without_lightning_the_other_rails_are_offered(tmp_path: Path) -> None:
    """And where nothing fits a balance of sats, ecash is."""
    shop = await open_shop(tmp_path / "off", lightning=False)
    assert "invoice" not in told(await shop.balance({"sats": 1000}), 402)
    shop.rails = replace(shop.rails, rails=())
    shop.open(BalancePlugin)
    assert code(await shop.balance({"sats": 1000})) == (503, "payment_unavailable")
    assert code(await shop.balance({"sats": 1000}, x402="680000/n1")) == (400, "payment_not_accepted")
    await shop.close()


async def test_without_a_price_of_bitcoin_sats_are_still_sold_for_sats(tmp_path: Path) -> None:
    """Dollars are not."""
    shop = await open_shop(tmp_path / "norate", rate=False)
    offer = told(await shop.balance({"sats": 1000}), 402)
    assert "x402" not in offer
    assert {"invoice", "cashu"} <= set(offer)
    assert code(await shop.balance({"sats": 1000}, x402="680000/n1")) == (503, "payment_unavailable")
    await shop.close()


async def test_too_many_pending_invoices_leave_the_other_rails(shop: Shop) -> None:
    """An address that asks without paying gets no more invoices."""
    for _ in range(20):
        told(await shop.balance({"sats": 1000}), 402)
    offer = told(await shop.balance({"sats": 1000}), 402)
    assert "invoice" not in offer
    assert "x402" in offer


async def test_without_balances_or_rails_there_is_no_endpoint(tmp_path: Path) -> None:
    """Nothing is promised that is off."""
    off = Shop(tmp_path, balance=None)
    off.open(BalancePlugin)
    assert off._plugins[0].router() is None
    off.rails = None  # type: ignore[assignment]
    off.open(BalancePlugin)
    assert off._plugins[0].router() is None
    await off.close()


async def test_no_secret_is_logged(shop: Shop) -> None:
    """Nor any payment."""
    token = (await shop.buy(1000))["token"]
    shop.x402.outcomes = [Doubtful("timeout"), Settled(Receipt(1))]
    await shop.balance({"sats": 1000}, x402="680000/canary-nonce")
    written = repr(shop.log.events)
    assert token not in written
    assert "canary-nonce" not in written


async def test_a_changed_secret_tells_no_dead_token(shop: Shop) -> None:
    """The balance is still there for who has the token; a poll cannot derive it any more and says no wrong one."""
    offer = told(await shop.balance({"sats": 1000}), 402)
    shop.wallet.pay(offer["invoice"])
    token = told(await shop.balance(poll_of(offer)))["token"]
    shop.rails = replace(shop.rails, keys=DerivedKeys(b"other" * 8))
    shop.open(BalancePlugin)
    assert "token" not in told(await shop.balance(poll_of(offer)))
    assert told(await shop.balance({"action": "status"}, token=token))["sats"] == 1000
