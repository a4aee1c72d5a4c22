"""Panels bought by the request: the fixed price on every rail, one answer for one payment, nothing for a failed run."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

from proxy.ledger.payment_states import PaymentState
from tests.paid.crashing import CHAT
from tests.peers.behaviour import Behaviour
from tests.peers.mint import PROGRAM
from tests.peers.provider import SeenRequest
from tests.support.paid_panels import (
    ORCHESTRATE,
    PRICES,
    SAT_PRICE,
    PanelShop,
    asked,
    calls,
    chat,
    hold,
    leave,
    newest,
    post,
    selling_panels,
)
from tests.support.panel_world import Cast, Member, consensus_file, role_of
from tests.support.raw import Raw
from tests.support.ways_to_pay import (
    EVERY_WAY,
    FEE_SATS,
    AfterFailure,
    Balance,
    Counterparts,
    Way,
    books,
    refund,
    ways,
    worth,
)

BROKEN: Final = Member(roles={"member": Behaviour(status=500)})
FAILING: Final = dict.fromkeys(("one", "two", "three", "spare"), BROKEN)
DEGRADED: Final = dict.fromkeys(("two", "three", "spare"), BROKEN)
APART: Final = {"two": Member("It is forty-one.", "41"), "three": Member("It is forty.", "40")}
SPEAKING: Final = Behaviour(delay_seconds=0.02, chunks=1000)
FIXED_SATS: Final = 500
"""What the mode `deep` costs here, in sats; by its dollars it would be 6,618."""
STREAMING: Final = [param for param in EVERY_WAY if param.values != ("cashu",)]


@pytest.fixture(scope="module")
def counterparts() -> Iterator[Counterparts]:
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield Counterparts(stack)


@pytest.fixture(scope="module")
def all_ways(counterparts: Counterparts) -> dict[str, Way]:
    return ways(counterparts)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, all_ways: dict[str, Way]) -> Iterator[PanelShop]:
    """Every rail. The mode `deep` has a price of its own in sats."""
    deep = {"price": {"usd": 4.50, "credits": 20, "sats": FIXED_SATS}}
    with selling_panels(
        tmp_path_factory.mktemp("paid-panels"), *all_ways.values(), consensus=consensus_file(deep=deep), leases_max=50
    ) as made:
        yield made
        log = made.shop.world.gateway.log()
        assert "Traceback" not in log and "ledger_" not in log.replace("ledger_recovered", ""), log[-3000:]
        made.shop.world.gateway.cli("ledger", "audit")


@pytest.fixture
def house(running: PanelShop) -> Iterator[PanelShop]:
    """Its books proven after each test."""
    running.reset()
    yield running
    books(running.shop).until_ended()
    books(running.shop).prove()


# -- the price


@pytest.mark.parametrize("path", [ORCHESTRATE, CHAT])
@pytest.mark.parametrize("mode", ["fast", "balanced", "deep"])
def test_every_rail_asks_for_the_fixed_price(house: PanelShop, path: str, mode: str) -> None:
    """USDC exactly, sats by today's price unless the mode has its own, credits in the estimate; whatever is asked."""
    bodies = [asked("price", mode=mode), asked("price", mode=mode, prompt="longer " * 300, max_tokens=900)]
    if path == CHAT:
        bodies = [chat("price", mode), chat("longer " * 300, mode, max_tokens=900)]
    sats = FIXED_SATS if mode == "deep" else -(-PRICES[mode] // SAT_PRICE)
    for body in bodies:
        answer = post(house, body, None, path)
        assert answer.status_code == 402, answer.text
        told = answer.json()
        assert told["price"] == sats
        required = json.loads(base64.b64decode(answer.headers["payment-required"]))
        assert {one["amount"] for one in required["accepts"]} == {str(PRICES[mode] // 1000)}
        if "cashu" in told:
            assert told["cashu"]["price_sats"] >= sats
    estimate = {**bodies[0]}
    if path == ORCHESTRATE:
        estimate = chat("price", mode)
    with house.shop.client() as client:
        priced = client.post("/v1/estimate-cost", json=estimate)
    assert priced.status_code == 200, priced.text
    told = priced.json()
    assert (told["costCredits"], told["costSats"]) == ({"fast": 1, "balanced": 3, "deep": 20}[mode], sats)
    assert round(told["costUsd"] * 10**9) == PRICES[mode]
    assert calls(house) == 0


@pytest.mark.parametrize(
    "body",
    [
        {**chat("many"), "n": 2},
        {**chat("logprobs"), "logprobs": True},
        {**chat("much"), "messages": [{"role": "user", "content": "internationalization " * 860}]},
        {**chat("schema"), "response_format": {"type": "json_schema"}},
    ],
)
def test_what_a_panel_cannot_do_is_said_before_anybody_pays(house: PanelShop, body: dict[str, Any]) -> None:
    """No 402 for what would be refused once it is paid."""
    answer = post(house, body, None, CHAT)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


# -- one payment, one answer


@pytest.mark.parametrize("path", [ORCHESTRATE, CHAT])
@pytest.mark.parametrize("name", EVERY_WAY)
def test_a_payment_buys_one_run(house: PanelShop, all_ways: dict[str, Way], name: str, path: str) -> None:
    """The same again gets the stored answer; a balance buys another."""
    way, body = all_ways[name], (asked if path == ORCHESTRATE else chat)(f"buys {name}")
    paid = way.pay(house.shop, body, path)
    answer = post(house, body, paid, path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert calls(house) == 3
    charged, listed, held, held_list, outcome = hold(house, answer)
    assert (charged, held, held_list, outcome) == (PRICES["fast"], PRICES["fast"], 48_000_000, "served")
    assert 0 < listed < held_list
    again = post(house, body, paid, path)
    assert again.status_code == 200
    if name == "balance":
        assert calls(house) == 6
        token = paid.headers["authorization"].removeprefix("Bearer ")
        hold(house, again)
        cost = -(-PRICES["fast"] * 1000 // SAT_PRICE)
        seen = books(house.shop).balance(token)
        assert (seen.spent, seen.held) == (2 * cost, 0)
    else:
        assert calls(house) == 3
        assert (again.content, again.headers["x-dedup"]) == (answer.content, "hit")
        assert books(house.shop).newest().state is PaymentState.BURNT


@pytest.mark.parametrize("name", STREAMING)
def test_a_stream_is_bought_once(house: PanelShop, all_ways: dict[str, Way], name: str) -> None:
    """Burnt by its first token; shown again it is told to be spent."""
    way, body = all_ways[name], asked(f"streams {name}", stream=True)
    paid = way.pay(house.shop, body, ORCHESTRATE)
    answer = post(house, body, paid)
    assert answer.status_code == 200 and "event: done" in answer.text, answer.text
    assert hold(house, answer)[0] == PRICES["fast"]
    if name == "balance":
        return
    assert books(house.shop).newest().state is PaymentState.BURNT
    again = post(house, body, paid)
    assert again.status_code in (401, 402, 409), again.text
    assert calls(house) == 3


@pytest.mark.needs(PROGRAM)
def test_ecash_pays_for_no_stream_and_is_not_touched(house: PanelShop, all_ways: dict[str, Way]) -> None:
    """The 402 of a stream does not offer it; shown all the same it is refused before anything is spent."""
    body = asked("no stream")
    paid = all_ways["cashu"].pay(house.shop, body, ORCHESTRATE)
    streamed = asked("no stream", stream=True)
    assert "cashu" not in post(house, streamed, None).json()
    refused = post(house, streamed, paid)
    assert 400 <= refused.status_code < 500 and "stream" in refused.text, refused.text
    assert calls(house) == 0
    assert post(house, body, paid).status_code == 200


# -- failed and degraded


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", EVERY_WAY)
def test_a_failed_run_costs_nothing(house: PanelShop, all_ways: dict[str, Way], name: str, stream: bool) -> None:
    """The payment is free again, the ecash back, the balance untouched; and it buys the next run."""
    way, body = all_ways[name], asked(f"fails {name}", stream=stream)
    if stream and not way.streams:
        return
    paid = way.pay(house.shop, body, ORCHESTRATE)
    house.reset(FAILING)
    failed = post(house, body, paid)
    if stream:
        assert failed.status_code == 200 and "event: error" in failed.text and "event: done" not in failed.text
    else:
        assert failed.status_code == 503, failed.text
    assert hold(house, failed)[0] == 0
    if way.after_failure is AfterFailure.BACK:
        back = refund(house.shop, paid).json()["cashu"]
        assert worth(back) == worth(paid.headers["x-cashu"]) - FEE_SATS
        return
    if way.after_failure is AfterFailure.UNTOUCHED:
        seen = books(house.shop).balance(paid.headers["authorization"].removeprefix("Bearer "))
        assert (seen.spent, seen.held) == (0, 0)
    house.reset()
    served = post(house, body, paid)
    assert served.status_code == 200 and "forty-two" in served.text
    assert hold(house, served)[0] == PRICES["fast"]


def test_a_part_of_an_answer_takes_a_part_of_the_price(house: PanelShop, all_ways: dict[str, Way]) -> None:
    """From a balance. A proof of payment buys what comes of it, and the answer says what it cost."""
    house.reset(DEGRADED)
    body = asked("degraded")
    for name in ("balance", "l402"):
        paid = all_ways[name].pay(house.shop, body, ORCHESTRATE)
        answer = post(house, body, paid)
        assert answer.json()["degraded"] is True
        charged = PRICES["fast"] // (2 if name == "balance" else 1)
        assert hold(house, answer)[0] == charged
        assert float(answer.json()["charged_usd"]) == charged / 10**9
        assert answer.json()["credits_charged"] == (0.5 if name == "balance" else 1)


def test_a_price_in_sats_is_what_a_balance_in_sats_pays(house: PanelShop, all_ways: dict[str, Way]) -> None:
    """And not what its dollars are worth today."""
    body = asked("deep", mode="deep")
    paid = all_ways["balance"].pay(house.shop, body, ORCHESTRATE)
    answer = post(house, body, paid)
    assert answer.status_code == 200, answer.text
    hold(house, answer)
    seen = books(house.shop).balance(paid.headers["authorization"].removeprefix("Bearer "))
    assert (seen.spent, seen.held) == (FIXED_SATS * 1000, 0)


# -- who leaves


def asked_all(house: PanelShop) -> Any:
    """All members were asked."""
    return lambda _: books(house.shop).until(lambda: calls(house) >= 3, "they were not asked")


def test_a_payer_who_leaves_has_the_answer_that_was_made(house: PanelShop, all_ways: dict[str, Way]) -> None:
    """The run goes on, retries and all; the same payment shown again gets the stored answer, without a call."""
    slow = Behaviour(head_delay_seconds=0.4)
    house.reset({**APART, "one": Member(roles={"member": slow}), "two": Member("41", "41", roles={"member": slow})})
    body = asked("left")
    paid = all_ways["l402"].pay(house.shop, body, ORCHESTRATE)
    leave(house, body, paid, asked_all(house))
    assert newest(house) == (PRICES["fast"], "client_gone")
    made = calls(house)
    assert ("one", "synthesise") in house.panels.cast.asked
    answer = post(house, body, paid)
    assert (answer.status_code, answer.headers["x-dedup"], calls(house)) == (200, "hit", made)
    assert answer.json()["answer"] == "After all: forty-two."


def test_a_run_whose_payer_left_is_tried_as_hard_as_any_other(house: PanelShop, all_ways: dict[str, Way]) -> None:
    """A call that fails after that is made again."""
    slow = Member(roles={"member": Behaviour(head_delay_seconds=0.4)})
    cast, failed = Cast({**APART, "one": slow}), []

    def once_broken(seen: SeenRequest) -> Behaviour:
        how = cast(seen)
        if role_of(seen) == "synthesise" and not failed:
            failed.append(seen)
            return Behaviour(status=500)
        return how

    house.shop.world.provider.answering = once_broken
    body = asked("left, tried again")
    paid = all_ways["l402"].pay(house.shop, body, ORCHESTRATE)
    leave(house, body, paid, asked_all(house))
    assert newest(house) == (PRICES["fast"], "client_gone")
    assert [name for name, role in cast.asked if role == "synthesise"] == ["one", "one"]
    assert post(house, body, paid).json()["answer"] == "After all: forty-two."


def test_a_payer_who_leaves_a_stream_has_spent_the_payment(house: PanelShop, all_ways: dict[str, Way]) -> None:
    """It is not served again: the answer went out."""
    slow = Behaviour(head_delay_seconds=0.4)
    house.reset({**APART, "one": Member(roles={"member": slow})})
    body = asked("left a stream", stream=True)
    paid = all_ways["l402"].pay(house.shop, body, ORCHESTRATE)
    leave(house, body, paid, asked_all(house))
    assert newest(house) == (PRICES["fast"], "client_gone")
    made = calls(house)
    again = post(house, body, paid)
    assert again.status_code in (401, 402, 409) and calls(house) == made, again.text
    assert books(house.shop).newest().state is PaymentState.BURNT


def test_a_stream_that_fails_after_its_payer_left_leaves_the_payment_free(
    house: PanelShop, all_ways: dict[str, Way]
) -> None:
    """Nothing went out."""
    house.reset(dict.fromkeys(FAILING, Member(roles={"member": Behaviour(status=500, head_delay_seconds=0.4)})))
    body = asked("left, then failed", stream=True)
    paid = all_ways["l402"].pay(house.shop, body, ORCHESTRATE)
    leave(house, body, paid, asked_all(house))
    assert newest(house)[0] == 0
    house.reset()
    assert "event: done" in post(house, body, paid).text


@pytest.mark.parametrize("begun", [False, True])
def test_a_balance_whose_holder_leaves_pays_for_what_was_done(
    house: PanelShop, all_ways: dict[str, Way], begun: bool
) -> None:
    """Every call is cut within a second; before the first token what they cost (the floor at least), then the price."""
    role = "synthesise" if begun else "member"
    speaking = Member(roles={role: SPEAKING})
    house.reset({**APART, "one": speaking} if begun else dict.fromkeys(("one", "two", "three"), speaking))
    body = asked(f"left {begun}", stream=True)
    paid = all_ways["balance"].pay(house.shop, body, ORCHESTRATE)
    provider = house.shop.world.provider

    def ready(connection: Raw) -> None:
        connection.head()
        if begun:
            while b"event: token" not in connection.received:
                connection.chunk()
        else:
            books(house.shop).until(
                lambda: len([one for one in provider.requests if one.pieces_sent > 3]) == 3, "nobody speaks"
            )

    leave(house, body, paid, ready)
    charged, outcome = newest(house)
    assert all(one.cut or one.answered for one in provider.requests)
    seen = books(house.shop).balance(paid.headers["authorization"].removeprefix("Bearer "))
    assert outcome == "client_gone" and seen.held == 0
    if begun:
        assert (charged, seen.spent) == (PRICES["fast"], -(-PRICES["fast"] * 1000 // SAT_PRICE))
    else:
        assert 0 < charged < PRICES["fast"] // 10 and seen.spent == 21_000


# -- many at once


@pytest.mark.parametrize("stream", [False, True])
def test_a_payment_shown_fifty_times_at_once_buys_one_run(
    house: PanelShop, all_ways: dict[str, Way], stream: bool
) -> None:
    """Who comes meanwhile is told so; nobody is asked to pay again."""
    slow = Member(roles={"member": Behaviour(head_delay_seconds=0.5)})
    house.reset(dict.fromkeys(("one", "two", "three"), slow))
    body = asked(f"fifty {stream}", stream=stream)
    paid = all_ways["l402"].pay(house.shop, body, ORCHESTRATE)
    with ThreadPoolExecutor(25) as pool:
        answers = list(pool.map(lambda _: post(house, body, paid), range(50)))
    seen = Counter(answer.status_code for answer in answers)
    assert calls(house) == 3
    fresh = [answer for answer in answers if answer.status_code == 200 and "x-dedup" not in answer.headers]
    assert len(fresh) == 1
    assert set(seen) <= ({200, 409} if not stream else {200, 401, 409}), seen
    assert seen[409] > 0


def test_a_balance_is_never_overdrawn(house: PanelShop, all_ways: dict[str, Way]) -> None:
    """Twenty runs at once of 74 sats each, from a thousand: thirteen run, the others make no call."""
    slow = Member(roles={"member": Behaviour(head_delay_seconds=1.0)})
    house.reset(dict.fromkeys(("one", "two", "three"), slow))
    body = asked("overdrawn")
    paid = all_ways["balance"].pay(house.shop, body, ORCHESTRATE)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: post(house, body, paid), range(20)))
    price = -(-PRICES["fast"] * 1000 // SAT_PRICE)
    fits = Balance.sats * 1000 // price
    assert Counter(answer.status_code for answer in answers) == {200: fits, 402: 20 - fits}
    assert calls(house) == 3 * fits
    books(house.shop).until_ended()
    assert books(house.shop).balance(paid.headers["authorization"].removeprefix("Bearer ")).spent == fits * price
