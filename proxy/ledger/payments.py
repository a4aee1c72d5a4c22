"""Proofs of payment: leased, settled, burnt, given back. Synchronous; inside the writer's transaction.

Every change goes through the table of transitions and, but for the first lease, under the fence of the lease that it
is made for: a late word under an older one changes nothing. What can be refused is refused before anything is written.
"""

from __future__ import annotations

import secrets
import sqlite3
from typing import Final

from proxy.ledger.balances import Balances
from proxy.ledger.ecash import Ecash, Owner
from proxy.ledger.paid_answers import PaidAnswers
from proxy.ledger.payment_api import (
    BalanceState,
    Lease,
    LeaseLost,
    NewBalance,
    OnFailure,
    Payment,
    PaymentTaken,
    Proof,
    Receipt,
    StoredAnswer,
    Taken,
)
from proxy.ledger.payment_rows import PaymentRow, PaymentTable, seen
from proxy.ledger.payment_states import Event, PaymentState
from proxy.ledger.transfers import TransferKind, Transfers

LIGHTNING: Final = "lightning"
"""The rail whose keys are payment hashes of invoices."""
ASKED_AGAIN_MS_MAX: Final = 600_000
"""What is unknown is asked about at least so often."""
_PARTS: Final = {
    "fee": (TransferKind.FEE, "fees"),
    "captured": (TransferKind.CAPTURED, "income"),
    "returned": (TransferKind.RETURNED, "returned"),
    "change": (TransferKind.CHANGE, "change"),
    "absorbed": (TransferKind.ABSORBED, "absorbed"),
    "expired": (TransferKind.EXPIRED, "expired"),
}
_FINAL: Final = {
    PaymentState.BURNT: Taken.SPENT,
    PaymentState.REFUNDED: Taken.RETURNED,
    PaymentState.REFUSED: Taken.REFUSED,
}


