"""Every secret that payments need, derived from one: root keys of macaroons, balance tokens, challenge ids."""

from __future__ import annotations

import hashlib
import hmac


class DerivedKeys:
    """Keys by purpose. One for another purpose tells nothing about this one, nor about the secret."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def derive(self, purpose: str) -> bytes:
        """32 bytes for a purpose such as `l402/root/3`; always the same."""
        return hmac.digest(self._secret, purpose.encode(), hashlib.sha256)
