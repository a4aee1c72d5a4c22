"""What a Lightning node is to us: something that makes invoices and knows whether they were paid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class NodeInvoice:
    """An invoice as a node made it."""

    payment_hash: str
    """64 hex digits."""
    bolt11: str
    expires_ms: int = 0
    """0: not said; the invoice itself says."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """Whether an invoice was paid. `preimage`, 64 hex digits, never of one that was not."""

    paid: bool
    preimage: str | None = field(default=None, repr=False)


class NodeFailure(Exception):
    """The node cannot be asked, refuses, or answers what cannot be true. Nothing is known of the invoice."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail
        """For the operator; holds no credential."""


class Node(Protocol):
    """One backend. All that it says is checked by `CheckedNode`, so that a backend only has to ask."""

    @property
    def name(self) -> str:
        """Of the backend, as in the settings."""
        ...

    async def create_invoice(self, *, msat: int, memo: str, seconds: int) -> NodeInvoice:
        """Over `msat`, payable for `seconds`. `msat` is a whole number of sats: some nodes know nothing smaller.

        Raises NodeFailure.
        """
        ...

    async def lookup(self, payment_hash: str) -> NodeStatus:
        """Raises NodeFailure, also for an invoice that the node does not know."""
        ...

    async def aclose(self) -> None:
        """Close its connections."""
        ...
