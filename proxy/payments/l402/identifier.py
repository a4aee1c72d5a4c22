"""What a macaroon is called: `uint16 version | payment hash | random token id`, 66 bytes, as clients decode it."""

from __future__ import annotations

import secrets
from typing import Final

HASH_BYTES: Final = 32
TOKEN_ID_BYTES: Final = 32
_VERSION: Final = b"\x00\x00"


def new_identifier(payment_hash: bytes) -> bytes:
    """Of a fresh macaroon for this invoice."""
    return _VERSION + payment_hash + secrets.token_bytes(TOKEN_ID_BYTES)


def payment_hash_of(identifier: bytes) -> bytes | None:
    """The invoice that it names; None where it is not of this form."""
    if len(identifier) != len(_VERSION) + HASH_BYTES + TOKEN_ID_BYTES or identifier[:2] != _VERSION:
        return None
    return identifier[2 : 2 + HASH_BYTES]
