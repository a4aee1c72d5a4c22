"""The most the exchange can cost, before anything is called."""

from __future__ import annotations

from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.plugin import Next, Plugin, PluginSettings, Stage
from proxy.quoting import quote


class PricingPlugin(Plugin[PluginSettings]):
    """Establishes `quote`. A model without a price is refused, never free."""

    name = "pricing"
    stage = Stage.PRICE
    provides = frozenset({"quote"})
    requires = frozenset({"identity", "call", "model"})

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        model, call, identity = exchange.model, exchange.call, exchange.identity
        if model is not None and call is not None and identity is not None:
            own = identity.provider_credential
            if model.rates is None and not own:
                raise Refusal(
                    "model_not_available", f"The model '{model.name}' has no price and is not served.", param="model"
                )
            exchange.quote = quote(model, call, provider_credential=own)
        return await call_next(exchange)


PLUGIN = PricingPlugin
