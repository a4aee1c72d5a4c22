"""How a delivery is signed: the scheme of Standard Webhooks (standardwebhooks.com), symmetric, version 1."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 -- what the scheme puts before a secret


def secret_text(key: bytes) -> str:
    """A signing key as its owner is shown it."""
    return SECRET_PREFIX + base64.b64encode(key).decode()


def signature(key: bytes, event_id: str, unix_seconds: int, body: bytes) -> str:
    """`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`."""
    signed = b".".join((event_id.encode(), str(unix_seconds).encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def signed_headers(keys: Sequence[bytes], event_id: str, unix_seconds: int, body: bytes) -> dict[str, str]:
    """The three headers of a delivery; while a secret is being replaced both keys sign."""
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(unix_seconds),
        "webhook-signature": " ".join(signature(key, event_id, unix_seconds, body) for key in keys),
    }
