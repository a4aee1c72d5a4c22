"""Upstreams that fail, clients that leave: nobody pays for what did not come, and no payment is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from proxy.ledger.payment_states import PaymentState
from tests.peers.behaviour import Behaviour, Fault
from tests.support.paid import CHAT, PAYERS, PaidWorld, body
from tests.support.raw import Raw, request
from tests.support.ways_to_pay import (
    EVERY_WAY,
    FEE_SATS,
    AfterFailure,
    Cashu,
    Counterparts,
    Paid,
    Way,
    books,
    refund,
    selling,
    ways,
    worth,
)

DEADLINES: Final = {"connect_seconds": 1, "first_byte_seconds": 0.25, "idle_seconds": 0.25, "total_seconds": 5}
PATIENT: Final = {"connect_seconds": 1, "first_byte_seconds": 10, "idle_seconds": 10, "total_seconds": 20}
REFUSED: Final = "connections are refused"
BEFORE_CONTENT: Final[dict[str, Behaviour | None]] = {
    REFUSED: None,
    "closed before the head": Behaviour(fault=Fault.CLOSE_BEFORE_HEAD),
    "reset before the head": Behaviour(fault=Fault.RESET_BEFORE_HEAD),
    "500": Behaviour(status=500),
    "503, soon": Behaviour(status=503, headers=(("retry-after", "1"),)),
    "429 of the provider's": Behaviour(status=429),
    "401 of the provider's": Behaviour(status=401),
    "400 of the provider's": Behaviour(status=400),
    "nothing until the deadline": Behaviour(fault=Fault.HANG_BEFORE_HEAD),
    "a head, then nothing": Behaviour(fault=Fault.HANG_AFTER_HEAD),
    "garbage": Behaviour(fault=Fault.GARBAGE),
    "an error in the place of an answer": Behaviour(fault=Fault.ERROR_EVENT_FIRST),
    "gzip": Behaviour(fault=Fault.GZIP),
    "the role alone, then a reset": Behaviour(fault=Fault.RESET_MID, chunks=12, after_chunks=1, delay_seconds=0.03),
}
PIECES: Final[dict[str, Any]] = {"chunks": 12, "after_chunks": 6, "delay_seconds": 0.03}
"""Slow enough for the first of them to have gone out when it breaks off."""
AMIDST: Final[dict[str, Behaviour]] = {
    "reset amidst": Behaviour(fault=Fault.RESET_MID, **PIECES),
    "cut amidst": Behaviour(fault=Fault.HALF_CLOSE_MID, **PIECES),
    "hanging amidst": Behaviour(fault=Fault.HANG_MID, **PIECES),
}
"""Before the first content where the answer is whole, after it where it is streamed."""
OUTPUT_NANO: Final = 10_000
"""Nano-dollars an output token."""
MSAT_PER_BTC: Final = 100_000_000_000
NANO_PER_BTC: Final = 68_000 * 1_000_000_000
STREAMING: Final = [param for param in EVERY_WAY if param.values != ("cashu",)]


@pytest.fixture(scope="module")
def all_ways(counterparts: Counterparts) -> dict[str, Way]:
    """By name."""
    return ways(counterparts)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, all_ways: dict[str, Way]) -> Iterator[PaidWorld]:
    """One proxy for the whole file; a payment may be tried with very often."""
    folder = tmp_path_factory.mktemp("failures")
    with selling(folder, *all_ways.values(), leases_max=100, deadlines=DEADLINES) as made:
        yield made
        books(made).until_ended()
        made.world.gateway.cli("ledger", "audit")


@pytest.fixture
def shop(running: PaidWorld) -> Iterator[PaidWorld]:
    """Its provider well again, its books proven after each test."""
    running.world.provider.reset()
    yield running
    running.world.provider.reset()
    books(running).until_ended()
    books(running).prove()


@dataclass
class Purse:
    """What a payer has to try with, whatever comes back of it."""

    shop: PaidWorld
    way: Way
    paid: Paid
    body: dict[str, Any]
    fees: int = 0

    def ask(self) -> httpx.Response:
        """The paid request."""
        with self.shop.client() as client:
            return client.post(CHAT, json=self.body, headers=self.paid.headers)

    def failed(self, answer: httpx.Response, failure: str) -> None:
        """The money is where `AfterFailure` says, all of it."""
        assert answer.status_code >= 400, f"{failure}: {answer.text}"
        assert answer.status_code != 402, f"{failure}: told to pay again"
        ledger = books(self.shop)
        ledger.until_ended()
        ledger.prove()
        if self.way.after_failure is AfterFailure.UNTOUCHED:
            token = self.paid.headers["authorization"].removeprefix("Bearer ")
            balance = ledger.balance(token)
            assert (balance.spent, balance.held) == (0, 0), failure
            return
        payment = ledger.newest()
        assert payment.captured == 0, failure
        if self.way.after_failure is AfterFailure.AGAIN:
            assert (payment.state, payment.held) == (PaymentState.SETTLED, self.paid.amount), failure
            return
        token = answer.headers["x-cashu-change"]
        assert (payment.state, payment.fee) == (PaymentState.REFUNDED, FEE_SATS * 1000), failure
        assert worth(token) == worth(self.paid.headers["x-cashu"]) - FEE_SATS, failure
        told = refund(self.shop, self.paid).json()
        assert (told["refunded"], told["cashu"]) == (True, token), failure
        self.paid = Cashu.of(token)

    def served(self) -> None:
        """What is left of it buys an answer, once."""
        calls = len(self.shop.world.provider.requests)
        answer = self.ask()
        assert answer.status_code == 200, answer.text
        books(self.shop).until_ended()
        assert len(self.shop.world.provider.requests) == calls + 1
        if self.way.after_failure is not AfterFailure.UNTOUCHED:
            assert books(self.shop).newest().state is PaymentState.BURNT


def purse(shop: PaidWorld, way: Way, asked: dict[str, Any]) -> Purse:
    """A payment for this very request, not yet shown."""
    return Purse(shop, way, way.pay(shop, asked), asked)


def fail(shop: PaidWorld, behaviour: Behaviour | None) -> None:
    """Every call goes wrong so from now on."""
    provider = shop.world.provider
    if behaviour is None:
        provider.refuse_connections()
    else:
        provider.default = behaviour


def heal(shop: PaidWorld, behaviour: Behaviour | None) -> None:
    """Well again."""
    shop.world.provider.default = Behaviour()
    if behaviour is None:
        shop.world.provider.accept_connections()


def outliving() -> list[Any]:
    """Every way to pay, for a whole answer and, but for ecash, for a stream."""
    whole = [pytest.param(*one.values, False, marks=one.marks, id=f"{one.values[0]}-whole") for one in EVERY_WAY]
    return whole + [pytest.param(*one.values, True, id=f"{one.values[0]}-stream") for one in STREAMING]


@pytest.mark.parametrize(("name", "stream"), outliving())
def test_a_payment_outlives_every_failure_before_the_first_content(
    shop: PaidWorld, all_ways: dict[str, Way], counterparts: Counterparts, name: str, stream: bool
) -> None:
    """One failure after the other, all with the one payment (of ecash, with what came back): then it is served."""
    way = all_ways[name]
    if isinstance(way, Cashu):
        way = Cashu(counterparts, over_sats=30)
    failures = BEFORE_CONTENT if stream else BEFORE_CONTENT | AMIDST
    one = purse(shop, way, body(f"{name} {stream}", stream=stream))
    settled = counterparts.trusting.asked
    for failure, behaviour in failures.items():
        fail(shop, behaviour)
        try:
            answer = one.ask()
        finally:
            heal(shop, behaviour)
        one.failed(answer, failure)
    one.served()
    assert counterparts.trusting.asked - settled == (name == "x402")


@pytest.mark.parametrize("failure", AMIDST)
@pytest.mark.parametrize("name", STREAMING)
def test_what_fails_after_the_first_content_stays_bought(
    shop: PaidWorld, all_ways: dict[str, Way], name: str, failure: str
) -> None:
    """Cutting a stream early does not make its payment usable again; a balance pays what was delivered."""
    one = purse(shop, all_ways[name], body(f"{name} {failure}", stream=True))
    shop.world.provider.script(AMIDST[failure])
    answer = one.ask()
    assert answer.status_code == 200
    assert b"w0" in answer.content
    assert b"upstream_error" in answer.content
    assert_spent(one)


def assert_spent(one: Purse) -> None:
    """Its payment bought what there was, and nothing more."""
    ledger = books(one.shop)
    ledger.until_ended()
    if one.way.after_failure is AfterFailure.UNTOUCHED:
        balance = ledger.balance(one.paid.headers["authorization"].removeprefix("Bearer "))
        assert (balance.spent, balance.held) == (21_000, 0)
        return
    payment = ledger.newest()
    assert (payment.state, payment.captured) == (PaymentState.BURNT, one.paid.amount)
    calls = len(one.shop.world.provider.requests)
    again = one.ask()
    assert again.status_code in (401, 402, 409)
    assert len(one.shop.world.provider.requests) == calls


# -- clients that leave


def leave(shop: PaidWorld, raw: bytes, *, until: Any = None, read: bytes = b"") -> None:
    """Send, wait for a moment in the exchange's life, and reset the connection."""
    with Raw(shop.world.gateway.address("api")) as connection:
        connection.send(raw)
        while read and read not in connection.received:
            connection._more()
        if until is not None:
            books(shop).until(until, "it never came to that")
        connection.reset()


