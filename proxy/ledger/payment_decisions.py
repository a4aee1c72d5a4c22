"""Payments from outside a running proxy: listed, shown, and decided by the operator where nobody else can know.

Everything goes through a connection of one's own, beside running proxies. A decision fences the reconciler out: what
it still hears of the payment comes too late and changes nothing.
"""

# ruff: noqa: S608 (statements are put together from constants of this file only)

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from proxy.ledger.books import Books
from proxy.ledger.errors import LedgerError
from proxy.ledger.payment_api import EcashProof, Payment, Receipt
from proxy.ledger.payment_rows import PaymentRow
from proxy.ledger.payment_states import PaymentState
from proxy.ledger.transfers import TransferKind

_MOVES: Final = range(TransferKind.DEPOSITED, TransferKind.EXPIRED + 1)


class NotUndecided(LedgerError):
    """Only what is unknown can be decided; the payment is not, or there is none (`payment` None)."""

    def __init__(self, name: str, payment: Payment | None) -> None:
        state = "not there" if payment is None else payment.state.name.lower()
        super().__init__(f"payment {name} is {state}")
        self.payment = payment


@dataclass(frozen=True, slots=True)
class Movement:
    """An amount of a payment that went from one account to another, in the payment's unit."""

    kind: str
    payer: str
    payee: str
    amount: int
    at_ms: int


def payments_now(
    connection: sqlite3.Connection, *, states: Sequence[PaymentState], rail: str | None, count_max: int
) -> list[Payment]:
    """The newest in one of these states, newest first."""
    condition = f"state IN ({', '.join(str(int(state)) for state in states)})"
    order = "ORDER BY changed_ms DESC, id DESC LIMIT ?"
    table = Books(connection).payments.table
    if rail is None:
        rows = table.where(f"{condition} {order}", count_max)
    else:
        rows = table.where(f"{condition} AND rail=? {order}", rail, count_max)
    return [row.payment for row in rows]


def payment_now(connection: sqlite3.Connection, name: str) -> Payment | None:
    """By its public id."""
    return Books(connection).payments.named(name)


def movements_of(connection: sqlite3.Connection, payment: Payment) -> list[Movement]:
    """Every amount that moved for it, oldest first."""
    rows = connection.execute(
        "SELECT kind, payer.name, payee.name, amount, at_ms FROM transfers"
        " JOIN accounts payer ON payer.id = transfers.debit JOIN accounts payee ON payee.id = transfers.credit"
        f" WHERE origin=? AND kind IN ({', '.join(map(str, _MOVES))}) ORDER BY at_ms, kind",
        (payment.row,),
    )
    return [Movement(TransferKind(kind).name.lower(), *rest) for kind, *rest in rows]


def settle_now(connection: sqlite3.Connection, name: str, *, reference: str, reason: str, at_ms: int) -> Payment:
    """The operator has seen the money: all that the payment promised. It is its payer's to use, or to have refunded.

    Durable past a loss of power when it returns. Raises NotUndecided, sqlite3.OperationalError.
    """
    with _deciding(connection, name) as (books, row):
        receipt = Receipt(row.offered, reference=reference)
        books.payments.settled(row.lease(row.proof), receipt, at_ms)
        _say(books, name, reason)
    return _shown(connection, name)


def refuse_now(connection: sqlite3.Connection, name: str, *, reason: str, at_ms: int) -> Payment:
    """The operator is sure that the money did not come and will not. As `settle_now`, the other way."""
    with _deciding(connection, name) as (books, row):
        books.payments.refused(row.lease(row.proof), reason, at_ms)
    return _shown(connection, name)


class NotesNow:
    """Our own ecash, through a connection of one's own: what `proxy.payments.cashu.wallet` asks of a ledger."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def wallet(self, mint: str | None = None) -> tuple[EcashProof, ...]:
        """Of burnt payments and not exported."""
        return Books(self._connection).payments.ecash.wallet(mint)

    async def export(self, secrets: tuple[str, ...]) -> None:
        """Ours no longer. Raises LedgerError, and changes nothing, where one was not ours."""
        with _writing(self._connection) as books:
            books.payments.ecash.export(secrets)


@contextmanager
def _deciding(connection: sqlite3.Connection, name: str) -> Iterator[tuple[Books, PaymentRow]]:
    """The unknown payment under a fence of its own, in one transaction."""
    with _writing(connection) as books:
        row = books.payments.table.named(name)
        if row is None or row.state is not PaymentState.UNKNOWN:
            raise NotUndecided(name, None if row is None else row.payment)
        row.fence += 1
        books.payments.table.save(row)
        yield books, row


@contextmanager
def _writing(connection: sqlite3.Connection) -> Iterator[Books]:
    """One transaction, durable when it is left; nothing is written where it is left by an exception."""
    connection.execute("PRAGMA synchronous=FULL")
    books = Books(connection)
    books.begin()
    try:
        yield books
        books.commit()
    finally:
        if connection.in_transaction:
            books.rollback()


def _say(books: Books, name: str, reason: str) -> None:
    row = books.payments.table.named(name)
    if row is not None:
        row.reason = reason
        books.payments.table.save(row)


def _shown(connection: sqlite3.Connection, name: str) -> Payment:
    payment = payment_now(connection, name)
    if payment is None:
        raise NotUndecided(name, None)
    return payment
