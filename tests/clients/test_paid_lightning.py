"""Lightning clients that others wrote buy answers of a whole proxy: Alby's for Node, l402-requests for Python."""

from __future__ import annotations

import json
from typing import Any

import pytest
from l402_requests import BudgetController, L402Client, WalletBase
from l402_requests.exceptions import BudgetExceededError

from tests.peers.paywall import wallet_server
from tests.support.paid import CHAT, PaidWorld, body, offered
from tests.support.paid_clients import DEAR, LANE, TEXT, node, said, shop_of

FLOOR = 21
HELLO = [{"role": "user", "content": "Say hello."}]


def by_alby(shop: PaidWorld, client: str, asked: dict[str, Any], **environment: str) -> dict[str, Any]:
    with wallet_server(shop.wallet.pay) as wallet:
        return node("pay-l402.mjs", shop.url + CHAT, asked, CLIENT=client, WALLET_URL=wallet, **environment)


@pytest.mark.needs("node")
@pytest.mark.parametrize(("client", "stream"), [("fetchWithL402", False), ("fetch402", True)])
def test_alby_pays_and_is_answered(shop: PaidWorld, client: str, stream: bool) -> None:
    """402, one invoice paid, 200; a stream to its regular end."""
    calls = len(shop.world.provider.requests)
    told = by_alby(shop, client, body(f"by {client}", stream=stream))
    assert (told["status"], said(told["body"])) == (200, TEXT)
    assert (told["payment"]["amountSat"], len(told["invoices"])) == (FLOOR, 1)
    assert len(shop.world.provider.requests) == calls + 1
    assert told["headers"]["cache-control"] == "no-store"
    assert told["headers"]["content-type"].startswith("text/event-stream") is stream


@pytest.mark.needs("node")
def test_alby_shows_a_payment_again(shop: PaidWorld) -> None:
    """The same request gets the same answer, another one is told why it does not; nothing is paid a second time."""
    asked = body("twice by Alby")
    first = by_alby(shop, "fetch402", asked)
    kept, calls = json.dumps(first["payment"]["credentials"]), len(shop.world.provider.requests)
    again = by_alby(shop, "fetch402", asked, CREDENTIALS=kept)
    assert (again["status"], again["body"], again["invoices"]) == (200, first["body"], [])
    assert again["headers"]["x-dedup"] == "hit"
    other = by_alby(shop, "fetch402", body("twice by Alby", max_tokens=51), CREDENTIALS=kept)
    assert (other["status"], other["invoices"]) == (401, [])
    assert json.loads(other["body"])["error"]["code"] == "invalid_payment"
    assert len(shop.world.provider.requests) == calls


class DevelopmentWallet(WalletBase):
    """Pays with the development node."""

    def __init__(self, shop: PaidWorld) -> None:
        self.shop = shop
        self.paid: list[str] = []

    async def pay_invoice(self, bolt11: str) -> str:
        self.paid.append(bolt11)
        return self.shop.wallet.pay(bolt11)


def by_l402_requests(shop: PaidWorld, budget: BudgetController | None = None) -> tuple[L402Client, DevelopmentWallet]:
    wallet = DevelopmentWallet(shop)
    return L402Client(wallet=wallet, budget=budget or BudgetController(max_sats_per_request=50)), wallet


def test_l402_requests_pays_and_is_answered(shop: PaidWorld) -> None:
    """One invoice, one answer; a new client for the next one, as docs/paying.md has it, within the same budget."""
    budget = BudgetController(max_sats_per_request=50, max_sats_per_hour=3 * FLOOR - 1)
    for number in (1, 2):
        client, wallet = by_l402_requests(shop, budget)
        answer = client.post(shop.url + CHAT, json=body(f"by l402-requests, {number}"))
        assert (answer.status_code, said(answer.text), len(wallet.paid)) == (200, TEXT, 1)
    client, wallet = by_l402_requests(shop, budget)
    with pytest.raises(BudgetExceededError):
        client.post(shop.url + CHAT, json=body("by l402-requests, 3"))
    assert wallet.paid == []


def test_l402_requests_is_told_that_what_it_kept_is_spent(shop: PaidWorld) -> None:
    """A client of it shows its credential again for an hour, for whatever path: 401, and nothing is paid."""
    client, wallet = by_l402_requests(shop)
    first = client.post(shop.url + CHAT, json=body("one of two"))
    second = client.post(shop.url + CHAT, json=body("two of two"))
    assert (first.status_code, second.status_code, len(wallet.paid)) == (200, 401, 1)
    assert second.json()["error"]["message"].startswith("This preimage has already been used")


