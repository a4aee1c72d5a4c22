"""Customers' own upstream keys: registered by team, encrypted at rest, served as `byo-*` models that are charged 0."""

from __future__ import annotations

from proxy.byo.cipher import new_key
from proxy.byo.registrations import ALIAS_PREFIX, Invalid, Registration, Wanted, check_public
from proxy.byo.store import ByoStore, NoEncryptionKey, Rekeyed, TooMany, UnknownAlias

__all__ = [
    "ALIAS_PREFIX", "ByoStore", "Invalid", "NoEncryptionKey", "Registration", "Rekeyed", "TooMany", "UnknownAlias",
    "Wanted", "check_public", "new_key",
]  # fmt: skip
