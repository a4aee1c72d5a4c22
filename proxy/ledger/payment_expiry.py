"""What grows old: balances at their end, money that nobody claims, and what never was money. Inside a transaction."""

from __future__ import annotations

from typing import Final

from proxy.ledger.books import Books

_DAY_MS: Final = 86_400_000
UNCLAIMED_MS: Final = 365 * _DAY_MS
"""Settled money that nobody has used for so long is ours; invoices that nobody paid are forgotten."""
NOTHING_TAKEN_MS: Final = 30 * _DAY_MS
"""A proof that never brought anything is forgotten after so long: far longer than any can be used."""
ROWS_PER_TRANSACTION_MAX: Final = 200


def expire(books: Books, now_ms: int) -> int:
    """End some balances and settled payments; says how many. Again until it says 0."""
    table = books.payments.table
    condition = "state=2 AND boot IS NULL AND changed_ms<=? LIMIT ?"
    rows = table.where(condition, now_ms - UNCLAIMED_MS, ROWS_PER_TRANSACTION_MAX)
    for row in rows:
        books.payments.expire(row, now_ms)
    return len(rows) + books.balances.expire(now_ms)


def forget(books: Books, now_ms: int) -> int:
    """Forget some proofs and invoices of long ago that brought nothing; says how many. Again until it says 0."""
    forgotten = books.payments.table.forget(now_ms - NOTHING_TAKEN_MS, ROWS_PER_TRANSACTION_MAX)
    return forgotten + books.invoices.forget(now_ms - UNCLAIMED_MS)
