"""What pays for an exchange beside its account, inside the transactions of its hold: a proof, or a balance."""

# ruff: noqa: S608 (statements are put together from constants of this file only)

from __future__ import annotations

import sqlite3

from proxy.ledger.api import Hold, HoldRequest
from proxy.ledger.balances import Balances
from proxy.ledger.balances import Row as BalanceRow
from proxy.ledger.payment_api import StoredAnswer, Tender
from proxy.ledger.payment_rows import PaymentRow
from proxy.ledger.payments import Payments

Fitting = PaymentRow | BalanceRow


class Tenders:
    """Both ways to pay, through the connection of the books."""

    def __init__(self, connection: sqlite3.Connection, payments: Payments, balances: Balances) -> None:
        self._execute = connection.execute
        self._payments = payments
        self._balances = balances

    def fitting(self, tender: Tender, request: HoldRequest) -> Fitting:
        """What the tender is taken from, once it is sure that it can be. Raises PaymentTaken, BalanceExceeded."""
        if tender.proof is not None:
            return self._payments.leasable(tender.proof, tender.request_digest, request.at_ms, for_hold=True)
        return self._balances.fitting(tender.balance or b"", tender, request.at_ms)

    def take(self, hold: Hold, tender: Tender, fitting: Fitting) -> None:
        """Lease the proof, or hold from the balance, as `fitting` let through in the same transaction."""
        at_ms = hold.request.at_ms
        if isinstance(fitting, BalanceRow):
            self._balances.hold(fitting, tender.amount, at_ms)
            hold.balance = fitting.id
            column, row_id = "balance", fitting.id
        else:
            if tender.proof is not None:
                hold.lease = self._payments.lease(fitting, tender.proof, hold.id, at_ms)
            column, row_id = "payment", fitting.id
        self._execute(
            f"UPDATE holds SET {column}=?, tender_unit=?, tender_held=?, tender_input=? WHERE id=?",
            (row_id, tender.unit.value, tender.amount, tender.input_amount, hold.id),
        )

    def burnable(self, hold: Hold) -> PaymentRow | None:
        """The payment behind the hold, once it is sure that it can be burnt. Raises LeaseLost."""
        return None if hold.lease is None else self._payments.burnable(hold.lease)

    def burn(self, hold: Hold, payment: PaymentRow, answer: StoredAnswer | None, at_ms: int) -> None:
        """The answer is about to go out: it is what the payment buys, which `burnable` let through."""
        self._paid(hold.id, self._payments.burn(payment, answer, at_ms))

    def end(self, hold: Hold, tendered: int, reason: str, at_ms: int) -> None:
        """The hold has ended: the balance pays, a proof that was not burnt is freed or given back."""
        tender = hold.request.tender
        if hold.balance is not None and tender is not None:
            paid = max(0, min(tendered, tender.amount))
            self._balances.end(hold.balance, hold.id, held=tender.amount, paid=paid, at_ms=at_ms)
            self._paid(hold.id, paid)
        elif hold.lease is not None:
            self._payments.end(hold.lease, reason, at_ms)

    def _paid(self, hold_id: int, amount: int) -> None:
        self._execute("UPDATE holds SET tender_paid=? WHERE id=?", (amount, hold_id))
