"""Double entry: every amount moves from one account to another, once. Synchronous; inside the writer's transaction."""

from __future__ import annotations

import sqlite3
from enum import IntEnum
from typing import Final

ACCOUNTS_CACHED_MAX: Final = 10_000


class TransferKind(IntEnum):
    """With its origin the idempotency key of a transfer: an origin has at most one of each kind."""

    CHARGED = 1
    """Origin: a hold. The team owes what it is charged, up to the hold, less what a purse pays."""
    CHARGED_OVERAGE = 2
    """Origin: a hold. Our overage account pays what was reported above it."""
    LIST = 3
    LIST_OVERAGE = 4
    PAID = 5
    """Origin: a hold. Its purse pays."""
    DAY_CHARGED = 11
    """Origin: a day's summary. The sum of the pruned transfers of the kind ten below, likewise the next three."""
    DAY_CHARGED_OVERAGE = 12
    DAY_LIST = 13
    DAY_LIST_OVERAGE = 14
    PURSE_PAID = 15
    """Origin: a purse. The sum of its pruned payments."""
    GRANTED = 21
    """Origin: a grant. From the account `grants` into a purse."""
    TAKEN_OUT = 22
    """Origin: a grant of a negative amount. The way back."""
    DEPOSITED = 31
    """Origin: a payment, in the book of its unit, likewise the next seven. From `outside` to `payments`; from there
    each part goes where it belongs."""
    FEE = 32
    CAPTURED = 33
    CREDITED = 34
    RETURNED = 35
    CHANGE = 36
    ABSORBED = 37
    EXPIRED = 38
    BALANCE_PAID = 41
    """Origin: a hold. Its tender's balance pays."""
    BALANCE_FOLDED = 42
    """Origin: a balance. The sum of its pruned payments."""
    BALANCE_EXPIRED = 43
    """Origin: a balance. What was left at its end."""


class Transfers:
    """Accounts by book and name, and the transfers of the batch under way."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._accounts: dict[tuple[str, str], int] = {}
        self._pending: list[tuple[int, int, int, int, int, int]] = []

    def move(self, origin: int, kind: int, book: str, payer: str, payee: str, amount: int, at_ms: int) -> None:
        """Note an amount above 0 that goes from `payer` to `payee`; `write` brings it into the file."""
        self._pending.append((origin, kind, self._account(book, payer), self._account(book, payee), amount, at_ms))

    def write(self) -> None:
        """Write the batch's transfers."""
        if self._pending:
            self._connection.executemany("INSERT INTO transfers VALUES (?,?,?,?,?,?)", self._pending)
            self._pending.clear()

    def forget(self) -> None:
        """Drop what is not written, and the ids of accounts that may be rolled back."""
        self._accounts.clear()
        self._pending.clear()

    def _account(self, book: str, name: str) -> int:
        key = (book, name)
        account = self._accounts.get(key)
        if account is None:
            if len(self._accounts) >= ACCOUNTS_CACHED_MAX:
                self._accounts.clear()
            self._connection.execute("INSERT OR IGNORE INTO accounts (book, name) VALUES (?,?)", key)
            (account,) = self._connection.execute("SELECT id FROM accounts WHERE book=? AND name=?", key).fetchone()
            self._accounts[key] = account
        return int(account)
