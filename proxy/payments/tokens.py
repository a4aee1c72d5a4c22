"""Tokens of prepaid balances: `bal_` and 43 characters, made from one secret and never kept.

A token is derived from the payment that opened its balance, so that an answer that was lost can be given again to
whoever shows that payment again. The ledger knows its SHA-256 alone.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

from proxy.payments.keys import DerivedKeys

PREFIX: Final = "bal_"
TOKEN_CHARS: Final = len(PREFIX) + 43
"""32 bytes in base64url without padding."""
_TOKEN: Final = re.compile(r"bal_[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")
"""The last character carries four bits: no other spelling decodes to the same bytes."""


def token_for(keys: DerivedKeys, payment_id: str) -> str:
    """The token of the balance that this payment opens, bought or refunded; always the same."""
    return PREFIX + _text(keys.derive(f"balance/token/{payment_id}"))


def is_token(text: str) -> bool:
    """Whether `text` has the shape of a token."""
    return len(text) == TOKEN_CHARS and _TOKEN.fullmatch(text) is not None


def digest_of(secret: str) -> bytes:
    """What is kept of a token, or of a secret that polling wants: its SHA-256."""
    return hashlib.sha256(secret.encode()).digest()


def poll_secret_of(raw: bytes) -> str:
    """32 random bytes as the text that polling wants."""
    return _text(raw)


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