def raw_of(one: Purse, **options: Any) -> bytes:
    """The paid request as bytes."""
    return request(one.body, headers=tuple(f"{name}: {value}" for name, value in one.paid.headers.items()), **options)


@pytest.mark.parametrize("name", EVERY_WAY)
def test_who_leaves_amidst_the_upload_has_paid_nothing(shop: PaidWorld, all_ways: dict[str, Way], name: str) -> None:
    """The payment was not even looked at."""
    one = purse(shop, all_ways[name], body(f"{name} leaves early"))
    seen = len(books(shop).payments())
    leave(shop, raw_of(one)[:-10])
    one.served()
    assert len(books(shop).payments()) == seen + (one.way.after_failure is not AfterFailure.UNTOUCHED)


def test_who_leaves_while_the_money_is_asked_for_can_use_it_later(
    shop: PaidWorld, all_ways: dict[str, Way], counterparts: Counterparts
) -> None:
    """The settlement goes on without its client, is written down, and is not made again."""
    one = purse(shop, all_ways["x402"], body("leaves while it is settled"))
    asked, calls = counterparts.trusting.asked, len(shop.world.provider.requests)
    counterparts.trusting.gate.clear()
    try:
        leave(shop, raw_of(one), until=lambda: counterparts.trusting.asked == asked + 1)
        time.sleep(0.05)
    finally:
        counterparts.trusting.gate.set()
    ledger = books(shop)
    ledger.until(lambda: ledger.newest().state is PaymentState.SETTLED, "the settlement was not noted")
    ledger.until_ended()
    assert len(shop.world.provider.requests) == calls
    one.served()
    assert counterparts.trusting.asked == asked + 1


