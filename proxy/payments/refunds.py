"""A payment that bought nothing goes back to its payer: to a balance in the currency that was paid, for a year.

The right to it is proven by whoever asks, before any of this. Nothing is credited twice, however many ask at once, and
who asks again is told the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from proxy.errors import Refusal
from proxy.ledger.payment_api import (
    BalanceKind,
    BalanceState,
    EcashProof,
    Lease,
    LeaseLost,
    NewBalance,
    OnFailure,
    Payment,
    PaymentLedger,
    PaymentTaken,
    Proof,
    Taken,
)
from proxy.ledger.payment_states import PaymentState
from proxy.payments.api import Doubtful, Outcome, Rail, Settled
from proxy.payments.balance.funding import DAY_MS, opened_by
from proxy.payments.collection import record, unknown
from proxy.payments.rails import Rails
from proxy.payments.together import Together
from proxy.payments.tokens import digest_of, token_for

UNDER_WAY_SECONDS: Final = 2


@dataclass(frozen=True, slots=True)
class Refunded:
    """Where the money is now: on a balance, or in ecash."""

    payment_id: str
    token: str | None = field(repr=False)
    state: BalanceState | None
    ecash: tuple[EcashProof, ...] = field(default=(), repr=False)


class Refunds:
    """Refunds on demand. What is under way is finished whoever leaves."""

    def __init__(self, rails: Rails, ledger: PaymentLedger, log: Any) -> None:
        self._rails = rails
        self._ledger = ledger
        self._log = log
        self._together: Together[Refunded] = Together("refund")

    async def finish(self) -> None:
        """Wait for all that is under way."""
        await self._together.finish()

    async def refund(self, proof: Proof) -> Refunded:
        """Put the payment with this proof, shown by its payer, on a balance. The same proof again: the same answer.

        Raises Refusal: `not_found` where nothing was taken, `payment_spent`, `payment_under_way`, `payment_unknown`.
        """
        return await self._together.run((proof.rail, proof.key), lambda: self._refund(proof))

    async def _refund(self, proof: Proof) -> Refunded:
        payment = await self._ledger.payment(proof.rail, proof.key)
        if payment is None and not proof.settled:
            raise nothing_taken()
        late = proof.on_failure is OnFailure.RETURN
        if payment is not None and payment.state is PaymentState.SEEN and not proof.settled and not late:
            raise nothing_taken()
        try:
            lease = await self._ledger.lease(proof, "")
        except PaymentTaken as taken:
            return await self._taken(taken)
        rail = self._rails.proving(proof.rail) if late else None
        if not lease.settled and rail is not None:
            return await self._late(rail, lease)
        if not lease.settled:
            lease.asked = False
            self._ledger.unlease(lease, reason="nothing to refund")
            raise nothing_taken()
        return await self._credit(lease)

    async def _late(self, rail: Rail, lease: Lease) -> Refunded:
        """Its payer has let the money go, and a swap that was given up may have taken effect since: its mint is asked
        before it is said that nothing was taken.
        """
        outcome: Outcome = Doubtful("looking for it was cut off")
        try:
            outcome = await rail.reconcile(lease)
        finally:
            outcome = await record(self._ledger, lease, outcome, self._log)
        if isinstance(outcome, Doubtful):
            raise unknown(lease.id)
        if isinstance(outcome, Settled):
            self._ledger.unlease(lease, reason="found when its refund was asked for")
            payment = await self._ledger.payment(lease.proof.rail, lease.proof.key)
            if payment is not None:
                return await self.given_back(payment)
        raise nothing_taken()

    async def _credit(self, lease: Lease) -> Refunded:
        token = token_for(self._rails.keys, lease.id)
        life_ms = self._rails.settings.refund_days * DAY_MS
        try:
            state = await self._ledger.refund(lease, NewBalance(digest_of(token), BalanceKind.REFUND, life_ms, life_ms))
        except LeaseLost as lost:
            raise unknown(lease.id) from lost
        except Refusal:
            self._ledger.unlease(lease, reason="not refunded")
            raise
        return Refunded(lease.id, token, state)

    async def _taken(self, taken: PaymentTaken) -> Refunded:
        """What became of it before. Raises Refusal where it cannot be refunded (now)."""
        payment = taken.payment
        if taken.why is Taken.RETURNED:
            return await self.given_back(payment)
        details = {"payment_id": payment.id}
        if taken.why is Taken.UNDER_WAY:
            raise Refusal(
                "payment_under_way",
                "A request with this payment is being served. Wait for its answer.",
                retry_after_seconds=UNDER_WAY_SECONDS,
                details=details,
            )
        if taken.why is Taken.UNKNOWN:
            raise unknown(payment.id)
        if taken.why is Taken.REFUSED:
            raise nothing_taken()
        raise Refusal("payment_spent", _spent(payment), details=details)

    async def given_back(self, payment: Payment) -> Refunded:
        """Where a refunded payment is. Raises Refusal `conflict` where its token cannot be told any more."""
        if payment.returned:
            return Refunded(payment.id, None, None, await self._ledger.ecash_of(payment.row, kept=None))
        opened = await opened_by(payment, self._rails, self._ledger)
        if opened is None:
            raise Refusal(
                "conflict",
                f"Payment {payment.id} was refunded to a balance whose token this proxy can no longer derive: its "
                "secret was changed. Ask its operator, and name the payment.",
                details={"payment_id": payment.id},
            )
        return Refunded(payment.id, opened.token, opened.state)


def nothing_taken() -> Refusal:
    """There is nothing to give back."""
    return Refusal("not_found", "Nothing was taken with this payment: there is nothing to refund.")


def _spent(payment: Payment) -> str:
    if payment.credited:
        return f"Payment {payment.id} has funded a balance: POST /v1/balance with it tells the token."
    if payment.expired:
        return f"Payment {payment.id} was not used for a year, and has expired."
    return f"Payment {payment.id} has bought an answer."
