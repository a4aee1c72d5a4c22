"""From a payment to a balance: bought or topped up, by an invoice that was paid or by a payment that comes along."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.errors import Refusal
from proxy.ledger.payment_api import (
    BalanceKind,
    BalanceMismatch,
    BalanceState,
    Invoice,
    Lease,
    LeaseLost,
    NewBalance,
    Payment,
    PaymentLedger,
    PaymentTaken,
    Proof,
    Taken,
    Unit,
)
from proxy.payments.api import Ask, HeaderFields, Presented, Rail
from proxy.payments.balance.refusals import unit_of
from proxy.payments.collection import Collector, unknown
from proxy.payments.rails import Rails
from proxy.payments.settings import Balance
from proxy.payments.together import Together
from proxy.payments.tokens import digest_of, token_for

DAY_MS: Final = 86_400_000
LIGHTNING: Final = "lightning"
UNDER_WAY_SECONDS: Final = 2
_CREDITED: Final = frozenset({Taken.SPENT, Taken.RETURNED})


@dataclass(frozen=True, slots=True)
class Holder:
    """Who shows the token of a balance."""

    token: str = field(repr=False)
    state: BalanceState


@dataclass(frozen=True, slots=True)
class Bought:
    """What a payment brought. `token` is None where it topped up a balance whose token was not shown."""

    token: str | None = field(repr=False)
    state: BalanceState | None
    headers: HeaderFields = ()


class Funding:
    """Each payment funds one balance, once; shown again it gives the same answer.

    What is under way is finished whoever leaves. A payment that arrives is never lost: where the balance that it was
    for has ended meanwhile, it opens another one.
    """

    def __init__(self, rails: Rails, settings: Balance, ledger: PaymentLedger, log: Any) -> None:
        self._rails = rails
        self._settings = settings
        self._ledger = ledger
        self._log = log
        self._collector = Collector(ledger, log)
        self._together: Together[Bought | None] = Together("fund a balance")

    async def finish(self) -> None:
        """Wait for all that is under way."""
        await self._together.finish()

    async def by_invoice(self, invoice: Invoice, holder: Holder | None) -> Bought | None:
        """What a paid invoice of ours for a balance brought; None: it is not paid yet.

        The caller has shown the right to ask. Raises Refusal.
        """
        key = (invoice.payment_hash, holder and holder.state.row)
        return await self._together.run(key, lambda: self._by_invoice(invoice, holder))

    async def by_payment(
        self, presented: Presented, ask: Ask, holder: Holder | None, *, check_new: Callable[[], None]
    ) -> Bought:
        """Take the payment that came along and fund a balance with it. Raises Refusal, in its rail's own words.

        `check_new` may refuse a payment of which the ledger knows nothing yet.
        """
        rail = self._rails.taking(presented.credential)
        if rail is None:
            raise Refusal("payment_not_accepted", f"Payments by {presented.credential.value} are not taken here.")
        proof = (await rail.check(presented, ask)).proof
        if proof is None:
            raise Refusal("payment_not_accepted", "A balance cannot pay for a balance.")
        _check_unit(proof, holder)
        if await self._ledger.payment(proof.rail, proof.key) is None:
            check_new()
        # Nobody joins: who sees an x402 payment on chain can copy it, so only the first to show it is told the token.
        bought = await self._together.run(object(), lambda: self._by_payment(rail, presented, proof, ask, holder))
        if bought is None:
            raise Refusal("internal_error", "The payment brought nothing.")
        return bought

    async def _by_invoice(self, invoice: Invoice, holder: Holder | None) -> Bought | None:
        if invoice.settled_ms is None and not await self._is_paid(invoice.payment_hash):
            return None
        proof = Proof(LIGHTNING, invoice.payment_hash, Unit.MSAT, invoice.msat, settled=True)
        try:
            lease = await self._ledger.lease(proof, "")
        except PaymentTaken as taken:
            again = await self._again(taken, holder)
            if again is None:
                raise _busy(taken) from taken
            return again
        return await self._fund(lease, int(invoice.terms) if invoice.terms else None, holder)

    async def _is_paid(self, payment_hash: str) -> bool:
        if self._rails.invoices is None:
            raise Refusal(
                "payment_unavailable",
                "Lightning is off at the moment, and nobody can say whether this invoice was paid. Ask again later.",
                retry_after_seconds=60,
            )
        status = await self._rails.invoices.status(payment_hash)
        return status.paid

    async def _by_payment(
        self, rail: Rail, presented: Presented, proof: Proof, ask: Ask, holder: Holder | None
    ) -> Bought:
        try:
            lease = await self._ledger.lease(proof, ask.request_digest)
        except PaymentTaken as taken:
            if taken.why not in _CREDITED or not taken.payment.credited:
                raise rail.taken(taken) from taken
            if holder is None or holder.state.row != taken.payment.balance:
                await rail.shown(presented)  # Some proofs are public once they paid: is it the payer who shows it?
            again = await self._again(taken, holder)
            if again is None or again.token is None:
                raise _elsewhere(taken.payment) from taken
            return Bought(again.token, again.state, await rail.served_again(taken.payment))
        if not lease.settled:
            await self._collector.collect(rail, lease, ask)
        elif not proof.settled:
            await self._shown_again(rail, presented, lease)
        bought = await self._fund(lease, None if holder is None else holder.state.row, holder)
        return Bought(bought.token, bought.state, await rail.served(lease))

    async def _shown_again(self, rail: Rail, presented: Presented, lease: Lease) -> None:
        """It was settled before, and may be public since. Raises Refusal where it is not the payer who shows it."""
        try:
            await rail.shown(presented)
        except Refusal:
            self._ledger.unlease(lease, reason="shown again, and not by its payer")
            raise

    async def _fund(self, lease: Lease, row: int | None, holder: Holder | None) -> Bought:
        """Raises Refusal; then the payment is its payer's, to be shown again or refunded."""
        try:
            if row is not None:
                try:
                    state = await self._ledger.fund(lease, row)
                except BalanceMismatch:
                    self._log.info("balance_ended_before_its_top_up", payment=lease.id, balance=row)
                else:
                    return Bought(holder.token if holder is not None and holder.state.row == row else None, state)
            token = token_for(self._rails.keys, lease.id)
            days = self._settings.idle_days, self._settings.days
            new = NewBalance(digest_of(token), BalanceKind.BOUGHT, days[0] * DAY_MS, days[1] * DAY_MS)
            return Bought(token, await self._ledger.fund(lease, new))
        except LeaseLost as lost:
            raise unknown(lease.id) from lost
        except Refusal:
            self._ledger.unlease(lease, reason="no balance was funded")
            raise

    async def _again(self, taken: PaymentTaken, holder: Holder | None) -> Bought | None:
        """What the payment brought when it was first shown; None where it has bought no balance."""
        payment = taken.payment
        if taken.why not in _CREDITED or payment.balance is None:
            return None
        if holder is not None and holder.state.row == payment.balance:
            return Bought(holder.token, holder.state)
        return await opened_by(payment, self._rails, self._ledger) or Bought(None, None)


