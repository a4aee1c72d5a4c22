"""One function prices what is asked for: never below what it can come to, each unit rounded up once."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.catalogue import Model
from proxy.consensus.settings import Price as Money
from proxy.dialects import DIALECTS
from proxy.dialects.base import Call
from proxy.errors import Refusal
from proxy.panel_quoting import panel_quote
from proxy.payments.api import Price
from proxy.payments.prices import ANTHROPIC_TOOL_TOKENS, ANTHROPIC_TOOLS_TOKENS, price_of, surcharged
from proxy.payments.settings import Payments
from proxy.pricing import tokens
from proxy.pricing.money import Nano
from proxy.pricing.rates import Rates, parse_rate
from proxy.quoting import quote
from proxy.usage import Usage
from tests.support.fakes import model
from tests.support.panels import mode, panel_model

RATES = Rates(input=parse_rate("3"), output=parse_rate("15"), cache_write=parse_rate("3.75"), source="test")
MODEL = model(rates=RATES, image_tokens_max=1500)
NANO_PER_BTC = 68_000 * 10**9


def call_of(dialect: str = "openai.chat", **body: Any) -> Call:
    """A request as its dialect reads it."""
    asked = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100, **body}
    return DIALECTS[dialect].parse(orjson.dumps(asked))


async def priced(call: Call, sold: Model = MODEL, under: Payments | None = None) -> Price:
    """Its price."""
    found = quote(sold, call, provider_credential=False)
    return await price_of(sold, call, found, under or Payments(), nano_per_btc=NANO_PER_BTC)


async def test_the_price_is_the_counted_input_and_the_whole_output() -> None:
    """In every unit; a chat may be written to a cache without asking, and is priced as if it were."""
    price = await priced(call_of())
    assert (price.input_tokens, price.input_chars, price.max_tokens, price.output_tokens) == (8, 6, 100, 100)
    assert price.usd == 8 * 3750 + 100 * 15_000
    assert price.input_usd == 8 * 3750
    assert price.usdc == 1530
    assert price.msat == -(-price.usd * 10**11 // NANO_PER_BTC)


async def test_every_choice_is_paid_for() -> None:
    """`n` multiplies the output; one is forwarded."""
    price = await priced(call_of(n=3))
    assert (price.output_tokens, price.max_tokens, price.usd) == (300, 100, 8 * 3750 + 300 * 15_000)


async def test_without_a_limit_the_models_default_is_sold() -> None:
    """And what is more than the model gives is lowered to that."""
    assert (await priced(call_of(max_tokens=None))).max_tokens == MODEL.output_tokens_default
    assert (await priced(call_of(max_tokens=10**6))).max_tokens == MODEL.output_tokens_max


async def test_a_cache_that_is_written_is_paid_at_its_rate() -> None:
    """Dearer than input: the same tokens cost more, and the digest of the terms stays the same."""
    content = [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]
    plain = await priced(call_of("anthropic.messages"))
    cached = await priced(call_of("anthropic.messages", messages=[{"role": "user", "content": content}]))
    assert cached.usd - plain.usd == 8 * 750
    assert cached.rates_digest == plain.rates_digest


async def test_tools_are_paid_with_what_is_written_around_them() -> None:
    """Anthropic's own words about tools, and its own tools, which the body only names."""
    tool = {"name": "look", "input_schema": {"type": "object"}}
    bash = {"type": "bash_20250124", "name": "bash"}
    counted = tokens.count_call(call_of("anthropic.messages", tools=[tool, bash]), "o200k_base")
    assert counted is not None
    price = await priced(call_of("anthropic.messages", tools=[tool, bash]))
    assert price.input_tokens == counted + ANTHROPIC_TOOLS_TOKENS + ANTHROPIC_TOOL_TOKENS


