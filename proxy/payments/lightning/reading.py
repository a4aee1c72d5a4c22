"""BOLT-11 invoices as they are read: the few facts that matter, and whether they are what was asked for."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final

from proxy.clock import Clock
from proxy.payments.lightning.api import Node, NodeFailure, NodeInvoice, NodeStatus

INVOICE_CHARS_MAX: Final = 4096
LIFE_SECONDS_MAX: Final = 86_400
LIFE_PERCENT_MIN: Final = 80
"""An invoice must still be payable for so much of the time asked for; less, and the node's clock is off."""
_HEX_64: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ReadInvoice:
    """What an invoice says."""

    payment_hash: str
    msat: int
    """0: any amount."""
    expires_ms: int
    payment_secret: str


class NotAnInvoice(ValueError):
    """A text that is no BOLT-11 invoice."""


def read_invoice(text: str) -> ReadInvoice:
    """Checksum, form and signature are checked by the bolt11 package. Raises NotAnInvoice."""
    from bitstring import Error as BitsError
    from bolt11 import Bolt11Exception, decode

    if len(text) > INVOICE_CHARS_MAX:
        raise NotAnInvoice(f"longer than {INVOICE_CHARS_MAX} characters")
    try:
        read = decode(text, ignore_exceptions=True)
        payment_hash, secret = read.payment_hash, read.payment_secret or ""
        msat, expires_ms = int(read.amount_msat or 0), read.expiry_time * 1000
    except (Bolt11Exception, BitsError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise NotAnInvoice(f"not a BOLT-11 invoice ({type(error).__name__})") from error
    if not _HEX_64.fullmatch(payment_hash):
        raise NotAnInvoice("it has no payment hash")
    return ReadInvoice(payment_hash, msat, expires_ms, secret)


def preimage_of(preimage: str, payment_hash: str) -> bool:
    """Whether it is the preimage of the hash; in constant time."""
    if not _HEX_64.fullmatch(preimage):
        return False
    return hmac.compare_digest(hashlib.sha256(bytes.fromhex(preimage)).hexdigest(), payment_hash)


class CheckedNode(Node):
    """A node whose answers are held against the invoice itself and the preimage against its hash."""

    def __init__(self, node: Node, clock: Clock) -> None:
        self._node = node
        self._clock = clock

    @property
    def name(self) -> str:
        return self._node.name

    async def create_invoice(self, *, msat: int, memo: str, seconds: int) -> NodeInvoice:
        """Raises NodeFailure where the invoice is not for this amount and time, or not of this hash."""
        made = await self._node.create_invoice(msat=msat, memo=memo, seconds=seconds)
        try:
            read = read_invoice(made.bolt11)
        except NotAnInvoice as error:
            raise NodeFailure(f"{self.name}: its invoice cannot be read: {error}") from error
        if read.payment_hash != made.payment_hash.lower():
            raise NodeFailure(f"{self.name}: its invoice has another payment hash than it says")
        if read.msat != msat:
            raise NodeFailure(f"{self.name}: its invoice is over {read.msat} msat, not the {msat} asked for")
        left_ms = read.expires_ms - self._clock.now_ms()
        if not seconds * 10 * LIFE_PERCENT_MIN <= left_ms <= LIFE_SECONDS_MAX * 1000:
            raise NodeFailure(
                f"{self.name}: its invoice ends in {left_ms // 1000} s, not the {seconds} s asked for: "
                "see whether its clock and ours are right"
            )
        return NodeInvoice(read.payment_hash, made.bolt11, read.expires_ms)

    async def lookup(self, payment_hash: str) -> NodeStatus:
        """Raises NodeFailure where the preimage is another's."""
        if not _HEX_64.fullmatch(payment_hash):
            raise NodeFailure("a payment hash is 64 hex digits")
        status = await self._node.lookup(payment_hash)
        if not status.paid:
            return NodeStatus(False)
        preimage = status.preimage.lower() if status.preimage else None
        if preimage is not None and not preimage_of(preimage, payment_hash):
            raise NodeFailure(f"{self.name}: the preimage that it gives is not this invoice's")
        return NodeStatus(True, preimage)

    async def aclose(self) -> None:
        """Close the node's connections."""
        await self._node.aclose()
