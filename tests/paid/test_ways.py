"""Every way to pay buys one answer of the same shop, whoever asks how often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import httpx
import pytest

from proxy.ledger.payment_states import PaymentState
from tests.peers.behaviour import Behaviour
from tests.peers.provider import OPENAI_KEY
from tests.support.gateway import GatewayProcess
from tests.support.paid import CHAT, PaidWorld, body
from tests.support.ways_to_pay import EVERY_WAY, AfterFailure, Counterparts, Way, books, selling, ways

AT_ONCE: Final = 20
PROOFS: Final = [param for param in EVERY_WAY if param.values != ("balance",)]


@pytest.fixture(scope="module")
def all_ways(counterparts: Counterparts) -> dict[str, Way]:
    """By name."""
    return ways(counterparts)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, all_ways: dict[str, Way]) -> Iterator[PaidWorld]:
    """One proxy for the whole file, audited at its end by the operator's own command."""
    with selling(tmp_path_factory.mktemp("ways"), *all_ways.values()) as made:
        yield made
        made.world.gateway.cli("ledger", "audit")


@pytest.fixture(scope="module")
def twin(shop: PaidWorld) -> Iterator[GatewayProcess]:
    """A second process on the shop's ledger."""
    with GatewayProcess(shop.world.gateway.folder, environment={"OPENAI_API_KEY": OPENAI_KEY}) as made:
        yield made


@pytest.mark.parametrize("name", PROOFS)
def test_a_payment_shown_by_many_at_once_buys_one_answer(
    shop: PaidWorld, twin: GatewayProcess, all_ways: dict[str, Way], counterparts: Counterparts, name: str
) -> None:
    """At two processes: taken once, one call of the provider. Who comes meanwhile waits, who comes later has it too."""
    asked = body(f"{name} in a crowd")
    paid = all_ways[name].pay(shop, asked)
    urls, provider = (shop.url + CHAT, twin.url("api") + CHAT), shop.world.provider
    provider.reset()
    provider.script(Behaviour(head_delay_seconds=0.2))
    settled = counterparts.trusting.asked

    def show(number: int) -> httpx.Response:
        return httpx.post(urls[number % 2], json=asked, headers=paid.headers, timeout=30)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(show, range(AT_ONCE)))
    assert Counter(answer.status_code for answer in answers).keys() <= {200, 409}
    first = {answer.content for answer in answers if answer.status_code == 200}
    for number in range(2):
        later = show(number)
        assert (later.status_code, {later.content}, later.headers["x-dedup"]) == (200, first, "hit")
    assert len(provider.requests) == 1
    assert counterparts.trusting.asked - settled == (name == "x402")
    books(shop).until_ended()
    assert books(shop).newest().state is PaymentState.BURNT
    books(shop).prove()


@pytest.mark.parametrize("name", EVERY_WAY)
def test_a_payment_buys_one_answer(shop: PaidWorld, all_ways: dict[str, Way], name: str) -> None:
    """Served once, burnt once; shown again it gives the same answer, and the provider is not called again."""
    way = all_ways[name]
    paid = way.pay(shop, body(name))
    calls = len(shop.world.provider.requests)
    with shop.client() as client:
        answer = client.post(CHAT, json=body(name), headers=paid.headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        if way.after_failure is AfterFailure.UNTOUCHED:
            books(shop).until_ended()
            assert len(shop.world.provider.requests) == calls + 1
            return
        again = client.post(CHAT, json=body(name), headers=paid.headers)
    assert (again.status_code, again.content, again.headers["x-dedup"]) == (200, answer.content, "hit")
    assert len(shop.world.provider.requests) == calls + 1
    books(shop).until_ended()
    newest = books(shop).newest()
    assert (newest.state, newest.unit, newest.amount) == (PaymentState.BURNT, paid.unit, paid.amount)
    assert newest.captured == newest.amount - newest.change - newest.fee
