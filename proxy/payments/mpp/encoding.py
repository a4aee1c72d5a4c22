"""How the Payment scheme writes JSON into headers: canonical (RFC 8785), then base64url without padding."""

from __future__ import annotations

import base64
from typing import Any

import orjson


def encode(content: dict[str, Any]) -> str:
    """Members sorted by name. Names are ASCII and there are no floats: the order and spelling are RFC 8785's."""
    return encode_bytes(orjson.dumps(content, option=orjson.OPT_SORT_KEYS))


def encode_bytes(raw: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(text: str) -> dict[str, Any]:
    """A JSON object from base64url, padded or not. Raises ValueError; there is one spelling of the same bytes."""
    raw = _decode_bytes(text)
    content = orjson.loads(raw)
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    return content


def _decode_bytes(text: str) -> bytes:
    bare = text.rstrip("=")
    padded = bare + "=" * (-len(bare) % 4)
    raw = base64.b64decode(padded, altchars=b"-_", validate=True)
    if text not in (bare, padded) or encode_bytes(raw) != bare:
        raise ValueError("not canonical base64url")
    return raw
