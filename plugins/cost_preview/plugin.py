"""What a call would cost, told beforehand: POST /v1/cost-preview and GET /v1/cost-preview/rates."""

from __future__ import annotations

from typing import ClassVar

from fastapi import APIRouter
from pydantic import Field

from plugins.cost_preview import api
from plugins.cost_preview.rates import RatesCache
from proxy.exchange import Exchange, Response
from proxy.plugin import Next, Plugin, PluginSettings, Services, Stage


class CostPreviewSettings(PluginSettings):
    """How long the table of rates is kept."""

    rates_cache_seconds: int = Field(
        default=60, ge=1, le=3600, description="The table of rates is kept this long, here and by whoever asked."
    )
    rates_cache_entries_max: int = Field(
        default=256, ge=1, le=10_000, description="Tables kept at once: one for each tier, and for each set of rules."
    )


class CostPreviewPlugin(Plugin[CostPreviewSettings]):
    """Endpoints only: no upstream is called for them, nothing is held or charged. Every exchange passes as it is."""

    name = "cost_preview"
    stage = Stage.PRICE
    Settings: ClassVar[type[PluginSettings]] = CostPreviewSettings

    def __init__(self, settings: CostPreviewSettings, services: Services) -> None:
        super().__init__(settings, services)
        self._rates = RatesCache(services.clock, settings.rates_cache_seconds, settings.rates_cache_entries_max)

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        return await call_next(exchange)

    def router(self) -> APIRouter:
        """See the module's docstring."""
        return api.router(self._rates, self.services.byo)


PLUGIN = CostPreviewPlugin
