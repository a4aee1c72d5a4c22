"""Wallets that others wrote for Node pay what is offered in the shape that ours is offered in."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from tests.peers.paywall import TEXT, Paywall, paywall, wallet_server

NODE = Path(__file__).parent / "node"
BODY = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 50})
KEY = "0x" + "42" * 32

pytestmark = pytest.mark.needs("node")


def run(script: str, url: str, **environment: str) -> dict[str, Any]:
    """One run of a script against the paywall; what it told."""
    ran = subprocess.run(
        ["node", script],
        cwd=NODE,
        env={**os.environ, "URL": url, "BODY": BODY, **environment},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert ran.returncode == 0, ran.stderr
    told: dict[str, Any] = json.loads(ran.stdout)
    return told


@pytest.fixture
def wall(request: pytest.FixtureRequest) -> Iterator[Paywall]:
    """Offering every rail, or those that the test names."""
    with paywall(rails=getattr(request, "param", Paywall.rails)) as made:
        yield made


def pay_lightning(wall: Paywall, client: str, **environment: str) -> dict[str, Any]:
    """With Alby's client and a wallet that pays the paywall's invoices."""
    with wallet_server(wall.pay) as wallet:
        url = f"{wall.url}/v1/chat/completions"
        return run("pay-l402.mjs", url, CLIENT=client, WALLET_URL=wallet, **environment)


@pytest.mark.parametrize("client", ["fetch402", "fetchWithL402"])
def test_alby_pays_l402_beside_every_other_offer(wall: Paywall, client: str) -> None:
    """The L402 line is the first `WWW-Authenticate`: nothing that stands beside it disturbs."""
    told = pay_lightning(wall, client)
    assert (told["status"], json.loads(told["body"])["choices"][0]["message"]["content"]) == (200, TEXT)
    assert (told["payment"]["amountSat"], len(told["invoices"]), len(wall.paid())) == (21, 1, 1)


def test_alby_shows_a_payment_again_without_paying_twice(wall: Paywall) -> None:
    """Its credential serves for a second try."""
    first = pay_lightning(wall, "fetch402")
    again = pay_lightning(wall, "fetch402", CREDENTIALS=json.dumps(first["payment"]["credentials"]))
    assert (again["status"], again["invoices"], again["payment"]["paid"]) == (401, [], False)


@pytest.mark.parametrize("wall", [("mpp", "x402", "cashu")], indirect=True)
@pytest.mark.parametrize("client", ["fetch402", "fetchWithMpp"])
def test_alby_pays_mpp_where_there_is_no_l402(wall: Paywall, client: str) -> None:
    """The same invoice by the other scheme."""
    told = pay_lightning(wall, client)
    assert (told["status"], told["payment"]["amountSat"]) == (200, 21)
    assert wall.paid()[0].headers["authorization"].startswith("Payment ")


def test_alby_does_not_see_mpp_behind_l402(wall: Paywall) -> None:
    """Its MPP client looks at the beginning of the joined header alone: docs/paying.md says so."""
    told = pay_lightning(wall, "fetchWithMpp")
    assert (told["status"], told["invoices"]) == (402, [])


def test_the_x402_sdk_pays_beside_every_other_offer(wall: Paywall) -> None:
    """Signed for the very amount, resource echoed, receipt read."""
    told = run("pay-x402.mjs", f"{wall.url}/v1/chat/completions", EVM_KEY=KEY)
    assert (told["status"], told["requests"]) == (200, 2)
    assert wall.payers == [told["payer"]] == [Account.from_key(KEY).address]
    assert told["receipt"]["transaction"] == "0x" + "ab" * 32
