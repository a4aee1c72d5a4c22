"""Ecash that payments brought, and whose it is. Synchronous; inside the writer's transaction."""

from __future__ import annotations

import sqlite3
from enum import Enum
from typing import Final

from proxy.ledger.errors import LedgerError
from proxy.ledger.payment_api import EcashProof

_NOTE: Final = "SELECT mint, keyset, amount, secret, signature, dleq, kept FROM ecash"


class Owner(Enum):
    """Who may spend a note."""

    NOBODY = "nobody"
    """Its payment is neither burnt nor given back."""
    US = "us"
    PAYER = "payer"
    EXPORTED = "exported"
    """Was ours; the operator has taken it out."""


class Ecash:
    """The table of notes, through the connection of the books."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self._executemany = connection.executemany

    def add(self, payment_row: int, notes: tuple[EcashProof, ...]) -> None:
        """Keep what a payment brought; nobody's until it is known what becomes of it."""
        self._executemany(
            "INSERT INTO ecash (payment, mint, keyset, amount, secret, signature, dleq, kept, owner)"
            " VALUES (?,?,?,?,?,?,?,?,'nobody')",
            [
                (payment_row, note.mint, note.keyset, note.amount, note.secret, note.signature, note.dleq, note.kept)
                for note in notes
            ],
        )

    def any_of(self, payment_row: int) -> bool:
        """Whether a payment brought any."""
        return self._execute("SELECT 1 FROM ecash WHERE payment=?", (payment_row,)).fetchone() is not None

    def hand(self, payment_row: int, *, kept: Owner, change: Owner) -> None:
        """Say whose a payment's notes are from now on."""
        self._execute(
            "UPDATE ecash SET owner = CASE kept WHEN 1 THEN ? ELSE ? END WHERE payment=?",
            (kept.value, change.value, payment_row),
        )

    def of(self, payment_row: int, *, kept: bool | None) -> tuple[EcashProof, ...]:
        """See `PaymentLedger.ecash_of`."""
        condition = {True: "kept=1 AND owner<>'payer'", False: "kept=0 AND owner='payer'", None: "owner='payer'"}[kept]
        return self._notes(f"payment=? AND {condition} ORDER BY id", payment_row)

    def wallet(self, mint: str | None) -> tuple[EcashProof, ...]:
        """Ours, of one mint or of all."""
        if mint is None:
            return self._notes("owner='us' ORDER BY mint, id")
        return self._notes("owner='us' AND mint=? ORDER BY id", mint)

    def export(self, secrets: tuple[str, ...]) -> None:
        """Ours no longer. Raises LedgerError, and changes nothing, where one was not ours."""
        distinct = tuple(dict.fromkeys(secrets))
        for secret in distinct:
            if self._execute("SELECT 1 FROM ecash WHERE secret=? AND owner='us'", (secret,)).fetchone() is None:
                raise LedgerError("a note to be exported is not ours, or was exported before")
        self._executemany("UPDATE ecash SET owner='exported' WHERE secret=?", [(secret,) for secret in distinct])

    def _notes(self, condition: str, *values: int | str) -> tuple[EcashProof, ...]:
        found = self._execute(f"{_NOTE} WHERE {condition}", values)
        return tuple(
            [
                EcashProof(mint, keyset, amount, secret, signature, dleq, bool(kept))
                for mint, keyset, amount, secret, signature, dleq, kept in found
            ]
        )
