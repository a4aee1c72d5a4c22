"""kill -9 on the way from a payment to a balance: who asks again has it, with all that was paid for it, once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import httpx
import pytest

from tests.paid.crashing import POINTS, Asking, Crashes, asking, kill, points, recorded, settled_on
from tests.peers.mint import PROGRAM
from tests.support.kill_points import HEADER
from tests.support.paid import CHAT, PaidWorld, body
from tests.support.ways_to_pay import BALANCE, FEE_SATS, REFUND, Cashu, Paid, books, refund, worth


def bought(answer: httpx.Response) -> str:
    """The token of a balance."""
    assert answer.status_code == 200, answer.text
    return str(answer.json()["token"])


@dataclass
class Errand:
    """A payment that becomes a balance."""

    shop: PaidWorld
    ask: Asking
    msat: int
    """That the balance is to have."""
    paid: Paid | None = None


def refunding(crashes: Crashes, label: str) -> Errand:
    """A paid invoice that bought nothing."""
    shop, way = crashes.shop("l402")
    paid = way.pay(shop, body(label))
    return Errand(shop, asking({}, paid, REFUND), paid.amount)


def polling(crashes: Crashes, label: str) -> Errand:
    """A paid invoice for a balance."""
    shop, _ = crashes.shop("balance")
    with shop.client() as client:
        offer = client.post(BALANCE, json={"sats": 500}).json()
    shop.wallet.pay(offer["invoice"])
    poll = {"payment_hash": offer["payment_hash"], "poll_secret": offer["poll_secret"]}
    return Errand(shop, lambda client, more: client.post(BALANCE, json=poll, headers=more), 500_000)


def buying(crashes: Crashes, label: str) -> Errand:
    """Ecash that comes with the request for a balance."""
    shop, way = crashes.shop("cashu")
    way.pay(shop, body(label))  # Until the mint is on offer.
    paid = Cashu.of(asyncio.run(crashes.counterparts.mint.notes(170)))
    return Errand(shop, asking({"sats": 150}, paid, BALANCE), 150_000, paid)


ERRANDS: Final = {"refund": refunding, "bought by an invoice": polling, "bought by ecash": buying}
ERRANDS_POINTS: Final = [
    pytest.param(kind, at, marks=pytest.mark.needs(PROGRAM) if kind == "bought by ecash" else ())
    for kind in ERRANDS
    for kind, at in points(kind)
]


@pytest.mark.needs(PROGRAM)
@pytest.mark.parametrize("kind", ERRANDS)
def test_the_points_on_the_way_to_a_balance_are_known(crashes: Crashes, kind: str) -> None:
    """As counted where nothing is killed."""
    errand = ERRANDS[kind](crashes, f"{kind} is counted")
    with errand.shop.client() as client:
        bought(errand.ask(client, {HEADER: "0"}))
    assert sorted(recorded(errand.shop)) == sorted(POINTS[kind])


@pytest.mark.parametrize(("kind", "at"), ERRANDS_POINTS)
def test_killed_on_the_way_to_a_balance(crashes: Crashes, kind: str, at: int) -> None:
    """Who asks again has it, with all that was paid for it, and only once; or the ecash back, which buys it then."""
    errand = ERRANDS[kind](crashes, f"{kind} at {at}")
    shop, ask = errand.shop, errand.ask
    kill(shop, at, kind, ask)
    shop.world.gateway.start()
    answer = settled_on(shop, ask)
    if answer.status_code != 200 and errand.paid is not None:
        back = refund(shop, errand.paid).json()["cashu"]
        assert worth(back) == worth(errand.paid.headers["x-cashu"]) - FEE_SATS
        ask = asking({"sats": 150}, Cashu.of(back), BALANCE)
        answer = settled_on(shop, ask)
    token = bought(answer)
    assert bought(settled_on(shop, ask)) == token
    ledger = books(shop)
    ledger.until_ended()
    assert ledger.balance(token).deposited == errand.msat
    ledger.prove()
    with shop.client() as client:
        served = client.post(CHAT, json=body("by it"), headers={"authorization": f"Bearer {token}"})
    assert served.status_code == 200, served.text
