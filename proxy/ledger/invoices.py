"""Lightning invoices of ours, and how many wait to be paid. Synchronous; inside the writer's transaction."""

# ruff: noqa: S608 (statements are put together from constants of this file only)

from __future__ import annotations

import sqlite3
from typing import Final

from proxy.ledger.payment_api import Invoice, TooManyInvoices

FORGOTTEN_PER_TRANSACTION_MAX: Final = 500
_FIELDS: Final = (
    "payment_hash, bolt11, msat, purpose, client, created_ms, expires_ms, backend, terms, poll_digest, settled_ms"
)


class Invoices:
    """The table of invoices, through the connection of the books."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def add(self, invoice: Invoice, *, pending_max: int, pending_client_max: int) -> None:
        """Keep one, unless too many are waiting to be paid at its beginning. Raises TooManyInvoices."""
        now = invoice.created_ms
        own = self._pending("client=? AND settled_ms IS NULL AND expires_ms>?", pending_client_max, invoice.client, now)
        if own >= pending_client_max:
            raise TooManyInvoices(own=True, limit=pending_client_max)
        if self._pending("settled_ms IS NULL AND expires_ms>?", pending_max, now) >= pending_max:
            raise TooManyInvoices(own=False, limit=pending_max)
        self._execute(
            f"INSERT INTO invoices ({_FIELDS}) VALUES (?,?,?,?,?,?,?,?,?,?,?)",
            (
                invoice.payment_hash,
                invoice.bolt11,
                invoice.msat,
                invoice.purpose,
                invoice.client,
                invoice.created_ms,
                invoice.expires_ms,
                invoice.backend,
                invoice.terms,
                invoice.poll_digest,
                invoice.settled_ms,
            ),
        )

    def of(self, payment_hash: str) -> Invoice | None:
        """The invoice of this hash."""
        row = self._execute(f"SELECT {_FIELDS} FROM invoices WHERE payment_hash=?", (payment_hash,)).fetchone()
        return None if row is None else Invoice(*row)

    def settled(self, payment_hash: str, at_ms: int) -> None:
        """It was seen paid; the first time counts."""
        self._execute(
            "UPDATE invoices SET settled_ms=? WHERE payment_hash=? AND settled_ms IS NULL", (at_ms, payment_hash)
        )

    def forget(self, before_ms: int) -> int:
        """Forget some of those that ended unpaid before that; says how many. Again until it says 0."""
        return self._execute(
            "DELETE FROM invoices WHERE payment_hash IN"
            " (SELECT payment_hash FROM invoices WHERE settled_ms IS NULL AND expires_ms<? LIMIT ?)",
            (before_ms, FORGOTTEN_PER_TRANSACTION_MAX),
        ).rowcount

    def _pending(self, condition: str, count_max: int, *values: int | str) -> int:
        counted = f"SELECT count(*) FROM (SELECT 1 FROM invoices WHERE {condition} LIMIT ?)"
        return int(self._execute(counted, (*values, count_max)).fetchone()[0])
