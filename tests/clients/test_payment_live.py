"""Wallets against a whole proxy, a real chain with the x402 SDK's facilitator, and a real mint: money really moves."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from eth_account import Account
from typer.testing import CliRunner

from proxy.cli import app
from proxy.cli.pay_options import BALANCE_VARIABLE, KEY_VARIABLE, TOKEN_VARIABLE
from proxy.payments.cashu.tokens import parse_token
from proxy.payments.client import payer
from tests.clients.test_payment_node import NODE
from tests.peers.behaviour import Behaviour
from tests.peers.chain import Chain, chain, facilitator
from tests.peers.mint import PROGRAM, Mint, Wallet, mint, wallet
from tests.support.paid import PaidWorld, body, paid_world

TEXT = Behaviour().text
PAY_TO = Account.from_key("0x" + "77" * 32).address
DOLLAR = 1_000_000
NOTES_A_SAT = 10
"""That the mint swaps for a sat; a part of them costs a whole one."""
NOTHING = dict.fromkeys((KEY_VARIABLE, TOKEN_VARIABLE, BALANCE_VARIABLE), "")
pytestmark = pytest.mark.needs(PROGRAM)


@dataclass(slots=True)
class Market:
    """The proxy and those who hold the money."""

    shop: PaidWorld
    chain: Chain
    mint: Mint
    wallet: Wallet
    folder: Path

    def pay(self, *arguments: str, **environment: str) -> Result:
        """`tollway pay`, as a payer runs it."""
        kept = ["--kept", str(self.folder / "kept.json")]
        return CliRunner().invoke(app, ["pay", *arguments, *kept], env={**NOTHING, **environment}, terminal_width=200)

    def asking(self, *more: str, model: str = "gpt-4o") -> list[str]:
        """The arguments of a small request."""
        return ["--url", self.shop.url, "--model", model, "--max-tokens", "50", "Say hello.", *more]

    @property
    def key(self) -> str:
        """Of the account that has dollars."""
        return "0x" + bytes(self.chain.payer.key).hex()

    def dev(self) -> list[str]:
        """The options that pay the development node's invoices."""
        return ["--dev", "--config", str(self.shop.world.gateway.folder / "config.yaml")]


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    folder = tmp_path_factory.mktemp("market")
    with ExitStack() as stack:
        money = stack.enter_context(chain())
        money.mint(money.payer.address, 5 * DOLLAR)
        notes = stack.enter_context(mint())
        payments = {
            "x402": {
                "pay_to": PAY_TO,
                "facilitator": stack.enter_context(facilitator(money)).url,
                "rpc": {money.network: money.url},
                "development": True,
            },
            "cashu": {"mints": [{"url": notes.url, "development": True}]},
        }
        shop = stack.enter_context(paid_world(folder / "proxy", payments=payments))
        yield Market(shop, money, notes, stack.enter_context(wallet(notes)), folder)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is shown again is shown again at once."""
    monkeypatch.setattr(payer, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr(payer, "WAIT_SECONDS_MAX", 0.5)


def test_our_client_pays_dollars(market: Market) -> None:
    """They are on the operator's account when the answer comes, and the transaction is told."""
    before = market.chain.balance(PAY_TO)
    ran = market.pay(*market.asking("--json"), TOLLWAY_PAY_KEY=market.key)
    assert ran.exit_code == 0, ran.stdout + ran.stderr
    told = json.loads(ran.stdout)
    assert (told["answer"], told["paid"]["rail"]) == (TEXT, "x402")
    assert market.chain.balance(PAY_TO) - before == told["paid"]["amount"] >= 1000
    assert int(market.chain.receipt(told["transaction"])["status"], 16) == 1
    assert market.key[2:] not in ran.stdout + ran.stderr + market.shop.world.gateway.log()


