"""Whoever has no account pays for the request: 402 with every way to pay, or a look at the payment that came."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from plugins.challenge.answer import challenge
from proxy.dialects.base import Call
from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.identities import IdentityKind
from proxy.ledger.payment_api import Tender
from proxy.payments.api import Ask, Credential, IssuedInvoice, Presented
from proxy.payments.asking import ask_of
from proxy.payments.free import is_free
from proxy.payments.prices import price_of
from proxy.plugin import Next, Plugin, PluginSettings, Services, Stage
from proxy.pricing.money import MSAT_PER_SAT

if TYPE_CHECKING:
    from proxy.payments.rails import Rails

NO_STORE: Final = "no-store"


class ChallengePlugin(Plugin[PluginSettings]):
    """Establishes `ask` and `tender` for payers.

    Nothing is taken here and nobody outside is asked for money: what can be seen of a payment by itself is seen, and
    what is wrong with it is said in its rail's own words. No answer to a payer may be kept by a cache on the way.
    Stands before `spend_caps`, which leases the payment with the hold, and `payment`, which takes it.
    """

    name = "challenge"
    stage = Stage.PAY
    Settings: ClassVar[type[PluginSettings]] = PluginSettings
    requires = frozenset({"identity", "call", "model", "quote"})

    def __init__(self, settings: PluginSettings, services: Services) -> None:
        super().__init__(settings, services)
        self._rails: Rails | None = services.rails

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        identity, rails, call = exchange.identity, self._rails, exchange.call
        if identity is None or identity.kind is not IdentityKind.PAYER or call is None or is_free(exchange):
            return await call_next(exchange)
        if rails is None:
            raise Refusal("invalid_api_key", "This proxy takes no payments: send a key of its operator's.")
        try:
            response = await self._paid(exchange, rails, call, call_next)
        except Refusal as refusal:
            refusal.headers["cache-control"] = NO_STORE
            raise
        response.headers["cache-control"] = NO_STORE
        return response

    async def _paid(self, exchange: Exchange, rails: Rails, call: Call, call_next: Next) -> Response:
        exchange.ask = ask = await self._ask(exchange, rails, call)
        if exchange.presented is None:
            return await self._challenge(exchange, rails, ask)
        exchange.tender = await self._checked(rails, exchange.presented, ask)
        return await call_next(exchange)

    async def _ask(self, exchange: Exchange, rails: Rails, call: Call) -> Ask:
        model, quote = exchange.model, exchange.quote
        if model is None or quote is None:
            raise Refusal("internal_error", "This priced path is closed: the chain did not establish what it costs.")
        price = await price_of(model, call, quote, rails.settings, nano_per_btc=rails.nano_per_btc)
        return ask_of(exchange, price, rails.settings, self.services.clock.now_ms())

    async def _challenge(self, exchange: Exchange, rails: Rails, ask: Ask) -> Response:
        response = challenge(exchange, rails, ask, await self._invoice(rails, ask))
        exchange.refusal = Refusal("payment_required", "Pay by one of the offers.", body=response.body)
        return response

    async def _invoice(self, rails: Rails, ask: Ask) -> IssuedInvoice | None:
        """One for L402 and MPP alike; None where Lightning is off, or not to be had now and another rail is."""
        from proxy.payments.l402.terms import Terms

        settings, msat = rails.settings, ask.price.msat
        node = settings.lightning
        if rails.invoices is None or node is None or msat is None or (settings.l402 is None and settings.mpp is None):
            return None
        least = 0 if settings.l402 is None else settings.l402.sats_min
        sats = max(-(-msat // MSAT_PER_SAT), least, 1)
        try:
            return await rails.invoices.issue(
                msat=sats * MSAT_PER_SAT,
                memo=f"{ask.model} inference",
                client=ask.client,
                purpose="request",
                seconds=node.invoice_seconds,
                terms=Terms.of(ask).json(),
            )
        except Refusal:
            if settings.x402 is None and settings.cashu is None:
                raise
            return None

    async def _checked(self, rails: Rails, presented: Presented, ask: Ask) -> Tender:
        from proxy.payments.mpp.problems import as_problem

        rail = rails.taking(presented.credential)
        if rail is None:
            refusal = Refusal(
                "payment_not_accepted",
                f"Payments by {presented.credential.value} are not taken here. "
                "Send the request without one to see which are.",
            )
            raise as_problem(refusal) if presented.credential is Credential.MPP else refusal
        return await rail.check(presented, ask)


PLUGIN = ChallengePlugin
