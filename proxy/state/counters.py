"""All limiter state of one process. Made once; it outlives every reload of the configuration."""

from __future__ import annotations

from typing import Final

from proxy.clock import Clock
from proxy.state.buckets import Accounts, Buckets
from proxy.state.slots import Slots

ENTRIES_MAX: Final = 65_536
"""Accounts kept for one scope, about 300 bytes each."""


class Counters:
    """What `ip_limit`, `payer_limit` and `key_limit` count in.

    Each scope has its own accounts: a flood of addresses evicts no key.
    """

    __slots__ = ("buckets", "ip", "key", "payers", "streams", "team", "user")

    def __init__(self, clock: Clock, *, entries_max: int = ENTRIES_MAX) -> None:
        self.buckets = Buckets(clock)
        self.ip = Accounts(entries_max)
        self.payers = Accounts(entries_max)
        """By kind of request and address."""
        self.key = Accounts(entries_max)
        self.user = Accounts(entries_max)
        self.team = Accounts(entries_max)
        self.streams = Slots()
        """By "total", "ip:ADDRESS", "payer:ADDRESS", "key:ID", "user:NAME" and "team:NAME"."""
