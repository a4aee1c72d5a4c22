"""One function prices an exchange, wherever a price is asked for."""

from __future__ import annotations

from dataclasses import replace

from proxy.admission import Candidates
from proxy.catalogue import Model
from proxy.dialects.base import Call
from proxy.pricing.bounds import input_bound
from proxy.pricing.money import ZERO, Nano
from proxy.pricing.quote import Quote
from proxy.pricing.tokens import FALLBACK_ENCODING

UNPRICED = "a model that has no list price here"


def quote(model: Model, call: Call, *, provider_credential: bool, candidates: Candidates | None = None) -> Quote:
    """The upper bound by bytes: cheap, proven, and far above what most requests cost.

    `provider_credential`: the caller pays its provider itself, is charged 0, and only the list cost is bounded.
    `candidates` are the admissible ones; absent: all of the model's.
    """
    serving = model.candidates if candidates is None else candidates
    bound = input_bound(call, image_tokens_max=image_bound(model, serving) if call.images else None)
    reason = call.unbounded or ("" if bound is not None else "images, whose tokens this model's entry does not bound")
    input_tokens = len(call.body) if bound is None else bound
    output_tokens = _output_limit(model, call, serving)
    charged, of_input, listed = _amounts(
        model, call, input_tokens, output_tokens * call.choices, serving, own=provider_credential
    )
    if listed is None and not reason:
        reason = UNPRICED
    return Quote(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        choices=call.choices,
        charged=charged,
        list=listed,
        bounded=not reason,
        unbounded_reason=reason,
        input_charged=of_input,
        candidates=serving,
    )


def narrowed(quote: Quote, model: Model, call: Call, candidates: Candidates) -> Quote:
    """The quote with fewer candidates: an output limit that they take, and the amounts at their prices."""
    limit = _output_limit(model, call, candidates)
    return priced(replace(quote, candidates=candidates, output_tokens=limit), model, call, provider_credential=False)


def priced(quote: Quote, model: Model, call: Call, *, provider_credential: bool) -> Quote:
    """The same quote with its amounts worked out anew from its tokens and its candidates."""
    output = quote.output_tokens * quote.choices
    charged, of_input, listed = _amounts(
        model, call, quote.input_tokens, output, quote.candidates, own=provider_credential
    )
    return replace(quote, charged=charged, input_charged=of_input, list=listed)


def image_bound(model: Model, candidates: Candidates) -> int | None:
    """The most tokens that one image can cost at any of them; None where one cannot be bounded."""
    most = 0
    for candidate in candidates:
        own = model.image_tokens_max_of(candidate)
        if own is None:
            return None
        most = max(most, own)
    return most


def encoding_of(model: Model, candidates: Candidates) -> str:
    """One vocabulary for one count: the model's, or the first that is known among its candidates'."""
    known = (candidate.encoding for candidate in candidates if candidate.encoding is not None)
    return model.encoding or next(known, FALLBACK_ENCODING)


def _amounts(
    model: Model, call: Call, input_tokens: int, output_tokens: int, candidates: Candidates, *, own: bool
) -> tuple[Nano, Nano, Nano | None]:
    """What is charged at most, the part of it that is input, and the list cost at the dearest candidate.

    The list cost is None where a candidate has no price, and that of two answers where a hedge may run. A panel's
    amounts are its price and its budget.
    """
    if model.panel is not None:
        return ZERO if own else model.panel.price.usd, ZERO, model.panel.budget
    cache_write, images, audio = call.cache_write, call.images > 0, call.unbounded is not None
    rates, at_ours, of_input = model.rates, ZERO, ZERO
    if rates is not None:
        # Audio counts as unbounded, and so does whatever else may bring it.
        at_ours = rates.bound(input_tokens, output_tokens, cache_write=cache_write, images=images, audio=audio)
        if not own:
            of_input = rates.bound(input_tokens, 0, cache_write=cache_write, images=images, audio=audio)
    charged, dearest = ZERO if own else at_ours, ZERO
    for candidate in candidates:
        at_list = model.list_rates(candidate)
        if at_list is None:
            return charged, of_input, None
        if at_list is rates:
            bound = at_ours
        else:
            bound = at_list.bound(input_tokens, output_tokens, cache_write=cache_write, images=images, audio=audio)
        if bound > dearest:
            dearest = bound
    hedged = model.hedge and len(candidates) > 1 and not own
    return charged, of_input, Nano(2 * dearest) if hedged else dearest


def _output_limit(model: Model, call: Call, candidates: Candidates) -> int:
    """What the client asks for, or else the model's default; never more than a candidate takes."""
    if call.dialect == "openai.embeddings":
        return 0
    asked = call.output_tokens_max
    wanted = model.output_tokens_default if asked is None else asked
    if not model.lane:
        return min(wanted, model.output_tokens_max)
    return min(wanted, max([model.output_max_of(candidate) for candidate in candidates], default=wanted))
