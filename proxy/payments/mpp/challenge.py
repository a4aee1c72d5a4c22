"""The challenge of the Payment scheme (draft-ryan-httpauth-payment-01) for Lightning (draft-lightning-charge-00).

Its id is a MAC over all that it says: nothing is stored, and no challenge is taken back that was not made here.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from proxy.payments.api import IssuedInvoice
from proxy.payments.mpp.encoding import encode, encode_bytes
from proxy.pricing.money import MSAT_PER_SAT

METHOD: Final = "lightning"
INTENT: Final = "charge"
MS: Final = 1000
_NETWORKS: Final = (("lnbcrt", "regtest"), ("lntbs", "signet"), ("lntb", "testnet"), ("lnbc", "mainnet"))
"""By the prefix of an invoice, the longer ones first."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """The parameters of one challenge, as they stand in the header and come back in the credential."""

    realm: str
    method: str
    intent: str
    request: str
    expires: str
    digest: str
    opaque: str = ""

    def id(self, key: bytes) -> str:
        """The MAC that the draft recommends: over seven slots, of which those that are not given are empty."""
        slots = (self.realm, self.method, self.intent, self.request, self.expires, self.digest, self.opaque)
        return encode_bytes(hmac.digest(key, "|".join(slots).encode(), hashlib.sha256))

    def bound_to(self, digest: str) -> Challenge:
        """The same for a body of this digest."""
        return replace(self, digest=digest)

    def header(self, key: bytes) -> str:
        """The value of `WWW-Authenticate`."""
        pairs: list[tuple[str, str]] = [
            ("id", self.id(key)),
            ("realm", self.realm),
            ("method", self.method),
            ("intent", self.intent),
            ("request", self.request),
            ("expires", self.expires),
        ]
        if self.digest:
            pairs.append(("digest", self.digest))
        return "Payment " + ", ".join(f'{name}="{value}"' for name, value in pairs)


def challenge_of(invoice: IssuedInvoice, *, realm: str, body_digest: str, expires_ms: int) -> Challenge:
    """A challenge to pay this invoice, for a request with this body (SHA-256, hex; "": any)."""
    return Challenge(realm, METHOD, INTENT, request_of(invoice), timestamp(expires_ms), content_digest(body_digest))


def request_of(invoice: IssuedInvoice) -> str:
    """The `request` parameter. The invoice is what counts; the rest is said for those who do not read invoices."""
    details: dict[str, Any] = {"invoice": invoice.bolt11, "paymentHash": invoice.payment_hash}
    network = next((name for prefix, name in _NETWORKS if invoice.bolt11.startswith(prefix)), None)
    if network is not None:
        details["network"] = network
    return encode({"amount": str(invoice.msat // MSAT_PER_SAT), "currency": "sat", "methodDetails": details})


def content_digest(body_digest: str) -> str:
    """RFC 9530's spelling of a SHA-256; "" of ""."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(body_digest)).decode()}:" if body_digest else ""


def timestamp(at_ms: int) -> str:
    """RFC 3339 in UTC, whole seconds, rounded down."""
    return datetime.fromtimestamp(at_ms // MS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def milliseconds(text: str) -> int:
    """Of a timestamp that `timestamp` wrote. Raises ValueError."""
    return round(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()) * MS