@pytest.mark.parametrize("name", EVERY_WAY)
def test_who_leaves_before_the_first_content_finds_the_answer_kept(
    shop: PaidWorld, all_ways: dict[str, Way], name: str
) -> None:
    """The provider was called and answers: that is what was paid for, and the payer can still have it."""
    one = purse(shop, all_ways[name], body(f"{name} leaves the provider working"))
    provider = shop.world.provider
    provider.script(Behaviour(head_delay_seconds=0.15))
    leave(shop, raw_of(one), until=lambda: len(provider.requests) == 1)
    books(shop).until_ended()
    books(shop).prove()
    again = one.ask()
    assert again.status_code == 200, again.text
    if one.way.after_failure is AfterFailure.UNTOUCHED:
        return
    assert again.headers["x-dedup"] == "hit"
    assert len(provider.requests) == 1
    assert books(shop).newest().state is PaymentState.BURNT


@pytest.mark.parametrize("name", EVERY_WAY)
def test_who_leaves_before_a_failure_has_not_paid_for_it(shop: PaidWorld, all_ways: dict[str, Way], name: str) -> None:
    """The provider fails when the client is gone: the payment serves again, or is given back where it is asked for."""
    one = purse(shop, all_ways[name], body(f"{name} leaves before a failure"))
    provider = shop.world.provider
    provider.default = Behaviour(status=500, head_delay_seconds=0.1)
    leave(shop, raw_of(one), until=lambda: len(provider.requests) == 1)
    ledger = books(shop)
    ledger.until_ended()
    provider.default = Behaviour()
    if one.way.after_failure is AfterFailure.BACK:
        token = refund(shop, one.paid).json()["cashu"]
        assert worth(token) == worth(one.paid.headers["x-cashu"]) - FEE_SATS
        one.paid = Cashu.of(token)
    one.served()