def test_l402_requests_pays_for_a_stream(shop: PaidWorld) -> None:
    """To its regular end."""
    client, _ = by_l402_requests(shop)
    answer = client.post(shop.url + CHAT, json=body("streamed by l402-requests", stream=True))
    assert (answer.status_code, said(answer.text)) == (200, TEXT)


@pytest.mark.parametrize(
    ("path", "asked", "found"),
    [
        ("/v1/embeddings", {"model": "text-embedding-3-small", "input": ["one", "two"]}, "embedding"),
        ("/v1/messages", {"model": "claude-sonnet", "max_tokens": 50, "messages": HELLO}, TEXT),
        ("/v1/responses", {"model": "gpt-5", "max_output_tokens": 50, "input": "Say hello."}, TEXT),
        ("/v1/chat/completions/gpt-4o", {"messages": HELLO, "max_tokens": 50}, TEXT),
    ],
    ids=["embeddings", "messages", "responses", "model_in_the_path"],
)
def test_every_format_is_sold(shop: PaidWorld, path: str, asked: dict[str, Any], found: str) -> None:
    """The price of each is asked and paid in the same way."""
    client, wallet = by_l402_requests(shop)
    answer = client.post(shop.url + path, json=asked)
    assert (answer.status_code, len(wallet.paid)) == (200, 1), answer.text
    assert found in answer.text


def test_auto_is_sold_as_the_lane_that_it_stands_for(shop: PaidWorld) -> None:
    """The 402 names it; a client that asks for `auto` again and one that took the hint are both served."""
    with shop.client() as client:
        for paid_model in ("auto", LANE):
            challenge = client.post(CHAT, json=body(f"auto, then {paid_model}", model="auto"))
            assert challenge.headers["x-route-model"] == challenge.json()["model"] == LANE
            paid = {"authorization": shop.l402(challenge)}
            answer = client.post(CHAT, json=body(f"auto, then {paid_model}", model=paid_model), headers=paid)
            assert (answer.status_code, said(answer.text)) == (200, TEXT)
        estimate = client.post("/v1/estimate-cost", json={"messages": HELLO, "max_tokens": 50}).json()
        assert (estimate["model"], estimate["costSats"]) == (LANE, FLOOR)


def test_what_is_over_the_budget_of_l402_requests_is_not_paid(shop: PaidWorld) -> None:
    """The amount that it reads stands in the invoice."""
    client, wallet = by_l402_requests(shop)
    with pytest.raises(BudgetExceededError):
        client.post(shop.url + CHAT, json=body("dear", model=DEAR))
    assert wallet.paid == []


@pytest.mark.needs("node")
def test_mpp_alone_is_paid_by_both(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where L402 is off, the same invoice is offered by the Payment scheme; its receipt names the payment."""
    with shop_of(tmp_path_factory.mktemp("mpp"), l402={"enabled": False}) as shop:
        client, wallet = by_l402_requests(shop)
        answer = client.post(shop.url + CHAT, json=body("by MPP"))
        assert (answer.status_code, said(answer.text), len(wallet.paid)) == (200, TEXT, 1)
        assert answer.headers["payment-receipt"]
        for name, stream in (("fetchWithMpp", True), ("fetch402", False)):
            told = by_alby(shop, name, body(f"by {name}", stream=stream))
            assert (told["status"], said(told["body"]), len(told["invoices"])) == (200, TEXT, 1)
        shop.world.gateway.cli("ledger", "audit")


def test_a_client_of_the_older_name_is_served(shop: PaidWorld) -> None:
    """LSAT, by whoever knows the protocol as that."""
    with shop.client() as client:
        macaroon, invoice = offered(client.post(CHAT, json=body("by LSAT")))
        older = {"authorization": f"LSAT {macaroon}:{shop.wallet.pay(invoice)}"}
        answer = client.post(CHAT, json=body("by LSAT"), headers=older)
        assert (answer.status_code, said(answer.text)) == (200, TEXT)


def test_both_names_at_once_are_one_payment(shop: PaidWorld) -> None:
    """aperture's client sends the credential in two Authorization lines, LSAT first. Two lines that differ are refused
    as any header is that may come once.
    """
    with shop.client() as client:
        asked = body("by both names")
        macaroon, invoice = offered(client.post(CHAT, json=asked))
        credential = f"{macaroon}:{shop.wallet.pay(invoice)}"
        lines = [("Authorization", f"LSAT {credential}"), ("Authorization", f"L402 {credential}")]
        answer = client.post(CHAT, json=asked, headers=lines)
        assert (answer.status_code, said(answer.text)) == (200, TEXT)
        other = [lines[0], ("Authorization", f"L402 {macaroon}:{'00' * 32}")]
        refused = client.post(CHAT, json=asked, headers=other)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_header")
