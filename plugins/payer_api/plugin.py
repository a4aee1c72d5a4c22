"""What payers may ask: a price, what can be bought, whether an invoice is paid, their payments and refunds."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from fastapi import APIRouter
from pydantic import Field

from proxy.exchange import Exchange, Response
from proxy.plugin import Next, Plugin, PluginSettings, Services, Stage

if TYPE_CHECKING:
    from proxy.payments.rails import Rails
    from proxy.payments.refunds import Refunds


class PayerApiSettings(PluginSettings):
    """Limits of its endpoints; what they tell comes from `payments` in config.yaml."""

    estimate_bytes_max: int = Field(
        default=1 << 20, ge=1024, le=32 << 20, description="Longest request whose price may be asked for."
    )
    discovery_seconds: int = Field(
        default=60, ge=0, le=86_400, description="/.well-known/l402 may be kept so long by whoever asked."
    )


class PayerApiPlugin(Plugin[PayerApiSettings]):
    """Endpoints only, free of charge: /v1/estimate-cost, /.well-known/l402, /api/invoice/status, /v1/payments/{id} and
    /v1/payments/refund. Where no rail is on there are none.
    """

    name = "payer_api"
    stage = Stage.PAY
    Settings: ClassVar[type[PluginSettings]] = PayerApiSettings

    def __init__(self, settings: PayerApiSettings, services: Services) -> None:
        super().__init__(settings, services)
        self._rails: Rails | None = services.rails
        self._refunds: Refunds | None = None
        if self._rails is not None:
            from proxy.payments.refunds import Refunds

            self._refunds = Refunds(self._rails, services.ledger, services.log)

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        return await call_next(exchange)

    async def stop(self) -> None:
        """Wait for refunds under way."""
        if self._refunds is not None:
            await self._refunds.finish()

    def router(self) -> APIRouter | None:
        """See the modules beside this one."""
        if self._rails is None or self._refunds is None:
            return None
        from plugins.payer_api import discovery, estimate, invoices, payments

        routes = APIRouter()
        estimate.add(routes, self._rails, self.settings.estimate_bytes_max)
        discovery.add(routes, self._rails, self.settings.discovery_seconds)
        invoices.add(routes, self._rails)
        payments.add(routes, self._rails, self.services.ledger, self._refunds)
        return routes


PLUGIN = PayerApiPlugin
