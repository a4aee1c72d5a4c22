"""Prepaid balances behind tokens: what was deposited, is held, was paid. Inside the writer's transaction.

A balance is remembered and written back as purses are (`remembered.py`).
"""

# ruff: noqa: S608 (statements are put together from constants of this file only)

from __future__ import annotations

import sqlite3
from typing import Final

from proxy.ledger.errors import AMOUNT_UNITS_MAX, StaleCounters
from proxy.ledger.payment_api import (
    BalanceExceeded,
    BalanceKind,
    BalanceMismatch,
    BalanceState,
    NewBalance,
    Tender,
    Unit,
)
from proxy.ledger.remembered import Remembered
from proxy.ledger.transfers import TransferKind, Transfers

BALANCES_CACHED_MAX: Final = 50_000
EXPIRED_PER_TRANSACTION_MAX: Final = 500
_FIELDS: Final = (
    "id, digest, unit, kind, deposited, spent, held, expired, requests, idle_ms, created_ms, used_ms, ends_ms"
)
_Row = tuple[int, bytes, str, str, int, int, int, int, int, int, int, int, int]


class Row:
    """A balance as it will stand after this batch, and as it stood in the file."""

    __slots__ = (
        "created_ms", "deposited", "digest", "ends_ms", "expired", "held", "id", "idle_ms", "kind", "read", "requests",
        "spent", "unit", "used_ms",
    )  # fmt: skip

    def __init__(self, row: _Row) -> None:
        self.id, self.digest, self.unit, self.kind, self.deposited, self.spent, self.held, self.expired = row[:8]
        self.requests, self.idle_ms, self.created_ms, self.used_ms, self.ends_ms = row[8:]
        self.read = self.amounts

    @property
    def amounts(self) -> tuple[int, int, int, int]:
        return self.deposited, self.spent, self.held, self.expired

    @property
    def left(self) -> int:
        return self.deposited - self.spent - self.held - self.expired

    @property
    def expires_ms(self) -> int:
        """A refund lives for its whole life, however idle."""
        if self.kind == BalanceKind.REFUND.value:
            return self.ends_ms
        return min(self.ends_ms, self.used_ms + self.idle_ms)

    @property
    def state(self) -> BalanceState:
        return BalanceState(
            row=self.id,
            unit=Unit(self.unit),
            kind=BalanceKind(self.kind),
            deposited=self.deposited,
            spent=self.spent,
            held=self.held,
            expired=self.expired,
            requests=self.requests,
            created_ms=self.created_ms,
            expires_ms=self.expires_ms,
        )


