"""Payments on the tests' own chain: authorizations as the rail finds them, and settlers to settle them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from proxy.clock import SystemClock
from proxy.payments.settings import X402
from proxy.payments.x402.payload import Authorization, read
from proxy.payments.x402.settlement import Settler, build_settler
from proxy.payments.x402.verify import Verifier
from tests.peers.chain import NETWORK, Chain, FaultyNode, chain, faulty
from tests.support.fakes import Log
from tests.support.x402 import USDC, Payload

PRICE = 3150
SECONDS = 20.0
"""Long enough on the slowest of machines: nothing waits for it."""


@dataclass
class Till:
    """A chain with a payer of ten dollars, and a node in front of it that may fail."""

    chain: Chain
    node: FaultyNode

    def settings(self, **changes: Any) -> X402:
        """Settled in process, through the node that may fail."""
        own = X402(
            pay_to=self.chain.pay_to,
            assets=(USDC,),
            rpc={NETWORK: self.node.url},
            signer_key="0x" + self.chain.signer.key.hex(),
            settle_seconds=SECONDS,
            development=True,
        )
        return replace(own, **changes)

    def payload(self, **changes: Any) -> Payload:
        """What the payer signs."""
        own = Payload(
            value=PRICE,
            to=self.chain.pay_to,
            payer=self.chain.payer.address,
            signer=self.chain.payer,
            valid_before=self.chain.now() + 120,
            nonce=os.urandom(32),
        )
        return replace(own, **changes)

    def authorization(self, **changes: Any) -> Authorization:
        """The same as the rail finds it, having verified it."""
        payload = self.payload(**changes)
        settings = self.settings(factories=frozenset())
        return Verifier(settings).authorization(read(payload.header(), version=payload.version))

    @property
    def received(self) -> int:
        """What we were paid, in millionths of a dollar."""
        return self.chain.balance(self.chain.pay_to)


@contextmanager
def till() -> Iterator[Till]:
    """A chain of its own."""
    with chain() as own, faulty(own) as node:
        own.mint(own.payer.address, 10_000_000)
        yield Till(own, node)


@asynccontextmanager
async def settler(settings: X402, log: Log | None = None) -> AsyncIterator[Settler]:
    """As the builder builds it, started."""
    built = build_settler(settings, SystemClock(), log or Log())
    await built.start()
    try:
        yield built
    finally:
        await built.aclose()


def requirements(authorization: Authorization) -> dict[str, Any]:
    """What the rail hands on."""
    return {
        "scheme": "exact",
        "network": authorization.asset.network,
        "amount": str(authorization.value),
        "asset": authorization.asset.address,
        "payTo": authorization.pay_to,
        "maxTimeoutSeconds": 120,
        "extra": {"name": authorization.asset.name, "version": authorization.asset.version},
    }
