"""A counter where tests pay in ecash: the rail, a ledger on disk, and what the plugins around them do."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from proxy.ledger.api import Hold
from proxy.ledger.payment_api import Lease, Payment
from proxy.ledger.store import SqliteLedger
from proxy.payments.api import Ask, Credential, Declined, HeaderFields, Outcome, Presented, Price, Settled
from proxy.payments.cashu.rail import RAIL, CashuRail
from proxy.payments.collection import record
from proxy.payments.settings import Cashu, Mint
from proxy.pricing.money import Nano
from tests.ledger.making import dispatched, opened, request, settlement
from tests.support.fakes import FakeClock, Log

FLOOR = 21


def ask(msat: int | None = 30_000, **changes: Any) -> Ask:
    """A request that costs so much."""
    price = Price(
        usd=Nano(1),
        input_usd=Nano(1),
        msat=msat,
        input_tokens=1,
        input_chars=1,
        input_items=0,
        output_tokens=1,
        max_tokens=1,
        rates_digest="rates",
    )
    body = str(changes.pop("body", "hello"))
    fields: dict[str, Any] = {
        "method": "POST",
        "path": "/v1/chat/completions",
        "url": "https://llm.test/v1/chat/completions",
        "operation": "chat.completions",
        "model": "gpt-4o",
        "stream": False,
        "price": price,
        "request_digest": hashlib.sha256(body.encode()).hexdigest(),
        "client": "192.0.2.1",
        "now_ms": 1_700_000_000_000,
    }
    return Ask(**{**fields, **changes})


def presented(token: str) -> Presented:
    """As it comes in `X-Cashu`."""
    return Presented(Credential.CASHU, token, hashlib.sha256(token.encode()).hexdigest())


@dataclass
class Paid:
    """What came of a paid request."""

    payment: Payment
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def change(self) -> str:
        """The token that came back, "" for none."""
        return self.headers.get("X-Cashu-Change", "")


class Desk:
    """With `async with`. Its mints may be on loopback."""

    def __init__(self, folder: Path, *urls: str, **changes: Any) -> None:
        self.clock, self.log = FakeClock(), Log()
        self.ledger: SqliteLedger = opened(folder / "tollway.db", self.clock, self.log)
        self.settings = Cashu(
            tuple(Mint(url, development=True) for url in urls), **{"sats_min": FLOOR, "timeout_seconds": 10, **changes}
        )
        self.rail = CashuRail(self.settings, self.ledger, self.clock, self.log)

    async def __aenter__(self) -> Self:
        for mint in self.rail._mints.values():
            await mint.read()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.rail.stop()
        findings = await self.ledger.audit()
        await self.ledger.close()
        assert findings == []

    async def leased(self, token: str, for_: Ask) -> tuple[Hold, Lease]:
        """Checked, and held for. Raises Refusal, PaymentTaken."""
        tender = await self.rail.check(presented(token), for_)
        hold, _ = await dispatched(self.ledger, request(tender=tender))
        assert hold.lease is not None
        return hold, hold.lease

    async def settle(self, hold: Hold, lease: Lease, for_: Ask) -> Outcome:
        """Settled, or not, and written down."""
        outcome = await self.rail.settle(lease, for_)
        await record(self.ledger, lease, outcome, self.log)
        if not isinstance(outcome, Settled):
            self.ledger.release(hold, reason="not paid", at_ms=self.clock.now_ms())
        return outcome

    async def buy(self, token: str, msat: int = 30_000, *, served: bool = True, **changes: Any) -> Paid:
        """The whole way of a paid request, whose upstream answers or fails. Raises Refusal, PaymentTaken, Doubt."""
        for_ = ask(msat, **changes)
        hold, lease = await self.leased(token, for_)
        outcome = await self.settle(hold, lease, for_)
        if isinstance(outcome, Declined):
            raise outcome.refusal
        if not isinstance(outcome, Settled):
            raise Doubt(outcome.reason)
        return await self.finish(hold, lease, served=served)

    async def finish(self, hold: Hold, lease: Lease, *, served: bool = True) -> Paid:
        """The end of a request that was paid for."""
        headers: HeaderFields
        if served:
            await self.ledger.commit(hold)
            headers = await self.rail.served(lease)
            self.ledger.settle(hold, settlement(0))
        else:
            await self.ledger.payment_returned(lease, "upstream failed")
            headers = await self.rail.returned(lease)
            self.ledger.release(hold, reason="upstream failed", at_ms=self.clock.now_ms())
        await self.ledger.flush()
        return Paid(await self.payment(lease), dict(headers))

    async def reconcile(self) -> list[Outcome]:
        """What the reconciler does in one round."""
        self.clock.advance(60)
        outcomes = []
        for lease in await self.ledger.unknown_payments(count_max=10, idle_ms=15_000):
            outcome = await self.rail.reconcile(lease)
            await record(self.ledger, lease, outcome, self.log)
            outcomes.append(outcome)
        return outcomes

    async def payment(self, lease: Lease) -> Payment:
        """As it stands."""
        found = await self.ledger.payment(RAIL, lease.proof.key)
        assert found is not None
        return found

    async def only(self) -> Payment:
        """The payment in the ledger whose proof was shown last."""
        rows = self.ledger._connection.execute("SELECT name FROM payments ORDER BY id DESC").fetchone()
        found = await self.ledger.payment_by_id(rows[0])
        assert found is not None
        return found

    def without_cache(self) -> None:
        """Forget which notes were called spent."""
        self.rail._spent.clear()


class Doubt(Exception):
    """Nobody knows whether the payment was settled."""


def broken(presented_: Presented, value: str) -> Presented:
    """The same with another value."""
    return replace(presented_, value=value)
