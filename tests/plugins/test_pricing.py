"""The most an exchange can cost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from plugins.pricing.plugin import PricingPlugin
from proxy.dialects import DIALECTS
from proxy.errors import Refusal
from proxy.exchange import Exchange
from proxy.plugin import PluginSettings
from tests.support.fakes import CHAT_BODY, Rest, exchange, generation, identity, model


def resolved(body: dict[str, Any] | None = None, *, own: bool = False, **changes: Any) -> Exchange:
    """An exchange that has come as far as RESOLVE."""
    seen = exchange(body=body, under=generation(models={"gpt-4o": model(**changes)}))
    seen.identity = identity(provider_credential=own)
    seen.call = DIALECTS["openai.chat"].parse(seen.request._reader._pieces[0])  # type: ignore[attr-defined]
    seen.model = seen.generation.models["gpt-4o"]
    return seen


async def price(seen: Exchange) -> None:
    await PricingPlugin(PluginSettings(), SimpleNamespace())(seen, Rest())  # type: ignore[arg-type]


async def test_quote_bounds_input_by_bytes_and_output_by_its_limit() -> None:
    """At 2.50 and 10 USD a million, in nano-dollars."""
    seen = resolved({**CHAT_BODY, "max_tokens": 70, "n": 3})
    await price(seen)
    assert seen.quote is not None
    assert (seen.quote.output_tokens, seen.quote.choices) == (70, 3)
    assert seen.quote.charged == seen.quote.input_tokens * 2_500 + 210 * 10_000
    assert seen.quote.list == seen.quote.charged


@pytest.mark.parametrize(("asked", "granted"), [(None, 1000), (50, 50), (99_999, 16_000)])
async def test_output_limit_is_the_clients_up_to_the_models(asked: int | None, granted: int) -> None:
    """Absent: the catalogue's default; beyond the model: lowered."""
    seen = resolved({**CHAT_BODY, **({} if asked is None else {"max_completion_tokens": asked})})
    await price(seen)
    assert seen.quote is not None and seen.quote.output_tokens == granted


async def test_model_without_a_price_is_refused_never_free() -> None:
    """Whatever the configuration let through."""
    with pytest.raises(Refusal) as refused:
        await price(resolved(rates=None))
    assert refused.value.code == "model_not_available"


async def test_own_provider_key_is_quoted_nothing_and_its_list_cost() -> None:
    """Charged 0; unpriced models pass with an unknown list cost."""
    seen = resolved(own=True)
    await price(seen)
    assert seen.quote is not None and seen.quote.charged == 0 and (seen.quote.list or 0) > 0
    unpriced = resolved(own=True, rates=None)
    await price(unpriced)
    assert unpriced.quote is not None and unpriced.quote.list is None and not unpriced.quote.bounded


async def test_input_beyond_the_context_is_refused_by_count_not_by_bytes() -> None:
    """Many bytes may be few tokens; many tokens are refused before they cost."""
    spaces = {**CHAT_BODY, "messages": [{"role": "user", "content": " " * 20_000}]}
    words = {**CHAT_BODY, "messages": [{"role": "user", "content": "one two " * 2_500}]}
    fits = resolved(spaces, context_tokens=2_000)
    await price(fits)
    assert fits.quote is not None
    with pytest.raises(Refusal) as refused:
        await price(resolved(words, context_tokens=2_000))
    assert refused.value.code == "context_length_exceeded"
    own = resolved(words, own=True, context_tokens=2_000)
    await price(own)
    assert own.quote is not None
