"""Costs are exact, rounded once, and never above their bound."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.pricing.rates import KINDS, Band, Rates, dearest, parse_rate
from proxy.usage import Usage

RATE = st.decimals(0, 200, places=4).map(parse_rate)
OPTIONAL = st.none() | RATE
KINDS_RATES = {
    "input": RATE,
    "output": RATE,
    **dict.fromkeys(KINDS[2:], OPTIONAL),
}
PLAIN = st.builds(Rates, **KINDS_RATES)
STARTS = st.lists(st.integers(1, 2_000_000), max_size=3, unique=True).map(sorted)
BANDS = STARTS.flatmap(lambda starts: st.tuples(*[st.builds(Band, st.just(start), PLAIN) for start in starts]))
RATES = st.builds(Rates, **KINDS_RATES, bands=BANDS)
COUNT = st.integers(0, 2_000_000)
USAGE = st.builds(
    Usage.reported,
    input_tokens=COUNT,
    output_tokens=COUNT,
    cached_tokens=COUNT,
    cache_write_tokens=COUNT,
    cache_write_1h_tokens=COUNT,
    reasoning_tokens=COUNT,
    image_tokens=COUNT,
    audio_tokens=COUNT,
    audio_output_tokens=COUNT,
)


def test_a_published_price() -> None:
    """2.50 USD a million in, 10 out: 1000 in and 100 out cost 0.0035 USD."""
    rates = Rates(parse_rate("2.50"), parse_rate(10))
    assert rates.cost(Usage(1000, 100)) == 3_500_000


def test_every_kind_of_token_at_its_own_rate() -> None:
    """Each million of a kind costs that kind's rate."""
    into, out, cached, write, hour, reasoning = (parse_rate(usd) for usd in ("3", "15", "0.30", "3.75", "6", "20"))
    rates = Rates(into, out, cached, write, hour, reasoning)
    million = 1_000_000
    usage = Usage(4 * million, 2 * million, million, million, million, million)
    assert rates.cost(usage) == sum((3, 15, 6, 20)) * 10**9 + 300_000_000 + 3_750_000_000


def test_missing_rates_fall_back() -> None:
    """Cache reads and writes to the input's, reasoning to the output's, an hour's write to the shorter one's."""
    rates = Rates(parse_rate(2), parse_rate(8), cache_write=parse_rate(5))
    assert rates.cost(Usage(100, 100, 50, 0, 0, 100)) == rates.cost(Usage(100, 100))
    assert rates.cost(Usage(1_000_000, 0, cache_write_1h_tokens=1_000_000)) == 5 * 10**9


def exactly(rates: Rates, usage: Usage) -> Fraction:
    """What it costs, written down once more: token by token at its kind's rate, in the band of the whole input."""
    reached = [band.rates for band in rates.bands if usage.input_tokens > band.above_input_tokens]
    applicable = reached[-1] if reached else rates

    def rate(kind: str, *fallbacks: str) -> int:
        found: int | None = getattr(applicable, kind)
        return found if found is not None else rate(*fallbacks)

    of_input = {
        ("cached_input", "input"): usage.cached_tokens,
        ("cache_write", "input"): usage.cache_write_tokens,
        ("cache_write_1h", "cache_write", "input"): usage.cache_write_1h_tokens,
        ("image", "input"): usage.image_tokens,
        ("audio", "input"): usage.audio_tokens,
    }
    of_output = {
        ("reasoning", "output"): usage.reasoning_tokens,
        ("audio_output", "output"): usage.audio_output_tokens,
    }
    parts = of_input | of_output
    parts[("input",)] = usage.input_tokens - sum(of_input.values())
    parts[("output",)] = usage.output_tokens - sum(of_output.values())
    return Fraction(sum(rate(*kinds) * tokens for kinds, tokens in parts.items()), 10**9)


@given(RATES, USAGE)
def test_a_cost_is_the_exact_sum_rounded_once(rates: Rates, usage: Usage) -> None:
    """Half a nano-dollar at most from the fraction that it is."""
    assert abs(rates.cost(usage) - exactly(rates, usage)) <= Fraction(1, 2)


@given(RATES, USAGE, COUNT, COUNT)
def test_no_usage_costs_more_than_its_bound(rates: Rates, usage: Usage, more_in: int, more_out: int) -> None:
    """Nor more than the bound of more tokens, whatever bands and kinds they fall into."""
    allowed = {"cache_write": True, "images": True, "audio": True}
    bound = rates.bound(usage.input_tokens, usage.output_tokens, **allowed)
    assert rates.cost(usage) <= bound
    assert bound <= rates.bound(usage.input_tokens + more_in, usage.output_tokens + more_out, **allowed)


@given(RATES, USAGE)
def test_kinds_that_a_call_cannot_use_need_not_be_held(rates: Rates, usage: Usage) -> None:
    """Text without cache writes stays below the smallest bound."""
    text = Usage.reported(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
    )
    assert rates.cost(text) <= rates.bound(text.input_tokens, text.output_tokens)


def test_past_a_band_every_token_costs_its_rates() -> None:
    """The published cliff: 272,000 tokens at 5 USD, one more and all of them, and the output, at the band's."""
    long = Rates(parse_rate(10), parse_rate(45))
    rates = Rates(parse_rate(5), parse_rate(30), bands=(Band(272_000, long),))
    assert rates.cost(Usage(272_000, 1000)) == 272_000 * 5_000 + 1000 * 30_000
    assert rates.cost(Usage(272_001, 1000)) == 272_001 * 10_000 + 1000 * 45_000
    assert rates.bound(272_000, 1000) == rates.cost(Usage(272_000, 1000))
    assert rates.bound(272_001, 1000) == rates.cost(Usage(272_001, 1000))


def test_images_and_audio_at_their_own_rates() -> None:
    """0.30 for text, 1.00 for audio, as Google charges; generated audio apart from text."""
    rates = Rates(parse_rate("0.30"), parse_rate("2.50"), image=parse_rate(2), audio=parse_rate(1), audio_output=10)
    usage = Usage.reported(
        input_tokens=1000, output_tokens=100, image_tokens=100, audio_tokens=200, audio_output_tokens=100
    )
    assert rates.cost(usage) == 700 * 300 + 100 * 2_000 + 200 * 1_000
    assert rates.bound(1000, 0) < rates.bound(1000, 0, audio=True) < rates.bound(1000, 0, images=True)


@given(st.lists(RATES, min_size=1, max_size=3), USAGE)
def test_the_dearest_of_several_is_never_below_any(choices: list[Rates], usage: Usage) -> None:
    """Kind by kind and band by band."""
    assert dearest(choices).cost(usage) >= max(rates.cost(usage) for rates in choices)


def test_a_bound_is_rounded_up() -> None:
    """A fraction of a nano-dollar is one."""
    assert Rates(parse_rate("0.0001"), 0).bound(1, 0) == 1
    assert Rates(0, 0).bound(10**9, 10**9) == 0


def test_free_means_every_kind() -> None:
    """One priced kind is enough not to be free."""
    assert Rates(0, 0).free
    assert not Rates(0, 0, reasoning=1).free
    assert not Rates(0, 0, bands=(Band(10, Rates(0, 1)),)).free


@pytest.mark.parametrize("rate", ["-1", "NaN", "Infinity", "0.0000000000001"])
def test_rates_that_are_none_are_refused(rate: str) -> None:
    """Negative, not finite, or finer than can be kept."""
    with pytest.raises(ValueError):
        parse_rate(Decimal(rate))