@pytest.mark.parametrize("name", STREAMING)
def test_who_leaves_after_the_first_chunk_has_bought_it(shop: PaidWorld, all_ways: dict[str, Way], name: str) -> None:
    """The rest is read for its usage; the payment is spent."""
    one = purse(shop, all_ways[name], body(f"{name} leaves a stream", stream=True))
    shop.world.provider.script(Behaviour(chunks=10, delay_seconds=0.02))
    leave(shop, raw_of(one), read=b"w0")
    assert_spent(one)


# -- limits


def test_who_is_told_to_wait_has_paid_nothing(
    tmp_path: Path, all_ways: dict[str, Way], counterparts: Counterparts
) -> None:
    """429 comes before anything is leased, held or asked outside, in every way to pay."""
    payers = {**PAYERS, "paid": {"per_minute": 1, "burst": 1}}
    with selling(tmp_path, *all_ways.values(), limits={"payers": payers}) as shop:
        first, *others = [purse(shop, way, body(f"{way.name} in a crowd")) for way in all_ways.values()]
        first.served()
        ledger, settled = books(shop), counterparts.trusting.asked
        seen, sums = ledger.payments(), ledger.sums()
        for one in others:
            answer = one.ask()
            assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limited"), one.way.name
            assert answer.headers["retry-after"]
        assert (ledger.payments(), ledger.sums()) == (seen, sums)
        assert counterparts.trusting.asked == settled
        assert len(shop.world.provider.requests) == 1
        ledger.prove()


# -- worn out


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory, all_ways: dict[str, Way]) -> Iterator[PaidWorld]:
    """A payment may be tried with twice."""
    with selling(tmp_path_factory.mktemp("strict"), *all_ways.values(), leases_max=2, deadlines=DEADLINES) as made:
        yield made


@pytest.mark.parametrize("name", ["l402", "mpp", "x402"])
def test_a_payment_that_is_worn_out_becomes_a_balance(strict: PaidWorld, all_ways: dict[str, Way], name: str) -> None:
    """After so many failures it is good for a refund alone; the refund is a balance that pays, told again if asked."""
    shop, way = strict, all_ways[name]
    one = purse(shop, way, body(f"{name} wears out"))
    shop.world.provider.reset()
    shop.world.provider.default = Behaviour(status=500)
    for _ in range(2):
        one.failed(one.ask(), "500")
    shop.world.provider.default = Behaviour()
    calls = len(shop.world.provider.requests)
    worn = one.ask()
    assert worn.status_code in (401, 409), worn.text
    assert "/v1/payments/refund" in worn.text
    assert len(shop.world.provider.requests) == calls
    told = refund(shop, one.paid)
    assert told.status_code == 200, told.text
    refunded = told.json()
    assert (refunded["amount"], refunded["unit"], refunded["left"]) == (one.paid.amount, way.unit, one.paid.amount)
    assert refund(shop, one.paid).json() == refunded
    with shop.client() as client:
        bearer = {"authorization": f"Bearer {refunded['token']}"}
        answer = client.post(CHAT, json=body("by the refund"), headers=bearer)
    assert answer.status_code == 200, answer.text
    ledger = books(shop)
    ledger.until_ended()
    assert one.ask().status_code in (401, 402, 409)
    assert 0 < ledger.balance(refunded["token"]).spent <= one.paid.amount
    ledger.prove()


def test_a_balance_pays_what_was_used_and_not_what_was_held(shop: PaidWorld, all_ways: dict[str, Way]) -> None:
    """A request that could cost much and costs little takes the little."""
    one = purse(shop, all_ways["balance"], body("x" * 400, max_tokens=4000))
    shop.world.provider.script(Behaviour(chunks=3000))
    one.served()
    ledger = books(shop)
    ((held, charged, paid),) = ledger.rows(
        "SELECT held_charged, charged, tender_paid FROM holds ORDER BY id DESC LIMIT 1"
    )
    assert 3000 * OUTPUT_NANO < charged < held
    assert paid == -(-charged * MSAT_PER_BTC // NANO_PER_BTC)
    balance = ledger.balance(one.paid.headers["authorization"].removeprefix("Bearer "))
    assert (balance.spent, balance.held) == (paid, 0)
