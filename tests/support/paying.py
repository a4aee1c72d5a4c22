"""Payments and balances that are kept in memory, for tests of plugins: the ledger's answers without its books."""

from __future__ import annotations

from proxy.ledger.api import Hold, HoldRequest, Settlement
from proxy.ledger.payment_api import (
    BalanceExceeded,
    BalanceKind,
    BalanceState,
    Lease,
    LeaseLost,
    OnFailure,
    Payment,
    PaymentTaken,
    Proof,
    Receipt,
    StoredAnswer,
    Taken,
    Tender,
    Unit,
)
from proxy.ledger.payment_rows import PaymentRow, seen
from proxy.ledger.payment_states import Event, PaymentState

NOW_MS = 1_700_000_000_000
_FINAL = {
    PaymentState.BURNT: Taken.SPENT,
    PaymentState.REFUNDED: Taken.RETURNED,
    PaymentState.REFUSED: Taken.REFUSED,
    PaymentState.UNKNOWN: Taken.UNKNOWN,
}


class MemoryPayments:
    """States and refusals are the real ledger's; `words` is what was said of payments, in order."""

    def __init__(self) -> None:
        self.rows: list[PaymentRow] = []
        self.answers: dict[int, StoredAnswer] = {}
        self.balances: dict[bytes, int] = {}
        """Left on each, in msat; a test presets them."""
        self.words: list[tuple[str, str]] = []

    async def payment(self, rail: str, key: str) -> Payment | None:
        found = [row.payment for row in self.rows if (row.rail, row.key) == (rail, key)]
        return found[0] if found else None

    async def payment_by_id(self, id_: str) -> Payment | None:
        found = [row.payment for row in self.rows if row.name == id_]
        return found[0] if found else None

    async def lease(self, proof: Proof, request_digest: str) -> Lease:
        return self._lease(proof, request_digest, None)

    def unlease(self, lease: Lease, *, reason: str) -> None:
        self._end(lease, reason)

    async def note_payment(self, lease: Lease, detail: bytes) -> None:
        self._under(lease).detail = detail

    async def payment_settled(self, lease: Lease, receipt: Receipt) -> None:
        row = self._say(lease, Event.SETTLE, "settled")
        row.amount = row.held = receipt.amount
        row.reference, row.receipt_detail = receipt.reference, receipt.detail
        if row.orphaned or row.boot is None:
            self._end(lease, "late")

    async def payment_unknown(self, lease: Lease, reason: str) -> None:
        self._say(lease, Event.DOUBT, reason).let_go()

    async def payment_refused(self, lease: Lease, reason: str) -> None:
        self._say(lease, Event.REFUSE, reason).let_go()

    async def payment_freed(self, lease: Lease, reason: str) -> None:
        self._say(lease, Event.FREE, reason).let_go()

    async def payment_returned(self, lease: Lease, reason: str) -> None:
        row = self._say(lease, Event.REFUND, reason)
        row.let_go()
        row.returned, row.held = row.held, 0

    async def balance(self, digest: bytes) -> BalanceState | None:
        left = self.balances.get(digest)
        kind = BalanceKind.BOUGHT
        return None if left is None else BalanceState(1, Unit.MSAT, kind, left, 0, 0, 0, 0, NOW_MS, 2 * NOW_MS)

    # -- with holds

    async def check(self, request: HoldRequest) -> None:
        """Raises as the real hold does, before anything is held."""
        tender = request.tender
        if tender is None:
            return
        if tender.proof is not None:
            self._refuse_taken(tender.proof, tender.request_digest)
        elif tender.balance is not None:
            state = await self.balance(tender.balance)
            if state is None or tender.amount > state.left:
                raise BalanceExceeded(state)

    def take(self, hold: Hold, tender: Tender) -> None:
        """Lease, or hold from the balance."""
        if tender.proof is not None:
            hold.lease = self._lease(tender.proof, tender.request_digest, hold.id)
        elif tender.balance is not None:
            self.balances[tender.balance] -= tender.amount
            hold.balance = 1

    def burn(self, hold: Hold, answer: StoredAnswer | None) -> None:
        """As `commit`."""
        if hold.lease is None:
            return
        row = self._under(hold.lease)
        if row.state is not PaymentState.SETTLED:
            raise LeaseLost("not settled")
        self._say(hold.lease, Event.BURN, "served").let_go()
        row.captured, row.held = row.held, 0
        if answer is not None:
            self.answers[row.id] = answer

    def end(self, hold: Hold, settlement: Settlement | None) -> None:
        """As `settle` and `release`."""
        tender = hold.request.tender
        if hold.lease is not None:
            self._end(hold.lease, "ended")
        elif tender is not None and tender.balance is not None:
            paid = 0 if settlement is None else min(settlement.tendered, tender.amount)
            self.balances[tender.balance] += tender.amount - paid

    def _refuse_taken(self, proof: Proof, request_digest: str) -> PaymentRow | None:
        found = [row for row in self.rows if (row.rail, row.key) == (proof.rail, proof.key)]
        if not found:
            return None
        (row,) = found
        why = _FINAL.get(row.state)
        if why is None and proof.binding != row.binding:
            why = Taken.BOUND
        if why is None and row.boot is not None:
            why = Taken.UNDER_WAY
        if why is not None:
            answer = self.answers.get(row.id)
            same = answer is not None and answer.request_digest == request_digest
            raise PaymentTaken(why, row.payment, answer if same else None)
        return row

    def _lease(self, proof: Proof, request_digest: str, hold_id: int | None) -> Lease:
        row = self._refuse_taken(proof, request_digest)
        if row is None:
            row = seen(proof, f"pay_{len(self.rows) + 1:032x}", NOW_MS)
            self.rows.append(row)
            row.id = len(self.rows)
        row.befall(Event.LEASE, "leased", NOW_MS)
        row.fence += 1
        row.boot, row.hold = 1, hold_id
        if proof.settled and row.state is PaymentState.LEASED:
            row.befall(Event.SETTLE, "settled", NOW_MS)
            row.amount = row.held = proof.amount
        return row.lease(proof)

    def _under(self, lease: Lease) -> PaymentRow:
        row = self.rows[lease.row - 1]
        if row.fence != lease.fence:
            raise LeaseLost("in other hands")
        return row

    def _say(self, lease: Lease, event: Event, reason: str) -> PaymentRow:
        row = self._under(lease)
        row.befall(event, reason, NOW_MS)
        self.words.append((event.name.lower(), row.name))
        return row

    def _end(self, lease: Lease, reason: str) -> None:
        row = self.rows[lease.row - 1]
        if row.fence != lease.fence or (row.boot is None and not row.orphaned):
            return
        if row.state is PaymentState.LEASED and lease.asked:
            row.orphaned = 1
        elif row.state is PaymentState.SETTLED and row.on_failure == OnFailure.RETURN.value:
            row.befall(Event.REFUND, reason, NOW_MS)
            row.returned, row.held = row.held, 0
            row.let_go()
        elif row.state in (PaymentState.LEASED, PaymentState.SETTLED):
            row.befall(Event.FREE, reason, NOW_MS)
            row.let_go()
