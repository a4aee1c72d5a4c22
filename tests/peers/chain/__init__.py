"""A real chain for payments: anvil, a dollar token, wallets that are contracts, and the x402 SDK's own facilitator.

    async with chain() as c:                      # `with` works as well
        c.mint(c.payer.address, 5_000_000)        # five dollars
        with facilitator(c) as f:                 # f.url: /verify, /settle, /supported
            with faulty(c) as node:               # node.url: a JSON-RPC that goes wrong as told
                ...
        assert c.balance(c.pay_to) == ...

Every helper blocks for a millisecond or two. All of it needs `npm ci` in this folder once (`make test` does it).
"""

from __future__ import annotations

from tests.peers.chain.facilitator import Facilitator
from tests.peers.chain.faults import FaultyNode
from tests.peers.chain.node import CHAIN_ID, NETWORK, USDC, Chain, ChainMissing, calldata, sign, wrapped

__all__ = [
    "CHAIN_ID",
    "NETWORK",
    "USDC",
    "Chain",
    "ChainMissing",
    "Facilitator",
    "FaultyNode",
    "calldata",
    "chain",
    "facilitator",
    "faulty",
    "sign",
    "wrapped",
]


def chain(*, block_seconds: int | None = None) -> Chain:
    """A chain of its own, with `with` or `async with`. A block a transaction, or one every so many seconds."""
    return Chain(block_seconds=block_seconds)


def facilitator(of: Chain, *, factories: tuple[str, ...] = ()) -> Facilitator:
    """The x402 SDK's facilitator over HTTP."""
    return Facilitator(of, factories=factories)


def faulty(of: Chain) -> FaultyNode:
    """A JSON-RPC in front of the chain's, whose answers go wrong as a test says."""
    return FaultyNode(of)
