"""Prepaid balances for callers without an account: bought, topped up and asked about with POST /v1/balance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter

from proxy.exchange import Exchange, Response
from proxy.plugin import Next, Plugin, PluginSettings, Services, Stage

if TYPE_CHECKING:
    from plugins.balance.counter import Counter
    from proxy.payments.rails import Rails


class BalancePlugin(Plugin[PluginSettings]):
    """An endpoint only; paying from a balance is a rail, and `spend_caps` takes what was used. Its settings are
    `payments.balance` in config.yaml: where that is off, or no rail is on, there is no endpoint.
    """

    name = "balance"
    stage = Stage.PAY

    def __init__(self, settings: PluginSettings, services: Services) -> None:
        super().__init__(settings, services)
        rails: Rails | None = services.rails
        self._counter: Counter | None = None
        if rails is not None and rails.settings.balance is not None:
            from plugins.balance.counter import Counter

            self._counter = Counter(rails, rails.settings.balance, services.ledger, services.clock, services.log)

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        return await call_next(exchange)

    async def stop(self) -> None:
        """Wait for payments that are being taken."""
        if self._counter is not None:
            await self._counter.finish()

    def router(self) -> APIRouter | None:
        """See `plugins.balance.api`."""
        if self._counter is None:
            return None
        from plugins.balance import api

        return api.router(self._counter)


PLUGIN = BalancePlugin