async def test_what_cannot_be_counted_is_priced_by_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The upper bound of the caps."""

    async def busy(*_: object, **__: object) -> None:
        return None

    monkeypatch.setattr(tokens, "measure_call_async", busy)
    call = call_of()
    assert (await priced(call)).input_tokens == quote(MODEL, call, provider_credential=False).input_tokens


async def test_what_nobody_can_bound_is_not_sold() -> None:
    """400, and a model without a price is a 404."""
    call = call_of()
    found = quote(MODEL, call, provider_credential=False)
    vague = replace(found, bounded=False, unbounded_reason="a stored prompt")
    for asked, sold, code in ((vague, MODEL, "unbounded_cost"), (found, model(rates=None), "model_not_available")):
        with pytest.raises(Refusal) as refused:
            await price_of(sold, call, asked, Payments(), nano_per_btc=None)
        assert refused.value.code == code


async def test_without_an_exchange_rate_there_are_no_sats() -> None:
    """Dollars are known all the same."""
    call = call_of()
    found = quote(MODEL, call, provider_credential=False)
    price = await price_of(MODEL, call, found, Payments(credit=Nano(10**9 // 20)), nano_per_btc=None)
    assert (price.msat, price.usdc) == (None, 1530)
    assert price.credits_milli == 31


async def test_other_rates_are_other_terms() -> None:
    """So that a price that was raised does not void what was quoted."""
    other = model(rates=replace(RATES, output=parse_rate("16")), image_tokens_max=1500)
    assert (await priced(call_of())).rates_digest != (await priced(call_of(), other)).rates_digest
    dearer = Payments(surcharge_percent=Decimal(1))
    assert (await priced(call_of())).rates_digest != (await priced(call_of(), under=dearer)).rates_digest


@given(st.integers(0, 10**15), st.decimals(0, 1000, places=4), st.integers(0, 10**11))
def test_a_surcharge_is_exact_and_rounded_up(usd: int, percent: Decimal, flat: int) -> None:
    """Never below the share of it, never a whole unit above."""
    found = surcharged(Nano(usd), Payments(surcharge_percent=percent, surcharge=Nano(flat)))
    exact = usd * (1 + percent / 100) + flat
    assert 0 <= found - exact < 1


@settings(deadline=None)  # The first count loads the vocabulary.
@given(st.integers(0, 8), st.integers(0, 100), st.integers(0, 100))
async def test_no_usage_within_what_was_sold_costs_more(input_tokens: int, output: int, cached: int) -> None:
    """Whatever the provider reports of the sold input and output."""
    price = await priced(call_of())
    used = Usage(input_tokens, output, cached_tokens=min(cached, input_tokens))
    assert RATES.cost(used) <= price.usd


async def panel_priced(under: Payments | None = None, rate: int | None = NANO_PER_BTC, **changes: Any) -> Price:
    """Of a run."""
    sold, call = panel_model(mode(**changes)), call_of()
    found = await panel_quote(sold, call, sold.candidates)
    return await price_of(sold, call, found, under or Payments(), nano_per_btc=rate)


async def test_a_panels_run_has_one_price_whatever_is_asked() -> None:
    """None of it is input; credits are the mode's own, whether a credit has a price here or not."""
    price = await panel_priced()
    assert (price.usd, price.input_usd, price.credits_milli) == (50_000_000, 0, 1000)
    assert price.msat == -(-50_000_000 * 10**11 // NANO_PER_BTC)
    assert (price.max_tokens, price.output_tokens) == (100, 100)


async def test_a_panels_price_takes_the_surcharge_and_its_fixed_sats_do_not() -> None:
    """Sats that the file sets need no exchange rate."""
    under = Payments(surcharge_percent=Decimal(10), surcharge=Nano(7))
    fixed = Money(Nano(50_000_000), 1000, 73_000)
    price = await panel_priced(under, None, price=fixed)
    assert (price.usd, price.msat) == (55_000_007, 73_000)
    assert (await panel_priced(under, None)).msat is None


async def test_another_price_or_mode_is_other_terms() -> None:
    """A quote of before does not pay for them."""
    digests = [
        (await panel_priced()).rates_digest,
        (await panel_priced(price=Money(Nano(50_000_000), 2000))).rates_digest,
        (await panel_priced(name="other")).rates_digest,
        (await panel_priced(Payments(surcharge=Nano(1)))).rates_digest,
    ]
    assert len(set(digests)) == 4
    assert (await panel_priced()).rates_digest == digests[0]
