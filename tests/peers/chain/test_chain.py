"""The chain of the tests is what payments are made for: the token's rules are USDC's."""

from __future__ import annotations

import json
import urllib.request

import pytest

from tests.peers.chain import Chain, calldata, chain, facilitator
from tests.peers.chain.rpc import NodeError


def test_token_is_found_at_the_canonical_address() -> None:
    """Its domain is computed where it stands, so that unmodified clients pay with it."""
    with chain() as c:
        assert c.read(c.usdc, "name()", returns="string") == "USD Coin"
        c.mint(c.payer.address, 7)
        assert c.balance(c.payer.address) == 7
        with pytest.raises(NodeError, match="exceeds balance"):
            c.call("eth_call", {"from": c.other.address, "to": c.usdc, "data": _transfer(c)}, "latest")


def test_wallet_is_put_where_it_was_promised() -> None:
    """CREATE2: an address can be paid, and sign, before there is code at it."""
    with chain() as c:
        factory = c.factory()
        promised = c.wallet_address(factory, c.payer.address)
        assert c.call("eth_getCode", promised, "latest") == "0x"
        c.send(c.other, factory, _create(c))
        assert c.call("eth_getCode", promised, "latest") != "0x"


def test_facilitator_says_what_it_supports() -> None:
    """It is the SDK's own."""
    with chain() as c, facilitator(c) as f, urllib.request.urlopen(f"{f.url}/supported") as answer:
        kinds = json.loads(answer.read())["kinds"]
        assert {"x402Version": 2, "scheme": "exact", "network": c.network} in [
            {name: kind[name] for name in ("x402Version", "scheme", "network")} for kind in kinds
        ]


def _transfer(c: Chain) -> str:
    return calldata("transfer(address,uint256)", c.pay_to, 1)


def _create(c: Chain) -> str:
    return calldata("create(address)", c.payer.address)
