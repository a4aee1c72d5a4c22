"""Rows that many exchanges of a batch change: read under the write lock, written back once by compare and set."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Hashable
from typing import Any, Protocol

from proxy.ledger.errors import StaleCounters


class Amounts(Protocol):
    """A row with amounts as they will stand after the batch, and as they stood in the file."""

    id: int
    read: tuple[int, ...]

    @property
    def amounts(self) -> tuple[int, ...]: ...


class Remembered[K: Hashable, R: Amounts]:
    """Rows of one table by a key of theirs and by id. `statement` sets `written(row)` where the id and what was `read`
    still hold.
    """

    def __init__(
        self, connection: sqlite3.Connection, statement: str, written: Callable[[R], tuple[Any, ...]], *, rows_max: int
    ) -> None:
        self._executemany = connection.executemany
        self._statement = statement
        self._written = written
        self._rows_max = rows_max
        self._rows: dict[int, R] = {}
        self._ids: dict[K, int] = {}
        self._changed: dict[R, None] = {}

    def find(self, key: K) -> R | None:
        """The row, where it is remembered."""
        return self._rows.get(self._ids.get(key, -1))

    def at(self, row_id: int) -> R | None:
        """The same by its id."""
        return self._rows.get(row_id)

    def keep(self, key: K, row: R) -> R:
        """Remember a row just read; the one that is remembered already stays."""
        self._ids[key] = row.id
        return self._rows.setdefault(row.id, row)

    def change(self, row: R) -> None:
        """It is written back with the batch."""
        self._changed[row] = None

    def write(self) -> None:
        """Write back what has changed. Raises StaleCounters."""
        if not self._changed:
            return
        rows = [(*self._written(row), row.id, *row.read) for row in self._changed]
        if self._executemany(self._statement, rows).rowcount != len(rows):
            raise StaleCounters("rows changed under the write lock")
        for row in self._changed:
            row.read = row.amounts
        self._changed.clear()
        if len(self._rows) > self._rows_max:
            self.forget()

    def forget(self) -> None:
        """Somebody else has written, or the batch was rolled back."""
        self._rows.clear()
        self._ids.clear()
        self._changed.clear()
