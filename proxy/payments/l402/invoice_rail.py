"""What L402 and MPP have in common: an invoice of ours that was paid, and the preimage that proves it.

One invoice buys once, whichever of the two it is shown over: the proof is the payment hash's.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import ClassVar, Final

from proxy.errors import Refusal
from proxy.ledger.payment_api import (
    Invoice,
    Lease,
    PaymentLedger,
    PaymentTaken,
    Proof,
    Receipt,
    Taken,
    Tender,
    Unit,
)
from proxy.ledger.payment_states import PaymentState
from proxy.payments.api import Ask, Outcome, Rail, Settled
from proxy.payments.l402.terms import ANEW, REFUND, Terms, invalid

UNDER_WAY_RETRY_SECONDS: Final = 2
UNKNOWN_RETRY_SECONDS: Final = 30
_HEX: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


def preimage_of(text: str) -> bytes | None:
    """32 bytes from 64 lower-case hex digits; None for anything else."""
    return bytes.fromhex(text) if _HEX.fullmatch(text) else None


def proves(preimage: bytes, payment_hash: bytes) -> bool:
    """Whether this preimage is the one of this hash. Takes the same time wherever they differ."""
    return hmac.compare_digest(hashlib.sha256(preimage).digest(), payment_hash)


@dataclass(frozen=True, slots=True)
class PaidInvoice:
    """An invoice of ours for a request, whose preimage was shown, and what it was made for."""

    invoice: Invoice
    terms: Terms


class InvoiceRail(Rail):
    """A rail whose proof is the preimage of one of our invoices. Nobody outside is ever asked."""

    proofs: ClassVar[str] = "lightning"

    def __init__(self, ledger: PaymentLedger, *, leases_max: int) -> None:
        self._ledger = ledger
        self._leases_max = leases_max

    async def settle(self, lease: Lease, ask: Ask) -> Outcome:
        """The preimage is the settlement."""
        return _settled(lease)

    async def reconcile(self, lease: Lease) -> Outcome:
        """Never in doubt."""
        return _settled(lease)

    def taken(self, error: PaymentTaken) -> Refusal:
        """401 where it is gone for good, 409 while somebody has it, 503 where a wait will tell."""
        details = {"payment_id": error.payment.id}
        match error.why:
            case Taken.UNDER_WAY:
                return Refusal(
                    "payment_under_way",
                    "This payment is being used by another request. Wait for its answer, or try again shortly.",
                    retry_after_seconds=UNDER_WAY_RETRY_SECONDS,
                    details=details,
                )
            case Taken.UNKNOWN:
                return Refusal(
                    "payment_unknown",
                    "It is not known yet what became of this payment. Do not pay again; try again shortly.",
                    retry_after_seconds=UNKNOWN_RETRY_SECONDS,
                    details=details,
                )
            case Taken.SPENT:
                why, advice = "This preimage has already been used", ANEW
            case Taken.RETURNED:
                why, advice = "This payment has already been refunded to a balance", ANEW
            case Taken.WORN_OUT:
                why, advice = "This payment can no longer be used for a request", REFUND
            case Taken.BOUND:
                why, advice = "This payment was first shown for another request", REFUND
            case Taken.REFUSED:
                why, advice = "This payment was refused", ANEW
        return Refusal("invalid_payment", f"{why}. {advice}", details=details)

    async def _paid(self, payment_hash: bytes) -> PaidInvoice:
        """The invoice in the ledger. Raises Refusal where it is not ours, or not one for a request."""
        invoice = await self._ledger.invoice(payment_hash.hex())
        if invoice is None or invoice.purpose != "request":
            raise invalid("This invoice is not known here")
        try:
            terms = Terms.parse(invoice.terms)
        except ValueError:
            raise invalid("What this invoice was made for is not known any more", REFUND) from None
        return PaidInvoice(invoice, terms)

    async def _spent(self, payment_hash: bytes) -> bool:
        """It has bought its answer, which may still be kept: then it matters no more that it came too late."""
        payment = await self._ledger.payment(self.proofs, payment_hash.hex())
        return payment is not None and payment.state is PaymentState.BURNT

    async def _tender(self, paid: PaidInvoice, ask: Ask, proof: Proof) -> Tender:
        """All of the invoice for this request, which is noted as paid: it is pending no more."""
        invoice = paid.invoice
        paid.terms.covers(ask)
        return Tender(Unit.MSAT, invoice.msat, ask.request_digest, proof=proof)

    def _proof(self, invoice: Invoice, *, use_until_ms: int, detail: bytes = b"") -> Proof:
        return Proof(
            rail=self.proofs,
            key=invoice.payment_hash,
            unit=Unit.MSAT,
            amount=invoice.msat,
            settled=True,
            detail=detail,
            leases_max=self._leases_max,
            use_until_ms=use_until_ms,
        )


def _settled(lease: Lease) -> Settled:
    return Settled(Receipt(lease.proof.amount, reference=lease.proof.key))
