"""kill -9 at every point of a paid exchange: after the next start no money is lost, and none was taken twice.

The points are counted where the process is instrumented, and named: one that is new fails until it is looked at.
A start after a kill is also the start before the next one; only requests with the header of the kill points count.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import httpx
import pytest

from proxy.ledger.payment_states import PaymentState
from tests.paid.crashing import COUNT, KILLED_COUNT, POINTS, Asking, Crashes, asking, kill, points, recorded, settled_on
from tests.peers.behaviour import Behaviour
from tests.peers.mint import PROGRAM
from tests.support.kill_points import HEADER
from tests.support.paid import CHAT, PaidWorld, body
from tests.support.ways_to_pay import FEE_SATS, VALID_SECONDS, Cashu, books, refund, worth

FLOOR_MSAT: Final = 21_000
KINDS: Final = [
    pytest.param("l402"),
    pytest.param("mpp"),
    pytest.param("balance"),
    pytest.param("x402"),
    pytest.param("x402 by a facilitator"),
    pytest.param("cashu", marks=pytest.mark.needs(PROGRAM)),
]


@pytest.mark.parametrize("kind", KINDS)
def test_the_points_at_which_money_could_be_lost_are_known(crashes: Crashes, kind: str) -> None:
    """As counted in a whole exchange. MPP comes to those of L402, and is not killed at each of them once more."""
    shop, way = crashes.shop(kind)
    asked = body(f"{kind} is counted")
    paid = way.pay(shop, asked)
    with shop.client() as client:
        answer = asking(asked, paid)(client, {HEADER: "0"})
    assert answer.status_code == 200, answer.text
    wanted = POINTS["l402" if kind == "mpp" else kind]
    books(shop).until(lambda: len(recorded(shop)) >= len(wanted), "it ended too early")
    assert sorted(recorded(shop)) == sorted(wanted)


def test_the_points_are_counted() -> None:
    """So many there are, and so many processes are killed by this file."""
    assert sum(len(names) for names in POINTS.values()) == COUNT
    assert sum(len(points(kind)) for kind in POINTS) == KILLED_COUNT


def calls_wanted(passed: list[str]) -> int:
    """Of the provider, until the payer has its answer: once more where the first answer was not kept."""
    called = "after call of the provider" in passed
    return 2 if called and "after commit of Committing" not in passed else 1


def assert_served_once(shop: PaidWorld, ask: Asking, passed: list[str], answer: httpx.Response) -> None:
    """It has its answer; shown again, the payment gives the same one, and the provider has nothing to do."""
    assert answer.status_code == 200, answer.text
    books(shop).until_ended()
    calls = len(shop.world.provider.requests)
    assert calls == calls_wanted(passed)
    again = settled_on(shop, ask)
    assert (again.status_code, again.content, again.headers["x-dedup"]) == (200, answer.content, "hit")
    assert len(shop.world.provider.requests) == calls
    books(shop).prove()


@pytest.mark.parametrize(("kind", "at"), points("l402"))
def test_killed_under_l402(crashes: Crashes, kind: str, at: int) -> None:
    """The preimage serves once, whatever happened before."""
    shop, way = crashes.shop(kind)
    asked = body(f"killed at {at}")
    paid = way.pay(shop, asked)
    ask = asking(asked, paid)
    passed, had = kill(shop, at, kind, ask)
    shop.world.gateway.start()
    answer = settled_on(shop, ask)
    assert had is None or had.content == answer.content
    assert_served_once(shop, ask, passed, answer)
    payment = books(shop).payment(paid.key)
    assert payment is not None
    assert (payment.state, payment.captured) == (PaymentState.BURNT, paid.amount)


@pytest.mark.parametrize(("kind", "at"), points("x402") + points("x402 by a facilitator"))
def test_killed_under_x402(crashes: Crashes, kind: str, at: int) -> None:
    """What was settled serves once. What was not even sent is waited for until it never can be, and was not taken."""
    shop, way = crashes.shop(kind)
    chain = crashes.counterparts.chain
    asked = body(f"killed at {at}")
    paid = way.pay(shop, asked)
    before = chain.balance(chain.pay_to)
    ask = asking(asked, paid)
    passed, had = kill(shop, at, kind, ask)
    sent = chain.balance(chain.pay_to) - before
    assert sent in (0, paid.amount)
    doubtful = not sent and "after commit of HoldingProof" in passed
    if doubtful:
        chain.mine(1, seconds=VALID_SECONDS + 1)
    shop.world.gateway.start()
    answer = settled_on(shop, ask)
    if doubtful:
        assert (answer.status_code, answer.json()["error"]["code"]) == (402, "x402_settlement_failed")
        payment = books(shop).payment(paid.key)
        assert payment is not None
        assert (payment.state, payment.amount) == (PaymentState.REFUSED, 0)
        assert chain.balance(chain.pay_to) == before
        paid = way.pay(shop, asked)
        ask = asking(asked, paid)
        answer = settled_on(shop, ask)
    assert had is None or had.content == answer.content
    assert_served_once(shop, ask, passed, answer)
    assert chain.balance(chain.pay_to) == before + paid.amount
    payment = books(shop).payment(paid.key)
    assert payment is not None
    assert (payment.state, payment.captured) == (PaymentState.BURNT, paid.amount)


def test_while_nobody_knows_the_payer_is_told_to_wait_and_not_to_pay(crashes: Crashes) -> None:
    """Killed as it was about to be sent: until it never can be, it may have been. It is neither served nor refunded."""
    kind = "x402"
    shop, way = crashes.shop(kind)
    asked = body("nobody knows")
    paid = way.pay(shop, asked)
    kill(shop, POINTS[kind].index("before POST / eth_sendRawTransaction") + 1, kind, asking(asked, paid))
    shop.world.gateway.start()
    books(shop).until(lambda: books(shop).newest().state is PaymentState.UNKNOWN, "it is known after all")
    with shop.client() as client:
        told = [asking(asked, paid)(client, {}), refund(shop, paid)]
        seen = client.get(f"/v1/payments/{books(shop).newest().name}", headers=paid.shown)
    for answer in told:
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "payment_unknown")
        assert answer.headers["retry-after"]
    assert (seen.status_code, seen.json()["state"]) == (200, "unknown")
    assert shop.world.provider.requests == []
    books(shop).prove()


def test_a_stream_that_a_crash_cuts_stays_bought(crashes: Crashes) -> None:
    """Its payment was spent as it began: no more than one answer begins for it, whatever cuts it."""
    shop, way = crashes.shop("l402")
    asked = body("a long story", stream=True)
    paid = way.pay(shop, asked)
    shop.world.provider.script(Behaviour(chunks=200, delay_seconds=0.05))
    with (
        shop.client() as client,
        suppress(httpx.TransportError),
        client.stream("POST", CHAT, json=asked, headers=paid.headers) as answer,
    ):
        for piece in answer.iter_bytes():
            if b"w0" in piece:
                shop.world.gateway.kill()
    shop.world.gateway.start()
    again = settled_on(shop, asking(asked, paid))
    assert (again.status_code, again.json()["error"]["code"]) == (401, "invalid_payment")
    assert len(shop.world.provider.requests) == 1
    payment = books(shop).payment(paid.key)
    assert payment is not None
    assert (payment.state, payment.captured) == (PaymentState.BURNT, paid.amount)
    books(shop).prove()


@pytest.mark.needs(PROGRAM)
@pytest.mark.parametrize(("kind", "at"), points("cashu"))
def test_killed_under_cashu(crashes: Crashes, kind: str, at: int) -> None:
    """Swapped and not served, the value less the mint's fee is there as a token; else the token itself serves."""
    shop, way = crashes.shop(kind)
    asked = body(f"killed at {at}")
    paid = way.pay(shop, asked)
    ask = asking(asked, paid)
    passed, had = kill(shop, at, kind, ask)
    shop.world.gateway.start()
    answer = settled_on(shop, ask)
    swapped = "after POST /v1/swap" in passed and "after commit of Committing" not in passed
    if swapped:
        assert answer.status_code >= 400
        token = refund(shop, paid).json()["cashu"]
        assert worth(token) == worth(paid.headers["x-cashu"]) - FEE_SATS
        assert refund(shop, paid).json()["cashu"] == token
        paid = Cashu.of(token)
        ask = asking(asked, paid)
        answer = settled_on(shop, ask)
    assert had is None or had.content == answer.content
    assert_served_once(shop, ask, passed, answer)
    change = worth(answer.headers["x-cashu-change"]) * 1000
    payment = books(shop).newest()
    assert (payment.state, payment.change) == (PaymentState.BURNT, change)
    assert payment.captured == paid.amount - change - FEE_SATS * 1000 == FLOOR_MSAT


