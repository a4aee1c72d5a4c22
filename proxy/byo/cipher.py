"""Secrets at rest: `cryptography`'s MultiFernet (AES-128-CBC with HMAC-SHA256, keys that can be changed).

Fernet binds a token to nothing but its key, so what a secret belongs to is encrypted with it and compared when it is
read: a row whose columns were changed or swapped in the file gives no secret away to another host or team.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

Binding = tuple[str, ...]
"""What a secret belongs to: whose it is and where it is sent."""


class Unreadable(Exception):
    """None of the encryption keys reads it, or it belongs to something else. The message says which."""


def new_key() -> str:
    """A fresh encryption key: 32 random bytes, URL-safe base64."""
    return Fernet.generate_key().decode()


class Cipher:
    """The first key encrypts, all decrypt. Without any key nothing can be sealed or opened."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._fernet = MultiFernet([Fernet(key) for key in keys]) if keys else None

    @property
    def ready(self) -> bool:
        """There is a key."""
        return self._fernet is not None

    def seal(self, binding: Binding, secret: str) -> bytes:
        """The secret, encrypted together with what it belongs to. Raises Unreadable without a key."""
        return self._ready().encrypt(orjson.dumps([*binding, secret]))

    def open(self, binding: Binding, sealed: bytes) -> str:
        """The secret. Raises Unreadable."""
        try:
            *bound, secret = orjson.loads(self._ready().decrypt(sealed))
        except InvalidToken as error:
            raise Unreadable("none of the encryption keys reads it") from error
        if tuple(bound) != binding:
            raise Unreadable("it was encrypted for another registration")
        return str(secret)

    def reseal(self, sealed: bytes) -> bytes:
        """The same secret under the first key. Raises Unreadable."""
        try:
            return self._ready().rotate(sealed)
        except InvalidToken as error:
            raise Unreadable("none of the encryption keys reads it") from error

    def _ready(self) -> MultiFernet:
        if self._fernet is None:
            raise Unreadable("no encryption key is configured")
        return self._fernet
