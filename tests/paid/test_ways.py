"""Every way to pay buys one answer of the same shop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proxy.ledger.payment_states import PaymentState
from tests.support.paid import CHAT, PaidWorld, body
from tests.support.ways_to_pay import EVERY_WAY, AfterFailure, Counterparts, Way, books, selling, ways


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
