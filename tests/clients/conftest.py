"""One proxy for all client tests, each test makes the key it needs; and one that sells by the request."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from tests.peers.chain import NETWORK, Chain, chain
from tests.peers.mint import Mint, Wallet, mint, wallet
from tests.support.paid import CHAT, PaidWorld, body
from tests.support.paid_clients import shop_of
from tests.support.world import World, world

READY_SECONDS_MAX = 10.0


@pytest.fixture(scope="session")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A running proxy in front of scripted OpenAI and Anthropic."""
    with world(tmp_path_factory.mktemp("clients"), listeners={"capture": {"default_team": "default"}}) as running:
        yield running


@pytest.fixture(scope="session")
def key(edge: World) -> str:
    """A key of ours without caps."""
    return edge.gateway.make_key()


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Closes the clients that a test opened."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="session")
def base_chain() -> Iterator[Chain]:
    """anvil, with the dollars of a payer."""
    with chain() as running:
        running.mint(running.payer.address, 1_000_000_000)
        yield running


def settled_by(chain: Chain, signer: LocalAccount) -> dict[str, Any]:
    """x402, settled by the proxy itself with gas of this account: one account for each proxy."""
    return {
        "pay_to": chain.pay_to,
        "rpc": {NETWORK: chain.url},
        "signer_key": "0x" + signer.key.hex(),
        "development": True,
    }


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, base_chain: Chain) -> Iterator[PaidWorld]:
    """Lightning, balances, and x402; its books are proved at the end."""
    with shop_of(tmp_path_factory.mktemp("shop"), x402=settled_by(base_chain, base_chain.signer)) as selling:
        yield selling
        selling.world.gateway.cli("ledger", "audit")


@pytest.fixture(scope="session")
def ecash_mint() -> Iterator[Mint]:
    """nutshell; a swap of up to ten notes costs a sat. For tests that need its program."""
    with mint(fee_ppk=100) as running:
        yield running


@pytest.fixture(scope="session")
def purse(ecash_mint: Mint) -> Iterator[Wallet]:
    """nutshell's own wallet."""
    with wallet(ecash_mint) as running:
        yield running


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory, base_chain: Chain, ecash_mint: Mint) -> Iterator[PaidWorld]:
    """A proxy on every rail at once, ecash among them."""
    signer = Account.from_key("0x" + "33" * 32)
    base_chain.call("anvil_setBalance", signer.address, hex(10**18))
    cashu = {"mints": [{"url": ecash_mint.url, "development": True}]}
    with shop_of(tmp_path_factory.mktemp("market"), cashu=cashu, x402=settled_by(base_chain, signer)) as selling:
        deadline = time.monotonic() + READY_SECONDS_MAX
        with selling.client() as client:
            while "x-cashu" not in client.post(CHAT, json=body()).headers:
                assert time.monotonic() < deadline, selling.world.gateway.log()
                time.sleep(0.05)
        yield selling
        selling.world.gateway.cli("ledger", "audit")
