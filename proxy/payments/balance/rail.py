"""Prepaid balances: `Authorization: Bearer bal_...` on every priced path, and as an SDK's API key."""

from __future__ import annotations

from typing import ClassVar, Final

from proxy.errors import Refusal
from proxy.ledger.payment_api import BalanceState, Lease, PaymentLedger, PaymentTaken, Proof, Tender, Unit
from proxy.payments.api import Ask, Credential, Declined, IssuedInvoice, Offer, Outcome, Presented, Rail
from proxy.payments.balance.charge import amount_of, floor_of
from proxy.payments.balance.refusals import PATH, no_exchange_rate, short, unknown
from proxy.payments.settings import Payments
from proxy.payments.tokens import digest_of, is_token

UNITS_MAX: Final = 50_000
"""Balances whose unit is remembered."""


class BalanceRail(Rail):
    """Nothing outside is asked: the ledger holds what the request can cost, and takes what it did cost."""

    name: ClassVar[str] = "balance"
    proofs: ClassVar[str] = "balance"
    credentials: ClassVar[frozenset[Credential]] = frozenset({Credential.BALANCE})

    def __init__(self, settings: Payments, ledger: PaymentLedger) -> None:
        self._settings = settings
        self._ledger = ledger
        self._units: dict[bytes, Unit] = {}

    def offer(self, ask: Ask, invoice: IssuedInvoice | None) -> Offer | None:
        """A hint in the body: where balances are sold, and how large they may be."""
        balance = self._settings.balance
        if balance is None:
            return None
        hint = {"url": PATH, "min_sats": balance.sats_min, "max_sats": balance.sats_max}
        return Offer((), {"balance": hint})

    async def check(self, presented: Presented, ask: Ask) -> Tender:
        """The price in the balance's own unit, its floor at least. Raises Refusal `invalid_balance`,
        `insufficient_balance`, `payment_unavailable`.
        """
        if not is_token(presented.value):
            raise unknown()
        digest = digest_of(presented.value)
        state: BalanceState | None = None
        unit = self._units.get(digest)
        if unit is None:
            state = await self._ledger.balance(digest)
            if state is None or state.expires_ms <= ask.now_ms:
                raise unknown()
            unit = self._remember(digest, state.unit)
        price = ask.price
        amount = price.usdc if unit is Unit.USDC else price.msat
        of_input = amount_of(price.input_usd, unit, price.nano_per_btc)
        if amount is None or of_input is None:
            raise no_exchange_rate()
        amount = max(amount, floor_of(unit, self._settings))
        if state is not None and state.left < amount:
            raise short(state, amount, self._settings)
        return Tender(unit, amount, ask.request_digest, input_amount=min(of_input, amount), balance=digest)

    def _remember(self, digest: bytes, unit: Unit) -> Unit:
        """A balance's unit never changes: whoever is known needs no look before the hold, which judges all the rest."""
        if len(self._units) >= UNITS_MAX:
            self._units.clear()
        self._units[digest] = unit
        return unit

    async def settle(self, lease: Lease, ask: Ask) -> Outcome:
        """A balance has no proof to settle: nothing is taken."""
        return Declined(_no_proof(), "a balance has no proof", final=True)

    async def reconcile(self, lease: Lease) -> Outcome:
        """As `settle`."""
        return Declined(_no_proof(), "a balance has no proof", final=True)

    def taken(self, error: PaymentTaken) -> Refusal:
        """As `settle`."""
        return _no_proof()

    async def shown(self, presented: Presented) -> Proof:
        """A balance is no payment. Raises Refusal `payment_not_accepted`."""
        raise _no_proof()


def _no_proof() -> Refusal:
    return Refusal(
        "payment_not_accepted",
        f'A balance is no single payment. POST {PATH} with this token and {{"action": "status"}} shows its state.',
    )