class Payments:
    """The life of every payment, through the connection of the books."""

    def __init__(self, connection: sqlite3.Connection, transfers: Transfers, balances: Balances) -> None:
        self._execute = connection.execute
        self._transfers = transfers
        self._balances = balances
        self.boot = 0
        """Row id of the boot under which leases are given."""
        self.table = PaymentTable(connection)
        self.ecash = Ecash(connection)
        self.answers = PaidAnswers(connection)

    def of(self, rail: str, key: str) -> Payment | None:
        """As it stands."""
        row = self.table.of(rail, key)
        return None if row is None else row.payment

    def named(self, name: str) -> Payment | None:
        """As it stands."""
        row = self.table.named(name)
        return None if row is None else row.payment

    # -- leases

    def leasable(self, proof: Proof, request_digest: str, at_ms: int, *, for_hold: bool) -> PaymentRow:
        """The payment, not yet changed, once it is sure that it can be leased. Raises PaymentTaken.

        Without a hold it may be leased however often and late it was used: what is settled can always be refunded.
        """
        row = self.table.of(proof.rail, proof.key)
        if row is None:
            return seen(proof, "pay_" + secrets.token_hex(16), at_ms)
        taken = self._taken(row, proof, at_ms, for_hold=for_hold)
        if taken is not None:
            answer = self.answers.of(row.id, request_digest) if taken is Taken.SPENT else None
            raise PaymentTaken(taken, row.payment, answer)
        return row

    @staticmethod
    def _taken(row: PaymentRow, proof: Proof, at_ms: int, *, for_hold: bool) -> Taken | None:
        if row.state in _FINAL:
            return _FINAL[row.state]
        if row.unit != proof.unit.value or (proof.binding != row.binding and (for_hold or proof.binding)):
            return Taken.BOUND
        if row.state is PaymentState.UNKNOWN:
            return Taken.UNKNOWN
        if row.boot is not None:
            return Taken.UNDER_WAY
        late = bool(proof.use_until_ms) and at_ms > proof.use_until_ms
        worn_out = row.leases >= proof.leases_max or late
        return Taken.WORN_OUT if worn_out and for_hold else None

    def lease(self, row: PaymentRow, proof: Proof, hold_id: int | None, at_ms: int) -> Lease:
        """Take what `leasable` let through in the same transaction, for an exchange or (None) for whoever asks."""
        row.befall(Event.LEASE, "leased", at_ms)
        row.fence += 1
        row.leases += 1
        row.boot, row.hold, row.orphaned = self.boot, hold_id, 0
        if row.state is PaymentState.LEASED:
            # Nothing was taken before, so what is shown now is what will be asked for.
            row.offered, row.detail, row.on_failure = proof.amount, proof.detail, proof.on_failure.value
        if hold_id is not None:
            row.leases_max, row.use_until_ms, row.on_failure = (
                proof.leases_max,
                proof.use_until_ms,
                proof.on_failure.value,
            )
        if row.id == 0:
            self.table.add(row)
        if proof.settled and row.state is PaymentState.LEASED:
            self._deposit(row, Receipt(proof.amount), at_ms)
        self.table.save(row)
        return row.lease(proof)

    def end(self, lease: Lease, reason: str, at_ms: int) -> None:
        """Its exchange has ended. Not burnt, it is freed or given back; where outside may still be asked, the lease
        stays until its word comes.
        """
        row = self.table.find(lease.row)
        if row is None or row.fence != lease.fence or row.boot != self.boot:
            return
        if row.state is PaymentState.LEASED and lease.asked:
            row.orphaned, row.hold = 1, None
        elif row.state in (PaymentState.LEASED, PaymentState.SETTLED):
            self._free(row, reason, at_ms)
        else:
            return
        self.table.save(row)

    def recover(self, boot: int, reason: str, at_ms: int) -> tuple[int, int]:
        """End all leases of a process that died; says how many are unknown now, and how many settled ones free."""
        rows = self.table.where("boot=?", boot)
        for row in rows:
            if row.state is PaymentState.LEASED:
                row.befall(Event.DOUBT, reason, at_ms)
                row.let_go()
                row.asked_ms = 0
            else:
                self._free(row, reason, at_ms)
            self.table.save(row)
        unknown = sum(row.state is PaymentState.UNKNOWN for row in rows)
        return unknown, len(rows) - unknown

    def _free(self, row: PaymentRow, reason: str, at_ms: int) -> None:
        settled = row.state is PaymentState.SETTLED
        if settled and row.on_failure == OnFailure.RETURN.value and self.ecash.any_of(row.id):
            self._return(row, reason, at_ms)
            return
        row.befall(Event.FREE, reason, at_ms)
        row.let_go()

    def _under(self, lease: Lease) -> PaymentRow:
        row = self.table.at(lease.row)
        if row.fence != lease.fence:
            raise LeaseLost(f"{lease.id} is in other hands")
        return row

    # -- the word from outside

    def note(self, lease: Lease, detail: bytes) -> None:
        """Keep what is needed to ask again. Raises LeaseLost."""
        row = self._under(lease)
        if row.state not in (PaymentState.LEASED, PaymentState.UNKNOWN):
            raise LeaseLost(f"{row.name} is {row.state.name.lower()}")
        row.detail = detail
        self.table.save(row)

    def settled(self, lease: Lease, receipt: Receipt, at_ms: int) -> None:
        """The money came. Where nobody waits for it any more it is freed, or given back, at once. Raises LeaseLost."""
        row = self._under(lease)
        unserved = row.orphaned or row.state is PaymentState.UNKNOWN
        self._deposit(row, receipt, at_ms)
        self.ecash.add(row.id, receipt.ecash)
        if unserved:
            self._free(row, "settled when nobody waited", at_ms)
        self.table.save(row)

    def doubtful(self, lease: Lease, reason: str, at_ms: int) -> None:
        """Nobody knows. Raises LeaseLost."""
        row = self._under(lease)
        row.befall(Event.DOUBT, reason, at_ms)
        row.let_go()
        row.asked_ms = at_ms
        self.table.save(row)

    def refused(self, lease: Lease, reason: str, at_ms: int) -> None:
        """It never will come. Raises LeaseLost."""
        row = self._under(lease)
        row.befall(Event.REFUSE, reason, at_ms)
        row.let_go()
        row.detail = b""  # Nothing is ever asked about it again, and junk must not fill the disk.
        self.table.save(row)

    def freed(self, lease: Lease, reason: str, at_ms: int) -> None:
        """It did not come. Raises LeaseLost."""
        row = self._under(lease)
        row.befall(Event.FREE, reason, at_ms)
        row.let_go()
        if row.state is PaymentState.SEEN and row.on_failure == OnFailure.FREE.value:
            row.detail = b""  # As above. What comes back as ecash keeps its swap, which may yet take effect.
        self.table.save(row)

    def unknown(self, *, count_max: int, idle_ms: int, at_ms: int) -> list[Lease]:
        """Unknown ones that nobody has asked about for `idle_ms`, longest first, each under a new fence.

        What was in vain so far is asked about after as much time again, so that whoever makes many that stay unknown
        does not keep the reconciler from the others.
        """
        condition = "state=3 AND asked_ms<=? AND asked_ms+min(asked_ms-changed_ms,?)<=? ORDER BY asked_ms LIMIT ?"
        rows = self.table.where(condition, at_ms - idle_ms, ASKED_AGAIN_MS_MAX, at_ms, count_max)
        for row in rows:
            row.fence += 1
            row.asked_ms = at_ms
            self.table.save(row)
        return [row.lease(row.proof) for row in rows]

    def _deposit(self, row: PaymentRow, receipt: Receipt, at_ms: int) -> None:
        row.befall(Event.SETTLE, "settled", at_ms)
        row.amount = row.held = receipt.amount
        row.due_change, row.due_absorbed = receipt.change, receipt.absorbed
        row.reference, row.receipt_detail = receipt.reference, receipt.detail
        if receipt.amount:
            kind = TransferKind.DEPOSITED
            self._transfers.move(row.id, kind, row.unit, "outside", "payments", receipt.amount, at_ms)
        self._part(row, "fee", receipt.fee, at_ms)
        if row.rail == LIGHTNING:
            # It is no longer waited for, whichever way its proof came.
            self._execute(
                "UPDATE invoices SET settled_ms=? WHERE payment_hash=? AND settled_ms IS NULL", (at_ms, row.key)
            )

    # -- what becomes of it

    def burnable(self, lease: Lease) -> PaymentRow:
        """The payment, not yet changed, if it is settled and this very lease still has it. Raises LeaseLost."""
        row = self._under(lease)
        if row.state is not PaymentState.SETTLED or row.boot != self.boot:
            raise LeaseLost(f"{row.name} is {row.state.name.lower()} and not leased here")
        return row

    def burn(self, row: PaymentRow, answer: StoredAnswer | None, at_ms: int) -> int:
        """What `burnable` let through in the same transaction buys the answer; says how much is captured."""
        self._spend(row, "served", at_ms)
        captured = row.held
        self._part(row, "captured", captured, at_ms)
        self.table.save(row)
        if answer is not None:
            self.answers.keep(row.id, answer, at_ms)
        return captured

    def give_back(self, lease: Lease, reason: str, at_ms: int) -> None:
        """All of its ecash is the payer's. Raises LeaseLost."""
        row = self.burnable(lease)
        if not self.ecash.any_of(row.id):
            raise LeaseLost(f"{row.name} has brought no ecash to give back")
        self._return(row, reason, at_ms)
        self.table.save(row)

    def fund(self, lease: Lease, balance: NewBalance | int, at_ms: int) -> BalanceState:
        """It buys a balance. Raises LeaseLost, BalanceMismatch."""
        row = self._under(lease)
        if row.state is PaymentState.BURNT and row.balance is not None:
            return self._balances.funded(row.balance, balance)
        row = self.burnable(lease)
        fitting = self._balances.fundable(balance, row.unit, row.held, at_ms)
        self._spend(row, "funds a balance", at_ms)
        return self._credit(row, fitting, at_ms)

    def refund(self, lease: Lease, balance: NewBalance, at_ms: int) -> BalanceState:
        """It goes back onto a balance. Raises LeaseLost, BalanceMismatch."""
        row = self._under(lease)
        if row.state is PaymentState.REFUNDED and row.balance is not None:
            return self._balances.funded(row.balance, balance)
        row = self.burnable(lease)
        fitting = self._balances.fundable(balance, row.unit, row.held, at_ms)
        row.befall(Event.REFUND, "refunded to a balance", at_ms)
        row.let_go()
        self.ecash.hand(row.id, kept=Owner.US, change=Owner.US)
        return self._credit(row, fitting, at_ms)

    def expire(self, row: PaymentRow, at_ms: int) -> None:
        """Nobody claimed it: what is left of it is ours."""
        row.befall(Event.BURN, "expired", at_ms)
        row.let_go()
        self._part(row, "expired", row.held, at_ms)
        self.ecash.hand(row.id, kept=Owner.US, change=Owner.US)
        self.table.save(row)

    def _spend(self, row: PaymentRow, reason: str, at_ms: int) -> None:
        row.befall(Event.BURN, reason, at_ms)
        row.let_go()
        self._part(row, "change", row.due_change, at_ms)
        self._part(row, "absorbed", row.due_absorbed, at_ms)
        self.ecash.hand(row.id, kept=Owner.US, change=Owner.PAYER)

    def _return(self, row: PaymentRow, reason: str, at_ms: int) -> None:
        row.befall(Event.REFUND, reason, at_ms)
        row.let_go()
        self._part(row, "returned", row.held, at_ms)
        self.ecash.hand(row.id, kept=Owner.PAYER, change=Owner.PAYER)

    def _credit(self, row: PaymentRow, balance: NewBalance | int, at_ms: int) -> BalanceState:
        amount = row.held
        state = self._balances.deposit(balance, row.unit, amount, at_ms)
        row.balance, row.credited, row.held = state.row, amount, 0
        if amount:
            account = self._balances.account_of(state.row)
            self._transfers.move(row.id, TransferKind.CREDITED, row.unit, "payments", account, amount, at_ms)
        self.table.save(row)
        return state

    def _part(self, row: PaymentRow, part: str, amount: int, at_ms: int) -> None:
        """Part of what is held becomes a part of its own, with its transfer."""
        if amount:
            kind, account = _PARTS[part]
            self._transfers.move(row.id, kind, row.unit, "payments", account, amount, at_ms)
            row.held -= amount
            setattr(row, part, getattr(row, part) + amount)
