"""Takes the money: after the hold, before the upstream. Burnt just before the answer goes out, else free again."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

from plugins.payment.reconciler import Reconciler
from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.identities import IdentityKind
from proxy.ledger.api import Hold
from proxy.ledger.payment_api import Lease, OnFailure, StoredAnswer
from proxy.payments.api import Ask, Rail
from proxy.payments.collection import Collector
from proxy.payments.free import is_free
from proxy.plugin import Next, Plugin, PluginSettings, Services, Stage

if TYPE_CHECKING:
    from proxy.payments.rails import Rails

BALANCE: Final = "balance"
PAYMENT_ID: Final = "x-payment-id"
"""Header that names the payment, for GET /v1/payments/{id}."""
_OF_THE_CONNECTION: Final = frozenset({"x-dedup", "age", "date"})
"""Not kept with an answer."""


class PaymentPlugin(Plugin[PluginSettings]):
    """Whatever fails before the first content leaves the payment with its payer: to be used again, or back as ecash.
    Where the head goes out before there is content, the proof is burnt by whoever makes the stream, just before it.

    What is asked outside is asked in a task of its own: a client that leaves does not stop it, and what came of it is
    written down whatever happens. Stands behind `spend_caps`.
    """

    name = "payment"
    stage = Stage.PAY
    Settings: ClassVar[type[PluginSettings]] = PluginSettings
    requires = frozenset({"identity", "call", "quote", "hold"})
    observes = frozenset({"route"})

    def __init__(self, settings: PluginSettings, services: Services) -> None:
        super().__init__(settings, services)
        self._rails: Rails | None = services.rails
        self._collector = Collector(services.ledger, services.log)
        self._reconciler: Reconciler | None = None

    async def start(self) -> None:
        """Begin to look after payments of which nobody knows what came of them."""
        if self._rails is not None:
            self._reconciler = Reconciler(self._rails, self.services.ledger, self.services.clock, self.services.log)
            self._reconciler.start()

    async def stop(self) -> None:
        """Wait for what is being asked outside."""
        await self._collector.finish()
        if self._reconciler is not None:
            await self._reconciler.stop()

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        identity, hold, ask = exchange.identity, exchange.hold, exchange.ask
        if identity is None or identity.kind is not IdentityKind.PAYER or is_free(exchange):
            return await call_next(exchange)
        if exchange.tender is None or hold is None or ask is None or self._rails is None:
            raise Refusal("internal_error", "This priced path is closed: nothing in the chain asked to be paid for it.")
        if hold.lease is None:
            response = await call_next(exchange)
            served = response.before_content is not None or _served(exchange, response)
            self.services.metrics.payment(BALANCE, "served" if served else "unserved")
            return response
        presented = exchange.presented
        rail = None if presented is None else self._rails.taking(presented.credential)
        if rail is None:
            raise Refusal("internal_error", "This payment belongs to a way to pay that is off.")
        if not hold.lease.settled:
            await self._collector.collect(rail, hold.lease, ask)
        exchange.collected = True
        response = await call_next(exchange)
        if response.before_content is not None and exchange.refusal is None:
            response.before_content.append(partial(self._burn, exchange, hold, hold.lease, ask, response))
            await _say(response, rail, hold.lease)
        elif _served(exchange, response):
            await self._burn(exchange, hold, hold.lease, ask, response)
            await _say(response, rail, hold.lease)
        else:
            await self._give_back(rail, hold.lease, response)
        response.headers[PAYMENT_ID] = hold.lease.id
        return response

    async def _burn(self, exchange: Exchange, hold: Hold, lease: Lease, ask: Ask, response: Response) -> None:
        """Durably, before anything goes out; with the answer, for who shows the same payment again."""
        await self.services.ledger.commit(hold, self._kept(ask, response))
        exchange.paid = True
        self.services.metrics.payment(lease.proof.rail, "burnt")

    def _kept(self, ask: Ask, response: Response) -> StoredAnswer | None:
        settings = None if self._rails is None else self._rails.settings
        if settings is None or not settings.answer_seconds or response.stream is not None:
            return None
        if len(response.body) > settings.answer_bytes_max:
            return None
        headers = [(name, value) for name, value in response.headers.items() if name.lower() not in _OF_THE_CONNECTION]
        at_ms = self.services.clock.now_ms()
        return StoredAnswer(ask.request_digest, response.status, tuple(headers), response.body, at_ms)

    async def _give_back(self, rail: Rail, lease: Lease, response: Response) -> None:
        """No answer: ecash goes back with the failure; what else was paid stays good for another try, or a refund."""
        self.services.metrics.payment(lease.proof.rail, "unserved")
        if lease.proof.on_failure is OnFailure.RETURN:
            await self.services.ledger.payment_returned(lease, "upstream failed")
            for name, value in await rail.returned(lease):
                response.headers.add(name, value)


async def _say(response: Response, rail: Rail, lease: Lease) -> None:
    for name, value in await rail.served(lease):
        response.headers.add(name, value)


def _served(exchange: Exchange, response: Response) -> bool:
    """An upstream's answer is about to go out; a refusal of ours or of the provider's buys nothing."""
    route = exchange.route
    return exchange.refusal is None and response.status < 300 and route is not None and route.served


PLUGIN = PaymentPlugin
