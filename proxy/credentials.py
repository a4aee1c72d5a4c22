"""Credentials as clients write them into a header."""

from __future__ import annotations

import base64
import binascii


def token_of(value: str) -> str:
    """The credential in a header: bare, behind a scheme, or Basic's user (its password where the user is empty)."""
    scheme, _, rest = value.strip().partition(" ")
    rest = rest.strip()
    if not rest:
        return "" if scheme.lower() in ("bearer", "basic") else scheme
    if scheme.lower() != "basic":
        return rest
    try:
        user, _, password = base64.b64decode(rest, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return rest
    return user or password
