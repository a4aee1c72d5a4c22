"""Costs are exact, rounded once, and never above their bound."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.pricing.rates import Rates, parse_rate
from proxy.usage import Usage

RATE = st.decimals(0, 200, places=4).map(parse_rate)
OPTIONAL = st.none() | RATE
RATES = st.builds(
    Rates,
    input=RATE,
    output=RATE,
    cached_input=OPTIONAL,
    cache_write=OPTIONAL,
    cache_write_1h=OPTIONAL,
    reasoning=OPTIONAL,
)
COUNT = st.integers(0, 2_000_000)
USAGE = st.builds(
    Usage.reported,
    input_tokens=COUNT,
    output_tokens=COUNT,
    cached_tokens=COUNT,
    cache_write_tokens=COUNT,
    cache_write_1h_tokens=COUNT,
    reasoning_tokens=COUNT,
)


def test_a_published_price() -> None:
    """2.50 USD a million in, 10 out: 1000 in and 100 out cost 0.0035 USD."""
    rates = Rates(parse_rate("2.50"), parse_rate(10))
    assert rates.cost(Usage(1000, 100)) == 3_500_000


def test_every_kind_of_token_at_its_own_rate() -> None:
    """Each million of a kind costs that kind's rate."""
    rates = Rates(*map(parse_rate, (3, 15, "0.30", "3.75", 6, 20)))
    million = 1_000_000
    usage = Usage(4 * million, 2 * million, million, million, million, million)
    assert rates.cost(usage) == sum((3, 15, 6, 20)) * 10**9 + 300_000_000 + 3_750_000_000


def test_missing_rates_fall_back() -> None:
    """Cache reads and writes to the input's, reasoning to the output's, an hour's write to the shorter one's."""
    rates = Rates(parse_rate(2), parse_rate(8), cache_write=parse_rate(5))
    assert rates.cost(Usage(100, 100, 50, 0, 0, 100)) == rates.cost(Usage(100, 100))
    assert rates.cost(Usage(1_000_000, 0, cache_write_1h_tokens=1_000_000)) == 5 * 10**9


@given(RATES, USAGE)
def test_a_cost_is_the_exact_sum_rounded_once(rates: Rates, usage: Usage) -> None:
    """Half a nano-dollar at most from the fraction that it is."""
    cached = rates.input if rates.cached_input is None else rates.cached_input
    write = rates.input if rates.cache_write is None else rates.cache_write
    hour = write if rates.cache_write_1h is None else rates.cache_write_1h
    reasoning = rates.output if rates.reasoning is None else rates.reasoning
    plain = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens - usage.cache_write_1h_tokens
    exact = Fraction(
        plain * rates.input
        + usage.cached_tokens * cached
        + usage.cache_write_tokens * write
        + usage.cache_write_1h_tokens * hour
        + usage.reasoning_tokens * reasoning
        + (usage.output_tokens - usage.reasoning_tokens) * rates.output,
        10**9,
    )
    assert abs(rates.cost(usage) - exact) <= Fraction(1, 2)


@given(RATES, USAGE)
def test_no_usage_costs_more_than_its_bound(rates: Rates, usage: Usage) -> None:
    """As long as no cached token is dearer than a fresh one, which no provider charges."""
    if rates.cached_input is not None and rates.cached_input > rates.input:
        rates = Rates(rates.input, rates.output, None, rates.cache_write, rates.cache_write_1h, rates.reasoning)
    assert rates.cost(usage) <= rates.bound(usage.input_tokens, usage.output_tokens, cache_write=True)


def test_a_bound_is_rounded_up() -> None:
    """A fraction of a nano-dollar is one."""
    assert Rates(parse_rate("0.0001"), 0).bound(1, 0) == 1
    assert Rates(0, 0).bound(10**9, 10**9) == 0


def test_free_means_every_kind() -> None:
    """One priced kind is enough not to be free."""
    assert Rates(0, 0).free
    assert not Rates(0, 0, reasoning=1).free


@pytest.mark.parametrize("rate", ["-1", "NaN", "Infinity", "0.0000000000001"])
def test_rates_that_are_none_are_refused(rate: str) -> None:
    """Negative, not finite, or finer than can be kept."""
    with pytest.raises(ValueError):
        parse_rate(Decimal(rate))
