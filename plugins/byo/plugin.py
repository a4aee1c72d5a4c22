"""Endpoints with which customers register their own upstream keys; byo-* calls that came round in a circle end here."""

from __future__ import annotations

from typing import ClassVar

from fastapi import APIRouter
from pydantic import Field

from plugins.byo import api
from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.plugin import Next, Plugin, PluginSettings, Stage


class ByoSettings(PluginSettings):
    """Who may register. What may be registered, and the encryption keys, are the section byo of config.yaml."""

    tiers: tuple[str, ...] = Field(default=(), description="Tiers that may register keys of their own; none: all.")


class ByoPlugin(Plugin[ByoSettings]):
    """Serves /v1/byo/keys. The aliases themselves are resolved by `catalogue`."""

    name = "byo"
    stage = Stage.LIMIT
    Settings: ClassVar[type[PluginSettings]] = ByoSettings
    requires = frozenset({"identity", "model"})

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        via = exchange.request.headers.get("via", "")
        if exchange.model is not None and exchange.model.byo and "tollway" in via.lower():
            raise Refusal(
                "invalid_request",
                f"The alias '{exchange.model.name}' was reached through another one: a base URL leads back to a proxy "
                "like this. Register the provider itself.",
                param="model",
            )
        return await call_next(exchange)

    def router(self) -> APIRouter:
        """See `plugins.byo.api`."""
        return api.router(self.services.byo, self.settings.tiers, self.services.log)


PLUGIN = ByoPlugin
