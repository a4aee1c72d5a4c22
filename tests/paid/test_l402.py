"""A stranger without an account: one 402, one paid invoice, one answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paid import CHAT, PaidWorld, body, paid_world


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaidWorld]:
    """One proxy for the whole file."""
    with paid_world(Path(tmp_path_factory.mktemp("paid"))) as made:
        yield made


def test_a_request_without_a_key_is_offered_every_rail(shop: PaidWorld) -> None:
    """The seed's body, the L402 line first, nothing cached, nobody called."""
    shop.world.provider.reset()
    with shop.client() as client:
        answer = client.post(CHAT, json=body())
    assert answer.status_code == 402
    told = answer.json()
    assert (told["error"], told["model"], told["max_tokens"], told["price"]) == ("Payment Required", "gpt-4o", 50, 21)
    assert told["invoice"].startswith("lnbcrt210n")
    assert len(told["paymentHash"]) == 64
    lines = answer.headers.get_list("www-authenticate")
    assert lines[0].startswith('L402 macaroon="')
    assert answer.headers["cache-control"] == "no-store"
    assert shop.world.provider.requests == []


def test_a_paid_invoice_buys_one_answer(shop: PaidWorld) -> None:
    """Served once; what was paid for is what the provider is allowed; the same proof again gives the same answer."""
    with shop.client() as client:
        paid = {"authorization": shop.l402(client.post(CHAT, json=body("buy")))}
        answer = client.post(CHAT, json=body("buy"), headers=paid)
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-payment-id"].startswith("pay_")
        again = client.post(CHAT, json=body("buy"), headers=paid)
        assert (again.status_code, again.content, again.headers["x-dedup"]) == (200, answer.content, "hit")
        other = client.post(CHAT, json=body("other"), headers=paid)
        assert (other.status_code, other.json()["error"]["code"]) == (401, "invalid_payment")
