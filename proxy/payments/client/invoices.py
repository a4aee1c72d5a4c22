"""Reading a BOLT-11 invoice before it is paid: what it really asks for, not what the page around it says."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.payments.client.errors import BadOffer, WalletFailure
from proxy.payments.lightning.reading import NotAnInvoice, preimage_of, read_invoice


@dataclass(frozen=True, slots=True)
class Bolt11:
    """What a payer wants to know of an invoice."""

    text: str
    msat: int
    payment_hash: str
    expires_ms: int


def readable(text: object) -> Bolt11:
    """Raises BadOffer, for one without an amount as well: it could take anything."""
    try:
        found = read_invoice(text if isinstance(text, str) else "")
    except NotAnInvoice as error:
        raise BadOffer(f"the invoice cannot be read: {error}") from error
    if not found.msat:
        raise BadOffer("the invoice names no amount")
    return Bolt11(str(text), found.msat, found.payment_hash, found.expires_ms)


def check_preimage(preimage: str, payment_hash: str) -> None:
    """Raises WalletFailure where the wallet gave something else."""
    if not preimage_of(preimage, payment_hash):
        raise WalletFailure("The wallet gave a preimage that is not this invoice's. Look there what it has paid.")
