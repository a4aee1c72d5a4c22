"""What can be done at the counter where balances are sold: an offer, a payment, a poll, a look at the balance."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Self

from proxy.client_addresses import key_of, parse
from proxy.clock import Clock
from proxy.errors import Refusal
from proxy.exchange import Exchange
from proxy.headers import Headers
from proxy.ledger.payment_api import BalanceState, PaymentLedger, Unit
from proxy.payments.api import Ask, Credential, HeaderFields, IssuedInvoice, Offer, Presented, Price
from proxy.payments.asking import public_url, request_digest
from proxy.payments.balance.charge import amount_of, usd_of
from proxy.payments.balance.funding import Bought, Funding, Holder
from proxy.payments.balance.refusals import no_exchange_rate, sats_of, unknown
from proxy.payments.credentials import all_presented
from proxy.payments.rails import Rails
from proxy.payments.settings import Balance
from proxy.payments.tokens import digest_of, is_token, poll_secret_of
from proxy.pricing.money import MSAT_PER_SAT, NANO_PER_USDC, ZERO, Nano, usd_text

BALANCE_PURPOSE: Final = "balance"
HASH_ONLY: Final = "hash_only"
SECRET_BYTES: Final = 32
MS: Final = 1000
_TAKEN: Final = frozenset({Credential.X402, Credential.X402_V1, Credential.TRANSFER, Credential.CASHU})
_OFFERED: Final = {Credential.X402: Unit.USDC, Credential.TRANSFER: Unit.USDC, Credential.CASHU: Unit.MSAT}
"""Rails that pay at once, and what they bring."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What came in the headers: a balance's token, a payment, both or neither."""

    token: str | None = field(repr=False)
    payment: Presented | None

    @classmethod
    def of(cls, headers: Headers) -> Self:
        """Raises Refusal `ambiguous_payment`, `payment_not_accepted`."""
        found = all_presented(headers)
        tokens = [one.value for one in found if one.credential is Credential.BALANCE]
        payments = [one for one in found if one.credential is not Credential.BALANCE]
        if len(tokens) > 1 or len(payments) > 1:
            raise Refusal(
                "ambiguous_payment", "Send one payment, and at most one balance's token beside it to top that up."
            )
        if payments and payments[0].credential not in _TAKEN:
            raise Refusal(
                "payment_not_accepted",
                'A balance is bought with Payment-Signature, X-Cashu, or with an invoice: send {"sats": N} without a '
                "payment to get one.",
            )
        return cls(tokens[0] if tokens else None, payments[0] if payments else None)


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes out."""

    content: dict[str, Any] = field(repr=False)
    status: int = 200
    headers: HeaderFields = ()


class Counter:
    """Bad input costs nothing: nothing is asked outside before all that can be seen here is in order."""

    def __init__(self, rails: Rails, settings: Balance, ledger: PaymentLedger, clock: Clock, log: Any) -> None:
        self._rails = rails
        self._settings = settings
        self._ledger = ledger
        self._clock = clock
        self._funding = Funding(rails, settings, ledger, log)

    async def finish(self) -> None:
        """Wait for payments that are being taken."""
        await self._funding.finish()

    def check_sats(self, sats: int | None) -> int:
        """Raises Refusal."""
        least, most = self._settings.sats_min, self._settings.sats_max
        if sats is None or not least <= sats <= most:
            raise Refusal("invalid_request", f"'sats' must be a whole number from {least} to {most}.", param="sats")
        return sats

    async def status(self, shown: Shown) -> Answer:
        """Where the Bearer's balance stands."""
        if shown.payment is not None:
            raise Refusal("ambiguous_payment", "Asking for the status costs nothing: leave the payment out.")
        holder = await self._holder(shown)
        if holder is None:
            raise Refusal("invalid_balance", "Send the balance's token: 'Authorization: Bearer bal_...'.")
        return Answer(self._standing(holder.state))

    async def offer(self, exchange: Exchange, shown: Shown, sats: int) -> Answer:
        """402 with an invoice and what other rails offer for it."""
        holder = await self._holder(shown)
        self._check_room(holder, sats)
        ask = await self._ask(exchange, sats)
        offers = self._offers(ask, holder)
        poll_secret = poll_secret_of(secrets.token_bytes(SECRET_BYTES))
        invoice = await self._invoice(ask, holder, poll_secret, must=not offers)
        content: dict[str, Any] = {}
        for offer in offers:
            content |= offer.members
        content |= {"sats": sats, "expires_in": self._settings.invoice_seconds}
        if invoice is not None:
            content |= {"payment_hash": invoice.payment_hash, "invoice": invoice.bolt11, "poll_secret": poll_secret}
        return Answer(content, 402, tuple(pair for offer in offers for pair in offer.headers))

    async def pay(self, exchange: Exchange, shown: Shown, sats: int) -> Answer:
        """Take the payment that came along."""
        if shown.payment is None:
            raise Refusal("internal_error", "There is no payment to take.")
        holder = await self._holder(shown)
        ask = await self._ask(exchange, sats)
        if ask.price.nano_per_btc is None and shown.payment.credential is not Credential.CASHU:
            raise no_exchange_rate()
        bought = await self._funding.by_payment(
            shown.payment, ask, holder, check_new=lambda: self._check_room(holder, sats)
        )
        return Answer(self._paid(bought, sats), headers=bought.headers)

    async def poll(self, shown: Shown, payment_hash: str, poll_secret: str | None) -> Answer:
        """Whether an invoice was paid, and the token that it bought."""
        if shown.payment is not None:
            raise Refusal(
                "ambiguous_payment", "Asking whether an invoice was paid costs nothing: leave the payment out."
            )
        invoice = await self._ledger.invoice(payment_hash)
        if invoice is None or invoice.purpose != BALANCE_PURPOSE:
            raise Refusal("not_found", "No balance was offered for this payment_hash.", param="payment_hash")
        if self._settings.poll != HASH_ONLY and not _same(poll_secret, invoice.poll_digest):
            raise Refusal(
                "invalid_payment",
                "Send the 'poll_secret' that came with this invoice: whoever forwarded the payment knows its hash.",
                param="poll_secret",
            )
        bought = await self._funding.by_invoice(invoice, await self._holder(shown, ended=True))
        if bought is None:
            return Answer({"paid": False})
        return Answer(self._paid(bought, sats_of(invoice.msat)))

    async def _holder(self, shown: Shown, *, ended: bool = False) -> Holder | None:
        """None: no token came. Raises Refusal `invalid_balance`, where `ended` also for one that has ended."""
        if shown.token is None:
            return None
        state = await self._ledger.balance(digest_of(shown.token)) if is_token(shown.token) else None
        if state is None or (state.expires_ms <= self._clock.now_ms() and not ended):
            raise unknown()
        return Holder(shown.token, state)

    def _check_room(self, holder: Holder | None, sats: int) -> None:
        if holder is None:
            return
        there = self._sats(holder.state.left + holder.state.held, holder.state.unit)
        if there is None:
            raise no_exchange_rate()
        most = self._settings.sats_max
        if there + sats > most:
            raise Refusal(
                "invalid_request",
                f"A balance holds {most} sats at most, and this one has {there}: it can be topped up by "
                f"{max(0, most - there)}.",
                param="sats",
            )

    async def _ask(self, exchange: Exchange, sats: int) -> Ask:
        request, rate = exchange.request, self._rails.nano_per_btc
        msat = sats * MSAT_PER_SAT
        price = Price(
            usd=ZERO if rate is None else usd_of(msat, rate),
            input_usd=ZERO,
            msat=msat,
            input_tokens=0,
            input_chars=0,
            input_items=0,
            output_tokens=0,
            max_tokens=0,
            rates_digest="",
            nano_per_btc=rate,
        )
        body = await request.body(exchange.operation.body_bytes_max)
        return Ask(
            method=request.method,
            path=request.path,
            url=public_url(exchange, self._rails.settings) + request.path,
            operation=BALANCE_PURPOSE,
            model="prepaid",
            stream=False,
            price=price,
            request_digest=request_digest(request.method, request.path, body),
            client=key_of(exchange.client_address or parse(exchange.origin.peer)),
            now_ms=self._clock.now_ms(),
            request_id=exchange.request_id,
        )

    def _offers(self, ask: Ask, holder: Holder | None) -> list[Offer]:
        """Of the rails that pay at once and bring what the balance counts."""
        offers = []
        for credential, unit in _OFFERED.items():
            rail = self._rails.taking(credential)
            fits = holder is None or holder.state.unit is unit
            if rail is None or not fits or (unit is Unit.USDC and ask.price.nano_per_btc is None):
                continue
            offer = rail.offer(ask, None)
            if offer is not None:
                offers.append(offer)
        return offers

    async def _invoice(self, ask: Ask, holder: Holder | None, poll_secret: str, *, must: bool) -> IssuedInvoice | None:
        """Raises Refusal where it `must` be and cannot."""
        invoices = self._rails.invoices
        fits = holder is None or holder.state.unit is Unit.MSAT
        if invoices is None or not fits or ask.price.msat is None:
            if must:
                raise _no_way()
            return None
        try:
            return await invoices.issue(
                msat=ask.price.msat,
                memo="prepaid balance",
                client=ask.client,
                purpose=BALANCE_PURPOSE,
                seconds=self._settings.invoice_seconds,
                terms="" if holder is None else str(holder.state.row),
                poll_digest=digest_of(poll_secret),
            )
        except Refusal:
            if must:
                raise
            return None

    def _paid(self, bought: Bought, sats: int) -> dict[str, Any]:
        """`sats` is what was paid in; how much there is now stands in `balance`."""
        content: dict[str, Any] = {"paid": True, "sats": sats}
        if bought.token is not None:
            content["token"] = bought.token
        if bought.state is not None:
            content |= {"expires_at": moment(bought.state.expires_ms), "balance": self._standing(bought.state)}
        return content

    def _standing(self, state: BalanceState) -> dict[str, Any]:
        """A balance of dollars tells its sats at today's price, None where nobody knows it."""
        standing: dict[str, Any] = {
            "sats": self._sats(state.left, state.unit),
            "expires_at": moment(state.expires_ms),
            "total_spent": self._sats(state.spent, state.unit, up=True),
            "requests": state.requests,
            "unit": state.unit.value,
        }
        if state.unit is Unit.USDC:
            standing |= {"usd": _usd(state.left), "total_spent_usd": _usd(state.spent)}
        return standing

    def _sats(self, amount: int, unit: Unit, *, up: bool = False) -> int | None:
        if unit is Unit.MSAT:
            return sats_of(amount, up=up)
        msat = amount_of(Nano(amount * NANO_PER_USDC), Unit.MSAT, self._rails.nano_per_btc)
        return None if msat is None else sats_of(msat, up=up)


def moment(at_ms: int) -> str:
    """ISO 8601 in UTC, whole seconds."""
    return datetime.fromtimestamp(at_ms // MS, UTC).isoformat().replace("+00:00", "Z")


def _usd(usdc: int) -> str:
    return usd_text(Nano(usdc * NANO_PER_USDC))


def _same(secret: str | None, digest: bytes) -> bool:
    """By digests, which tell nothing by how long they take to compare."""
    return secret is not None and bool(digest) and hmac.compare_digest(digest_of(secret), digest)


def _no_way() -> Refusal:
    return Refusal(
        "payment_unavailable",
        "There is no way to pay for this balance at the moment. Nothing was taken; try again later.",
        retry_after_seconds=60,
    )