async def opened_by(payment: Payment, rails: Rails, ledger: PaymentLedger) -> Bought | None:
    """The balance that this payment opened, with its token; None where it topped up one that was there, or the secret
    that tokens are derived from is another one by now.
    """
    token = token_for(rails.keys, payment.id)
    state = await ledger.balance(digest_of(token))
    return Bought(token, state) if state is not None and state.row == payment.balance else None


def _check_unit(proof: Proof, holder: Holder | None) -> None:
    """Nothing is taken yet."""
    if holder is not None and holder.state.unit is not proof.unit:
        raise Refusal(
            "payment_not_accepted",
            f"This balance counts {unit_of(holder.state.unit)}, the payment is in {unit_of(proof.unit)}. Nothing was "
            "taken. Send it without the balance's token to open another balance.",
        )


def _elsewhere(payment: Payment) -> Refusal:
    return Refusal(
        "payment_spent",
        f"Payment {payment.id} is on a balance already, which it did not open: show that balance's token beside it.",
        details={"payment_id": payment.id},
    )


def _busy(taken: PaymentTaken) -> Refusal:
    if taken.why is Taken.UNDER_WAY:
        return Refusal(
            "payment_under_way",
            "This payment is being put on its balance right now. Ask again in a moment.",
            retry_after_seconds=UNDER_WAY_SECONDS,
            details={"payment_id": taken.payment.id},
        )
    return Refusal(
        "payment_spent", "This payment has been used for something else.", details={"payment_id": taken.payment.id}
    )
