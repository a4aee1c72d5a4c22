"""The most the exchange can cost, before anything is called."""

from __future__ import annotations

from proxy.catalogue import Model
from proxy.dialects.base import Call
from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.plugin import Next, Plugin, PluginSettings, Stage
from proxy.pricing import tokens
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
            countable = not call.images or model.image_tokens_max is not None
            if not own and countable and exchange.quote.input_tokens > model.context_tokens:
                await _check_context(model, call)
        return await call_next(exchange)


async def _check_context(model: Model, call: Call) -> None:
    """Past its context a model refuses, or charges dearer rates than ours: only a count can tell bytes from tokens."""
    count = await tokens.count_call_async(
        call, model.encoding or tokens.FALLBACK_ENCODING, image_tokens_max=model.image_tokens_max
    )
    if count is None or count > model.context_tokens:
        raise Refusal(
            "context_length_exceeded",
            f"The input is {'too long to be counted' if count is None else f'about {count} tokens'}; "
            f"'{model.name}' takes {model.context_tokens}. Shorten it.",
            param="messages",
        )


PLUGIN = PricingPlugin
