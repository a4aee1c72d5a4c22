"""A row of the table of payments, and the shapes that the contract gives it."""

# ruff: noqa: S608 (statements are put together from the names of fields of this file only)

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field, fields
from typing import Final

from proxy.ledger.payment_api import Lease, LeaseLost, OnFailure, Payment, Proof, Receipt, Unit
from proxy.ledger.payment_states import TRANSITIONS, Event, PaymentState


@dataclass(slots=True)
class PaymentRow:
    """A payment as it stands in the file, or will after `save`. See `payment_schema`."""

    id: int
    name: str
    rail: str
    key: str
    unit: str
    state: PaymentState
    fence: int
    boot: int | None
    hold: int | None
    orphaned: int
    offered: int
    amount: int
    captured: int
    credited: int
    returned: int
    change: int
    fee: int
    absorbed: int
    expired: int
    held: int
    due_change: int
    due_absorbed: int
    balance: int | None
    binding: str
    detail: bytes = field(repr=False)
    receipt_detail: bytes = field(repr=False)
    reference: str
    reason: str
    on_failure: str
    leases: int
    leases_max: int
    use_until_ms: int
    asked_ms: int
    created_ms: int
    changed_ms: int

    def befall(self, event: Event, reason: str, at_ms: int) -> None:
        """Go where the table of transitions says. Raises LeaseLost where it says nothing."""
        state = TRANSITIONS.get((self.state, event))
        if state is None:
            raise LeaseLost(f"{self.name} is {self.state.name.lower()}: {event.name.lower()} changes nothing")
        self.state, self.reason, self.changed_ms = state, reason, at_ms

    def let_go(self) -> None:
        """Nobody has it any more."""
        self.boot = self.hold = None
        self.orphaned = 0

    @property
    def receipt(self) -> Receipt | None:
        """How it was settled, where it was; without its ecash."""
        if self.state is not PaymentState.SETTLED:
            return None
        return Receipt(
            self.amount, self.fee, self.due_change, self.due_absorbed, self.reference, detail=self.receipt_detail
        )

    @property
    def proof(self) -> Proof:
        """As it was last shown."""
        return Proof(
            rail=self.rail,
            key=self.key,
            unit=Unit(self.unit),
            amount=self.offered,
            settled=False,
            binding=self.binding,
            detail=self.detail,
            leases_max=self.leases_max,
            use_until_ms=self.use_until_ms,
            on_failure=OnFailure(self.on_failure),
        )

    def lease(self, proof: Proof) -> Lease:
        """The right of whoever has it now."""
        settled = self.state is PaymentState.SETTLED
        return Lease(self.name, self.id, self.fence, proof, settled, self.receipt)

    @property
    def payment(self) -> Payment:
        """For everybody else to read."""
        return Payment(
            id=self.name,
            row=self.id,
            fence=self.fence,
            rail=self.rail,
            key=self.key,
            unit=Unit(self.unit),
            state=self.state,
            leased=self.boot is not None,
            amount=self.amount or self.offered,
            captured=self.captured,
            credited=self.credited,
            returned=self.returned,
            change=self.change,
            fee=self.fee,
            absorbed=self.absorbed,
            expired=self.expired,
            binding=self.binding,
            detail=self.detail,
            receipt_detail=self.receipt_detail,
            reference=self.reference,
            reason=self.reason,
            leases=self.leases,
            leases_max=self.leases_max,
            use_until_ms=self.use_until_ms,
            created_ms=self.created_ms,
            changed_ms=self.changed_ms,
            balance=self.balance,
        )


_ALL: Final = tuple(column.name for column in fields(PaymentRow))
_NEVER_CHANGED: Final = frozenset({"id", "name", "rail", "key", "unit", "binding", "created_ms"})
_CHANGED: Final = tuple(name for name in _ALL if name not in _NEVER_CHANGED)
_SELECT: Final = f"SELECT {', '.join(_ALL)} FROM payments"
_NEW: Final = _ALL[1:]
_INSERT: Final = f"INSERT INTO payments ({', '.join(_NEW)}) VALUES ({', '.join('?' * len(_NEW))}) RETURNING id"
_UPDATE: Final = f"UPDATE payments SET {', '.join(f'{name}=?' for name in _CHANGED)} WHERE id=?"


class PaymentTable:
    """Reads and writes rows through the connection of the books; remembers nothing."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def of(self, rail: str, key: str) -> PaymentRow | None:
        """The payment with this proof."""
        return _first(self.where("rail=? AND key=?", rail, key))

    def named(self, name: str) -> PaymentRow | None:
        """The payment with this public id."""
        return _first(self.where("name=?", name))

    def find(self, row_id: int) -> PaymentRow | None:
        """The payment in this row, unless it was forgotten."""
        return _first(self.where("id=?", row_id))

    def at(self, row_id: int) -> PaymentRow:
        """The payment in this row. Raises LeaseLost where it was forgotten."""
        row = self.find(row_id)
        if row is None:
            raise LeaseLost(f"payment {row_id} was forgotten")
        return row

    def where(self, condition: str, *values: int | str) -> list[PaymentRow]:
        """All that meet a condition, which is a constant of the caller's."""
        found = self._execute(f"{_SELECT} WHERE {condition}", values)
        rows = [PaymentRow(*row) for row in found]
        for row in rows:
            row.state = PaymentState(row.state)
        return rows

    def leased_by(self, boot: int) -> int:
        """How many a process has leased."""
        return int(self._execute("SELECT count(*) FROM payments WHERE boot=?", (boot,)).fetchone()[0])

    def add(self, row: PaymentRow) -> None:
        """A new row; its `id` is set."""
        (row.id,) = self._execute(_INSERT, [getattr(row, name) for name in _NEW]).fetchone()

    def save(self, row: PaymentRow) -> None:
        """Write what may have changed."""
        self._execute(_UPDATE, [*[getattr(row, name) for name in _CHANGED], row.id])

    def forget(self, before_ms: int, count_max: int) -> int:
        """Drop some that never brought anything and are nobody's; says how many."""
        return self._execute(
            "DELETE FROM payments WHERE id IN (SELECT id FROM payments"
            " WHERE state IN (0, 6) AND boot IS NULL AND changed_ms<? LIMIT ?)",
            (before_ms, count_max),
        ).rowcount


def _first(rows: list[PaymentRow]) -> PaymentRow | None:
    return rows[0] if rows else None


def seen(proof: Proof, name: str, at_ms: int) -> PaymentRow:
    """A payment at first sight, not yet in the table."""
    return PaymentRow(
        id=0,
        name=name,
        rail=proof.rail,
        key=proof.key,
        unit=proof.unit.value,
        state=PaymentState.SEEN,
        fence=0,
        boot=None,
        hold=None,
        orphaned=0,
        offered=proof.amount,
        amount=0,
        captured=0,
        credited=0,
        returned=0,
        change=0,
        fee=0,
        absorbed=0,
        expired=0,
        held=0,
        due_change=0,
        due_absorbed=0,
        balance=None,
        binding=proof.binding,
        detail=proof.detail,
        receipt_detail=b"",
        reference="",
        reason="seen",
        on_failure=proof.on_failure.value,
        leases=0,
        leases_max=proof.leases_max,
        use_until_ms=proof.use_until_ms,
        asked_ms=0,
        created_ms=at_ms,
        changed_ms=at_ms,
    )
