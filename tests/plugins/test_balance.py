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
from proxy.payments.settings import Balance, Lightning
from proxy.payments.tokens import is_token
from tests.support.shop import Shop, code, digest, poll_of, told

DAY = 86_400.0


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
    """The documented members, the secret that polling wants, and what the other rails offer for the same."""
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
    for _ in range(Lightning("dev").pending_client_max):
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