@pytest.mark.needs("node")
def test_the_x402_sdk_for_node_pays_dollars(market: Market) -> None:
    """A stranger's client, beside every other offer."""
    before = market.chain.balance(PAY_TO)
    ran = subprocess.run(
        ["node", "pay-x402.mjs"],
        cwd=NODE,
        env={
            **os.environ,
            "URL": f"{market.shop.url}/v1/chat/completions",
            "BODY": json.dumps(body("from node")),
            "EVM_KEY": market.key,
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    told: dict[str, Any] = json.loads(ran.stdout)
    assert (told["status"], json.loads(told["body"])["choices"][0]["message"]["content"]) == (200, TEXT)
    assert (told["receipt"]["success"], told["receipt"]["payer"]) == (True, told["payer"])
    assert market.chain.balance(PAY_TO) > before


def test_our_client_pays_with_ecash_and_its_change_is_money(market: Market) -> None:
    """The mint redeems the change; the operator's wallet holds the price."""
    ran = market.pay(*market.asking("--json"), TOLLWAY_PAY_CASHU=market.wallet.send(64))
    assert ran.exit_code == 0, ran.stdout + ran.stderr
    told = json.loads(ran.stdout)
    change, price = told["change"], told["paid"]["amount"] // 1000
    assert told["answer"] == TEXT
    assert 0 < change["sats"] <= 64 - price
    assert market.wallet.receive(change["token"]) >= change["sats"] - 1
    held = json.loads(market.shop.world.gateway.cli("wallet", "balance", "--json").stdout)
    assert held["mints"][market.mint.url] >= price


def test_what_the_operator_takes_out_is_money(market: Market) -> None:
    """The mint redeems it; it is no longer in the wallet."""
    paid = market.pay(*market.asking(), TOLLWAY_PAY_CASHU=market.wallet.send(64))
    assert paid.exit_code == 0, paid.stderr
    gateway = market.shop.world.gateway
    held = json.loads(gateway.cli("wallet", "balance", "--json").stdout)["sats"]
    tokens = gateway.cli("wallet", "export", "--all", "--yes").stdout.split()
    redeemed = sum(market.wallet.receive(token) for token in tokens)
    fees = sum(-(-len(parse_token(token, notes_max=1000).notes) // NOTES_A_SAT) for token in tokens)
    assert (len(tokens) > 0, redeemed) == (True, held - fees)
    assert json.loads(gateway.cli("wallet", "balance", "--json").stdout)["sats"] == 0


def test_a_balance_is_bought_spent_and_topped_up(market: Market) -> None:
    """From nothing to an API key in one command."""
    bought = market.pay("balance", "--sats", "1000", "--url", market.shop.url, *market.dev())
    assert bought.exit_code == 0, bought.stderr
    token = bought.stdout.strip()
    asked = market.pay(*market.asking("--stream"), TOLLWAY_PAY_BALANCE=token)
    assert (asked.exit_code, asked.stdout) == (0, TEXT + "\n"), asked.stderr
    assert "979 sats left" in asked.stderr
    top_up = ["balance", "--sats", "500", "--top-up", "--url", market.shop.url, *market.dev()]
    assert market.pay(*top_up, TOLLWAY_PAY_BALANCE=token).exit_code == 0
    status = market.pay("status", "--url", market.shop.url, TOLLWAY_PAY_BALANCE=token)
    assert status.stdout == "1479 sats left.\n"


@pytest.mark.parametrize("rail", ["x402", "cashu"])
def test_a_balance_is_bought_at_once(market: Market, rail: str) -> None:
    """With dollars, or ecash."""
    variables = {"x402": {"TOLLWAY_PAY_KEY": market.key}, "cashu": {"TOLLWAY_PAY_CASHU": market.wallet.send(512)}}
    more = ["--max-sats", "512"] if rail == "cashu" else []
    bought = market.pay("balance", "--sats", "500", "--url", market.shop.url, *more, **variables[rail])
    assert bought.exit_code == 0, bought.stderr
    asked = market.pay(*market.asking(), TOLLWAY_PAY_BALANCE=bought.stdout.strip())
    assert (asked.exit_code, asked.stdout) == (0, TEXT + "\n"), asked.stderr


@pytest.mark.parametrize("rail", ["l402", "x402"])
def test_a_payment_whose_upstream_failed_is_retried_and_then_refunded(market: Market, rail: str) -> None:
    """Kept by the client, given back by the proxy, spent from the balance that it became."""
    means = market.dev() if rail == "l402" else []
    ran = market.pay(*market.asking(*means, model="dead-end"), TOLLWAY_PAY_KEY="" if means else market.key)
    assert (ran.exit_code, "tollway pay refund" in ran.stderr) == (1, True), ran.stderr
    refunded = market.pay("refund")
    assert refunded.exit_code == 0, refunded.stderr
    left = market.pay("status", "--url", market.shop.url, TOLLWAY_PAY_BALANCE=refunded.stdout.strip())
    assert "left." in left.stdout
    assert "bought nothing" not in left.stdout


def test_ecash_whose_upstream_failed_comes_back(market: Market) -> None:
    """At once, with the answer that says so; the mint redeems it."""
    ran = market.pay(*market.asking("--json", model="dead-end"), TOLLWAY_PAY_CASHU=market.wallet.send(64))
    assert ran.exit_code == 1, ran.stdout
    told = json.loads(ran.stdout)
    back = next(step for step in told["steps"] if step["step"] == "change")
    assert market.wallet.receive(back["token"]) >= 62


def test_the_books_hold_after_all_of_it(market: Market) -> None:
    """Whatever order the tests ran in."""
    market.pay(*market.asking(), TOLLWAY_PAY_KEY=market.key)
    assert "The books hold" in market.shop.world.gateway.cli("ledger", "audit").stdout
    assert market.shop.world.gateway.cli("payments", "stuck", check=False).returncode == 0
