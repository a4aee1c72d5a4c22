"""The one function that says what a request costs a payer: for the 402, for estimates, and when it is paid."""

from __future__ import annotations

import hashlib
from typing import Final

from proxy.admission import Candidates
from proxy.catalogue import Model
from proxy.consensus.settings import Mode
from proxy.dialects.base import Call
from proxy.errors import Refusal
from proxy.ledger.payment_api import Unit
from proxy.operations import EMBEDDINGS, MESSAGES
from proxy.payments.api import Price
from proxy.payments.balance.charge import amount_of
from proxy.payments.settings import Payments
from proxy.pricing import tokens
from proxy.pricing.money import ZERO, Nano
from proxy.pricing.quote import Quote
from proxy.pricing.rates import Rates
from proxy.quoting import encoding_of, image_bound

PERCENT: Final = 100
ANTHROPIC_TOOLS_TOKENS: Final = 530
"""The most that Anthropic documents for the system prompt of tools."""
ANTHROPIC_TOOL_TOKENS: Final = 735
"""The same for one of its own (bash, editor, computer)."""
_DIGEST_CHARS: Final = 16


async def price_of(model: Model, call: Call, quote: Quote, settings: Payments, *, nano_per_btc: int | None) -> Price:
    """The most that the request may cost: its counted input and its whole output limit, at the alias's dearest rates;
    of a panel the price of a run.

    Raises Refusal `unbounded_cost` for what nobody can bound, `model_not_available` for a model without a price.
    """
    if not quote.bounded:
        raise Refusal(
            "unbounded_cost",
            f"This request uses {quote.unbounded_reason}. Its cost cannot be told before it is served, so that nobody "
            "can pay for it in advance. Leave it out.",
        )
    if model.panel is not None:
        return await _of_panel(model, model.panel, call, quote, settings, nano_per_btc=nano_per_btc)
    rates = model.rates
    if rates is None:
        raise Refusal(
            "model_not_available", f"The model '{model.name}' has no price and is not for sale.", param="model"
        )
    input_tokens, input_chars = await _measured(model, call, quote)
    output_tokens = quote.output_tokens * quote.choices
    images = call.images > 0
    of_input = rates.bound(input_tokens, 0, cache_write=call.cache_write, images=images)
    whole = rates.bound(input_tokens, output_tokens, cache_write=call.cache_write, images=images)
    usd = surcharged(whole, settings)
    return Price(
        usd=usd,
        input_usd=min(surcharged(of_input, settings), usd),
        msat=amount_of(usd, Unit.MSAT, nano_per_btc),
        input_tokens=input_tokens,
        input_chars=input_chars,
        input_items=call.input_parts if call.dialect == EMBEDDINGS.dialect else 0,
        output_tokens=output_tokens,
        max_tokens=quote.output_tokens,
        rates_digest=_digest(rates, settings),
        nano_per_btc=nano_per_btc,
        credits_milli=None if settings.credit is None else -(-usd * 1000 // settings.credit),
    )


async def _of_panel(
    model: Model, panel: Mode, call: Call, quote: Quote, settings: Payments, *, nano_per_btc: int | None
) -> Price:
    """The fixed price, with the surcharge where it is in dollars; nothing of it is input: a run that fails is free."""
    input_tokens, input_chars = await _measured(model, call, quote)
    price, usd = panel.price, surcharged(panel.price.usd, settings)
    return Price(
        usd=usd,
        input_usd=ZERO,
        msat=amount_of(usd, Unit.MSAT, nano_per_btc) if price.msat is None else price.msat,
        input_tokens=input_tokens,
        input_chars=input_chars,
        input_items=0,
        output_tokens=quote.output_tokens,
        max_tokens=quote.output_tokens,
        rates_digest=_digest_of(model.name, panel.name, price, str(settings.surcharge_percent), settings.surcharge),
        nano_per_btc=nano_per_btc,
        credits_milli=price.credits_milli,
    )


def surcharged(usd: Nano, settings: Payments) -> Nano:
    """With the operator's surcharge, rounded up."""
    if not settings.surcharge_percent:
        return Nano(usd + settings.surcharge)
    share, of = settings.surcharge_percent.as_integer_ratio()
    return Nano(usd - (-usd * share // (of * PERCENT)) + settings.surcharge)


async def _measured(model: Model, call: Call, quote: Quote) -> tuple[int, int]:
    """Tokens and characters of the input; by bytes where it is too long to be counted, or too many counts wait."""
    candidates: Candidates = quote.candidates or model.candidates
    images = image_bound(model, candidates) if call.images else None
    measured = await tokens.measure_call_async(call, encoding_of(model, candidates), image_tokens_max=images)
    if measured is None:
        return quote.input_tokens, len(call.body)
    return min(measured.tokens + _written_around(call), quote.input_tokens), measured.chars


def _written_around(call: Call) -> int:
    """Tokens that Anthropic writes around tools, and for those of its own that the body only names."""
    tools = call.document.get("tools")
    if not tools or call.dialect != MESSAGES.dialect:
        return 0
    named = [tool for tool in tools if tool.get("type", "custom") != "custom"]
    return ANTHROPIC_TOOLS_TOKENS + ANTHROPIC_TOOL_TOKENS * len(named)


def _digest(rates: Rates, settings: Payments) -> str:
    """Of all that the price depends on but amounts of tokens: where it is the same, more than was quoted is more."""
    bands = tuple((band.above_input_tokens, band.rates.by_kind) for band in rates.bands)
    return _digest_of(rates.by_kind, bands, str(settings.surcharge_percent), settings.surcharge)


def _digest_of(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:_DIGEST_CHARS]
