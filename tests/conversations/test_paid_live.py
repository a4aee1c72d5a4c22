"""Conversations and idempotency of who pays without a key: by the request, and from a prepaid balance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.paid import PAID_CHAIN, PaidWorld, paid_world
from tests.support.panel_world import quick_panel

PATH = "/v1/orchestrate"
QUESTION = {"prompt": "What is a tort?", "mode": "fast"}


def chain() -> list[Any]:
    made = list(PAID_CHAIN)
    made.insert(made.index("catalogue") + 1, "conversations")
    made.insert(made.index("payer_limit") + 1, "idempotency")
    made.insert(made.index("payment") + 1, "consensus")
    return made


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaidWorld]:
    """A running proxy that sells a quick panel's answers."""
    policies = {"consensus": quick_panel(sats=50)}
    with paid_world(tmp_path_factory.mktemp("paid"), chain=chain(), policies=policies) as running:
        yield running


@pytest.mark.parametrize("stream", [False, True])
def test_same_proof_and_key_give_the_stored_answer(shop: PaidWorld, stream: bool) -> None:
    """The price first, under the key too; then one run; then the same bytes without another."""
    with shop.client() as client:
        asked = {**QUESTION, "stream": stream}
        key = {"idempotency-key": "paid"}
        challenge = client.post(PATH, json=asked, headers=key)
        assert challenge.status_code == 402
        headers = {**key, "authorization": shop.l402(challenge)}
        first = client.post(PATH, json=asked, headers=headers)
        assert first.status_code == 200, first.text
        calls = len(shop.world.provider.requests)
        again = client.post(PATH, json=asked, headers=headers)
        assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
        assert (again.content, len(shop.world.provider.requests)) == (first.content, calls)
        other = client.post(PATH, json={**asked, "prompt": "Other?"}, headers=headers)
        assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_mismatch")


def test_proof_has_no_conversation(shop: PaidWorld) -> None:
    """400, whether it has come or not: who pays by the request has no account."""
    with shop.client() as client:
        refused = client.post(PATH, json={**QUESTION, "conversation_id": "new"})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "conversation_id")
        paid = {"authorization": shop.l402(client.post(PATH, json=QUESTION))}
        refused = client.post(PATH, json={**QUESTION, "conversation_id": "new"}, headers=paid)
        assert refused.status_code == 400
        assert client.post(PATH, json=QUESTION, headers=paid).status_code == 200


def test_balance_has_conversations_of_its_own(shop: PaidWorld) -> None:
    """Continued, listed and deleted with its token; another token sees nothing of them."""
    with shop.client() as client:
        tokens = [bought(shop, sats) for sats in (5_000, 6_000)]
        mine, other = [{"authorization": f"Bearer {token}"} for token in tokens]
        first = client.post(PATH, json={**QUESTION, "conversation_id": "new"}, headers=mine)
        assert first.status_code == 200, first.text
        id_ = first.json()["conversation_id"]
        assert client.post(PATH, json={**QUESTION, "conversation_id": id_}, headers=mine).status_code == 200
        found = client.get(f"/v1/conversations/{id_}", headers=mine).json()
        assert len(found["messages"]) == 4
        assert client.get(f"/v1/conversations/{id_}", headers=other).status_code == 404
        assert client.get("/v1/conversations", headers=other).json()["data"] == []
        assert client.delete(f"/v1/conversations/{id_}", headers=mine).json()["deleted"] is True
        assert client.get("/v1/conversations", headers=mine).json()["data"] == []


def bought(shop: PaidWorld, sats: int) -> str:
    """The token of a new balance."""
    with shop.client() as client:
        offer = client.post("/v1/balance", json={"sats": sats}).json()
        shop.wallet.pay(offer["invoice"])
        asked = {"payment_hash": offer["payment_hash"], "poll_secret": offer["poll_secret"]}
        return str(client.post("/v1/balance", json=asked).json()["token"])