@pytest.mark.parametrize(("kind", "at"), points("balance"))
def test_killed_under_a_balance(crashes: Crashes, kind: str, at: int) -> None:
    """Before the provider was called it costs nothing; after that the input; what was settled is settled once."""
    shop, way = crashes.shop(kind)
    asked = body(f"killed at {at}")
    paid = way.pay(shop, asked)
    token = paid.headers["authorization"].removeprefix("Bearer ")
    passed, _ = kill(shop, at, kind, asking(asked, paid))
    shop.world.gateway.start()
    ledger = books(shop)
    ledger.prove()
    spent = ledger.balance(token)
    assert spent.held == 0
    if "after commit of Settling" in passed:
        assert spent.spent == FLOOR_MSAT
    elif "after commit of Dispatching" in passed:
        ((input_msat,),) = ledger.rows("SELECT tender_input FROM holds ORDER BY id DESC LIMIT 1")
        assert 0 < spent.spent == input_msat < FLOOR_MSAT
    else:
        assert spent.spent == 0
    assert settled_on(shop, asking(asked, paid)).status_code == 200
    ledger.until_ended()
    assert ledger.balance(token).spent == spent.spent + FLOOR_MSAT
    assert len(shop.world.provider.requests) == 1 + ("after call of the provider" in passed)
    ledger.prove()
