"""Clients that others wrote for Python pay what is offered in the shape that ours is offered in."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from eth_account import Account
from l402_requests import BudgetController, L402Client, WalletBase
from x402 import x402Client
from x402.http.clients import x402HttpxClient
from x402.http.clients.httpx import PaymentError
from x402.mechanisms.evm import EthAccountSigner
from x402.mechanisms.evm.exact.register import register_exact_evm_client

from tests.peers.paywall import TEXT, Paywall, paywall

BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 50}
KEY = "0x" + "42" * 32


class ScriptedWallet(WalletBase):
    """Pays the paywall's invoices."""

    def __init__(self, wall: Paywall) -> None:
        self.wall = wall
        self.paid: list[str] = []

    async def pay_invoice(self, bolt11: str) -> str:
        self.paid.append(bolt11)
        return self.wall.pay(bolt11)


@pytest.fixture
def wall(request: pytest.FixtureRequest) -> Iterator[Paywall]:
    """Offering every rail, or those that the test names."""
    with paywall(rails=getattr(request, "param", Paywall.rails)) as made:
        yield made


@pytest.mark.parametrize(
    ("wall", "scheme"),
    [(Paywall.rails, "L402 "), (("mpp", "x402"), "Payment ")],
    indirect=["wall"],
    ids=["every_rail", "mpp_without_l402"],
)
def test_l402_requests_pays_one_invoice(wall: Paywall, scheme: str) -> None:
    """L402 where it is offered, MPP where it is not; one payment, one answer."""
    wallet = ScriptedWallet(wall)
    client = L402Client(wallet=wallet, budget=BudgetController(max_sats_per_request=50))
    answer = client.post(f"{wall.url}/v1/chat/completions", json=BODY)
    assert (answer.status_code, answer.json()["choices"][0]["message"]["content"]) == (200, TEXT)
    assert len(wallet.paid) == len(wall.paid()) == 1
    assert wall.paid()[0].headers["authorization"].startswith(scheme)


async def test_the_x402_sdk_pays_beside_every_other_offer(wall: Paywall) -> None:
    """Signed for the very amount and payee."""
    account = Account.from_key(KEY)
    client = x402Client()
    register_exact_evm_client(client, EthAccountSigner(account))
    async with x402HttpxClient(client) as http:
        answer = await http.post(f"{wall.url}/v1/chat/completions", json=BODY)
    assert (answer.status_code, json.loads(answer.content)["choices"][0]["message"]["content"]) == (200, TEXT)
    assert wall.payers == [account.address]


async def test_the_x402_sdk_pays_a_dollar_and_not_more(wall: Paywall) -> None:
    """Its own limit, which docs/paying.md tells how to raise: nothing is signed above it."""
    client = x402Client()
    register_exact_evm_client(client, EthAccountSigner(Account.from_key(KEY)))
    async with x402HttpxClient(client) as http:
        wall.atomic = 1_000_000
        assert (await http.post(f"{wall.url}/v1/chat/completions", json=BODY)).status_code == 200
        wall.atomic = 1_000_001
        with pytest.raises(PaymentError, match="max_amount_per_payment"):
            await http.post(f"{wall.url}/v1/chat/completions", json=BODY)
    assert len(wall.paid()) == 1
