"""The operations of payments and balances that the writer's queue carries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from proxy.ledger.api import Hold
from proxy.ledger.books import Books
from proxy.ledger.operations import Committing, Durability, Holding, Operation, Releasing, Settling
from proxy.ledger.payment_api import Lease, Proof


class HoldingProof(Holding):
    """Durable before anything is asked outside."""

    __slots__ = ()
    durability = Durability.FULL


class SettlingProof(Settling):
    """What becomes of an unburnt proof may be told to its payer at once."""

    __slots__ = ()
    durability = Durability.FULL


class ReleasingProof(Releasing):
    """As `SettlingProof`."""

    __slots__ = ()
    durability = Durability.FULL


class CommittingBalance(Committing):
    """Nothing is burnt: no more durable than the balance's hold."""

    __slots__ = ()
    durability = Durability.NORMAL


class Leasing(Operation):
    """Take a proof without a hold; the result is the Lease."""

    __slots__ = ("at_ms", "proof", "request_digest")
    durability = Durability.FULL

    def __init__(self, proof: Proof, request_digest: str, at_ms: int, future: asyncio.Future[Lease]) -> None:
        super().__init__(future)
        self.proof = proof
        self.request_digest = request_digest
        self.at_ms = at_ms

    def apply(self, books: Books) -> None:
        row = books.payments.leasable(self.proof, self.request_digest, self.at_ms, for_hold=False)
        self.result = books.payments.lease(row, self.proof, None, self.at_ms)


class Unleasing(Operation):
    """End such a lease."""

    __slots__ = ("at_ms", "lease", "reason")
    durability = Durability.FULL
    refusable = False

    def __init__(self, lease: Lease, reason: str, at_ms: int) -> None:
        super().__init__(None)
        self.lease = lease
        self.reason = reason
        self.at_ms = at_ms

    def apply(self, books: Books) -> None:
        books.payments.end(self.lease, self.reason, self.at_ms)


class Writing(Operation):
    """Anything else that changes payments, invoices or ecash; the result is what `write` gives."""

    __slots__ = ("write",)
    durability = Durability.FULL

    def __init__(self, write: Callable[[Books], Any], future: asyncio.Future[Any]) -> None:
        super().__init__(future)
        self.write = write

    def apply(self, books: Books) -> None:
        self.result = self.write(books)


class Word(Writing):
    """What came of asking outside: tried again until it is written."""

    __slots__ = ()
    refusable = False


class Looking(Writing):
    """A mere read."""

    __slots__ = ()
    durability = Durability.NORMAL


def commits(hold: Hold) -> type[Committing]:
    """The operation that commits this hold."""
    return CommittingBalance if hold.balance is not None else Committing


def settles(hold: Hold) -> type[Settling]:
    """The operation that settles it."""
    return Settling if hold.lease is None else SettlingProof


def releases(hold: Hold) -> type[Releasing]:
    """The operation that releases it."""
    return Releasing if hold.lease is None else ReleasingProof
