"""What a payer needs of Cashu: the worth of a token, and what a payment request (NUT-18) asks for."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final

from proxy.payments.client.errors import BadOffer

REQUEST_CHARS_MAX: Final = 8192
NOTES_MAX: Final = 1000
MINTS_MAX: Final = 32
_REQUEST: Final = "creqA"


@dataclass(frozen=True, slots=True)
class Worth:
    """What a token says of itself; only its mint knows whether that is so."""

    mint: str
    unit: str
    amount: int


def worth_of(token: str) -> Worth:
    """Of a cashuB token. Raises BadOffer."""
    from proxy.payments.cashu.tokens import BadToken, parse_token

    try:
        found = parse_token(token, notes_max=NOTES_MAX)
    except BadToken as error:
        raise BadOffer(f"This Cashu token cannot be read: {error}") from error
    return Worth(found.mint.rstrip("/"), found.unit, found.amount)


def read_request(text: str) -> tuple[int, tuple[str, ...]]:
    """Sats and mints of a `creqA`. Raises BadOffer."""
    import cbor2

    if not text.startswith(_REQUEST) or len(text) > REQUEST_CHARS_MAX:
        raise BadOffer(f"X-Cashu is no {_REQUEST} payment request of at most {REQUEST_CHARS_MAX} characters")
    body = text.removeprefix(_REQUEST).rstrip("=")
    try:
        content = cbor2.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (cbor2.CBORDecodeError, ValueError, TypeError, RecursionError) as error:
        raise BadOffer("the payment request in X-Cashu cannot be decoded") from error
    if not isinstance(content, dict):
        raise BadOffer("the payment request in X-Cashu is no map")
    amount, mints = content.get("a"), content.get("m") or []
    if content.get("u") != "sat" or not isinstance(amount, int) or isinstance(amount, bool) or amount < 1:
        raise BadOffer("the payment request in X-Cashu names no amount in sats")
    if not isinstance(mints, list) or len(mints) > MINTS_MAX or not all(isinstance(mint, str) for mint in mints):
        raise BadOffer("the mints in X-Cashu are no list of addresses")
    return amount, tuple(mint.rstrip("/") for mint in mints)
