"""One function prices an exchange, wherever a price is asked for."""

from __future__ import annotations

from dataclasses import replace

from proxy.catalogue import Model
from proxy.dialects.base import Call
from proxy.pricing.bounds import input_bound
from proxy.pricing.money import ZERO, Nano
from proxy.pricing.quote import Quote


def quote(model: Model, call: Call, *, provider_credential: bool) -> Quote:
    """The upper bound by bytes: cheap, proven, and far above what most requests cost.

    `provider_credential`: the caller pays its provider itself, is charged 0, and only the list cost is bounded.
    """
    bound = input_bound(call, image_tokens_max=model.image_tokens_max)
    reason = call.unbounded or ("" if bound is not None else "images, whose tokens this model's entry does not bound")
    if not reason and provider_credential and model.rates is None:
        reason = "a model that has no list price here"
    unpriced = Quote(
        input_tokens=len(call.body) if bound is None else bound,
        output_tokens=_output_limit(model, call),
        choices=call.choices,
        charged=ZERO,
        list=ZERO,
        bounded=not reason,
        unbounded_reason=reason,
    )
    return priced(unpriced, model, call, provider_credential=provider_credential)


def priced(quote: Quote, model: Model, call: Call, *, provider_credential: bool) -> Quote:
    """The same quote with both amounts worked out from its tokens."""
    output = quote.output_tokens * quote.choices
    charged = ZERO
    if model.rates is not None and not provider_credential:
        charged = model.rates.bound(quote.input_tokens, output, cache_write=call.cache_write)
    listed = _dearest(model, quote.input_tokens, output, cache_write=call.cache_write)
    return replace(quote, charged=charged, list=listed)


def _dearest(model: Model, input_tokens: int, output_tokens: int, *, cache_write: bool) -> Nano | None:
    """List cost at the dearest candidate; None where one has no price."""
    dearest = ZERO
    for candidate in model.candidates:
        rates = model.list_rates(candidate)
        if rates is None:
            return None
        dearest = max(dearest, rates.bound(input_tokens, output_tokens, cache_write=cache_write))
    return dearest


def _output_limit(model: Model, call: Call) -> int:
    if call.dialect == "openai.embeddings":
        return 0
    asked = call.output_tokens_max
    return min(model.output_tokens_default if asked is None else asked, model.output_tokens_max)