class Balances:
    """The table of balances, through the connection of the books."""

    def __init__(self, connection: sqlite3.Connection, transfers: Transfers) -> None:
        self._execute = connection.execute
        self._transfers = transfers
        self._kept: Remembered[bytes, Row] = Remembered(
            connection,
            "UPDATE balances SET deposited=?, spent=?, held=?, expired=?, requests=?, used_ms=?"
            " WHERE id=? AND deposited=? AND spent=? AND held=? AND expired=?",
            lambda row: (*row.amounts, row.requests, row.used_ms),
            rows_max=BALANCES_CACHED_MAX,
        )
        self.forget = self._kept.forget
        self.write = self._kept.write

    def state(self, digest: bytes) -> BalanceState | None:
        """Where a balance stands."""
        row = self._find(digest)
        return None if row is None else row.state

    # -- holds

    def fitting(self, digest: bytes, tender: Tender, at_ms: int) -> Row:
        """The balance, once it is sure that the tender fits into it. Raises BalanceExceeded."""
        row = self._find(digest)
        if row is None or at_ms >= row.expires_ms or row.unit != tender.unit.value or tender.amount > row.left:
            raise BalanceExceeded(None if row is None else row.state)
        return row

    def hold(self, row: Row, amount: int, at_ms: int) -> None:
        """Set `amount` aside, which `fitting` let through in the same transaction."""
        row.held += amount
        row.used_ms = max(row.used_ms, at_ms)
        self._kept.change(row)

    def end(self, row_id: int, hold_id: int, *, held: int, paid: int, at_ms: int) -> None:
        """Pay `paid` of the `held` amount of a hold and free the rest."""
        row = self._loaded(row_id)
        row.held -= held
        self._kept.change(row)
        if paid:
            row.spent += paid
            row.requests += 1
            account = self.account_of(row.id)
            self._transfers.move(hold_id, TransferKind.BALANCE_PAID, row.unit, account, "income", paid, at_ms)

    # -- deposits

    def fundable(self, balance: NewBalance | int, unit: str, amount: int, at_ms: int) -> NewBalance | int:
        """The balance, once it is sure that `amount` can be put onto it. Raises BalanceMismatch."""
        if isinstance(balance, NewBalance):
            if self._find(balance.digest) is not None:
                raise BalanceMismatch("a balance of this token was opened before, with another payment")
            return balance
        row = self._kept.at(balance) or self._read("id=?", balance)
        if row is None or row.unit != unit or at_ms >= row.expires_ms:
            raise BalanceMismatch(f"balance {balance} is not there, has ended, or counts something else")
        if row.deposited + amount > AMOUNT_UNITS_MAX:
            raise BalanceMismatch(f"balance {balance} would hold more than the ledger can count")
        return balance

    def deposit(self, balance: NewBalance | int, unit: str, amount: int, at_ms: int) -> BalanceState:
        """Put on what `fundable` let through in the same transaction."""
        row = self._opened(balance, unit, at_ms) if isinstance(balance, NewBalance) else self._loaded(balance)
        row.deposited += amount
        row.used_ms = max(row.used_ms, at_ms)
        self._kept.change(row)
        return row.state

    def funded(self, row_id: int, balance: NewBalance | int) -> BalanceState:
        """The balance that a payment was put onto before. Raises BalanceMismatch where another one is asked for."""
        row = self._loaded(row_id)
        if balance != row.id if isinstance(balance, int) else balance.digest != row.digest:
            raise BalanceMismatch("the payment was put onto another balance")
        return row.state

    def expire(self, now_ms: int) -> int:
        """End some of the balances past their end that nothing is held from; says how many. Again until it says 0."""
        self.write()
        found = self._execute(
            "SELECT id FROM balances WHERE held = 0 AND spent + expired < deposited AND"
            " CASE kind WHEN 'refund' THEN ends_ms ELSE min(ends_ms, used_ms + idle_ms) END <= ? LIMIT ?",
            (now_ms, EXPIRED_PER_TRANSACTION_MAX),
        ).fetchall()
        for (row_id,) in found:
            row = self._loaded(row_id)
            kind, account = TransferKind.BALANCE_EXPIRED, self.account_of(row.id)
            self._transfers.move(row.id, kind, row.unit, account, "expired", row.left, now_ms)
            row.expired += row.left
            self._kept.change(row)
        return len(found)

    @staticmethod
    def account_of(row_id: int) -> str:
        """Name of the account that a balance is in the book of its unit."""
        return f"balance:{row_id}"

    def _opened(self, balance: NewBalance, unit: str, at_ms: int) -> Row:
        self._execute(
            "INSERT INTO balances (digest, unit, kind, idle_ms, created_ms, used_ms, ends_ms) VALUES (?,?,?,?,?,?,?)",
            (balance.digest, unit, balance.kind.value, balance.idle_ms, at_ms, at_ms, at_ms + balance.life_ms),
        )
        row = self._find(balance.digest)
        if row is None:
            raise StaleCounters("a balance just opened is not there")
        return row

    def _find(self, digest: bytes) -> Row | None:
        return self._kept.find(digest) or self._read("digest=?", digest)

    def _loaded(self, row_id: int) -> Row:
        row = self._kept.at(row_id) or self._read("id=?", row_id)
        if row is None:
            raise StaleCounters(f"balance {row_id} of an open hold is gone")
        return row

    def _read(self, condition: str, value: int | bytes) -> Row | None:
        found = self._execute(f"SELECT {_FIELDS} FROM balances WHERE {condition}", (value,)).fetchone()
        if found is None:
            return None
        return self._kept.keep(found[1], Row(found))
