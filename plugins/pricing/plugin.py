"""The most the exchange can cost and the candidates that can serve it, before anything is called."""

from __future__ import annotations

from proxy.admission import Candidates, capable, permitted, with_room
from proxy.catalogue import Model
from proxy.dialects.base import Call
from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.operations import EMBEDDINGS
from proxy.panel_quoting import panel_quote
from proxy.plugin import Next, Plugin, PluginSettings, Stage
from proxy.policy.rules import NO_RULES
from proxy.pricing import tokens
from proxy.pricing.quote import Quote
from proxy.quoting import encoding_of, image_bound, narrowed, quote


class PricingPlugin(Plugin[PluginSettings]):
    """Establishes `quote`, with the admissible candidates. A model without a price is refused, never free."""

    name = "pricing"
    stage = Stage.PRICE
    provides = frozenset({"quote"})
    requires = frozenset({"identity", "call", "model", "policy"})

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        model, call, identity = exchange.model, exchange.call, exchange.identity
        if model is not None and call is not None and identity is not None:
            if identity.provider_credential:
                exchange.quote = quote(model, call, provider_credential=True)
            else:
                exchange.quote = await _admitted(exchange, model, call)
        return await call_next(exchange)


async def _admitted(exchange: Exchange, model: Model, call: Call) -> Quote:
    """The quote over the candidates that can do what the call needs, may serve its caller, and have room for it."""
    if model.panel is not None:
        return await panel_quote(model, call, permitted(model.candidates, model, exchange.policy or NO_RULES))
    if model.rates is None:
        raise Refusal("model_not_available", f"The model '{model.name}' has no price and is not served.", param="model")
    candidates = permitted(capable(model, call), model, exchange.policy or NO_RULES)
    found = quote(model, call, provider_credential=False, candidates=candidates)
    fitting = with_room(candidates, model, found.input_tokens, found.output_tokens)
    if fitting is candidates:
        return found
    images = image_bound(model, candidates) if call.images else None
    if call.images and images is None:
        return found
    count = await _length(call, encoding_of(model, candidates), images)
    if count is not None:
        fitting = with_room(candidates, model, count, found.output_tokens)
    if not fitting:
        raise _too_long(model, call, candidates, count)
    return found if len(fitting) == len(candidates) else narrowed(found, model, call, fitting)


async def _length(call: Call, encoding: str, image_tokens_max: int | None) -> int | None:
    """Tokens that must fit into a context: all of the input, but of embeddings, each of which has a context of its own,
    the longest. None: too long to be counted.
    """
    if call.dialect != EMBEDDINGS.dialect:
        return await tokens.count_call_async(call, encoding, image_tokens_max=image_tokens_max)
    given = call.document["input"]
    inputs = given if isinstance(given, list) and not isinstance(given[0], int) else [given]
    longest = max(inputs, key=lambda one: len(one.encode() if isinstance(one, str) else one))
    return len(longest) if isinstance(longest, list) else await tokens.count_async(longest, encoding)


def _too_long(model: Model, call: Call, candidates: Candidates, count: int | None) -> Refusal:
    """Past its context a model refuses, or charges dearer rates than ours: only a count can tell bytes from tokens."""
    longest = max(model.context_of(candidate) for candidate in candidates)
    return Refusal(
        "context_length_exceeded",
        f"The input is {'too long to be counted' if count is None else f'about {count} tokens'}; "
        f"'{model.name}' takes {longest}. Shorten it.",
        param="input" if "input" in call.document else "messages",
    )


PLUGIN = PricingPlugin
