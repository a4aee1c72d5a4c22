"""Published prices are taken as the package means them: its own arithmetic is the judge."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any

import pytest
from genai_prices import Usage as TheirUsage
from genai_prices.data import providers
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.pricing import published as module
from proxy.pricing.published import NotPublished, published, published_at
from proxy.pricing.rates import parse_rate
from proxy.usage import Usage

AT = int(datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp() * 1000)
MODELS = [
    (provider, model)
    for provider in providers
    if provider.id in ("openai", "anthropic", "google", "groq", "mistral", "x-ai", "deepseek", "together", "openrouter")
    for model in provider.models
]
COUNT = st.integers(0, 1_200_000)


@given(st.sampled_from(MODELS), COUNT, st.integers(0, 50_000), COUNT)
def test_costs_are_those_of_the_package(
    named: tuple[Provider, ModelInfo], tokens: int, output: int, cached: int
) -> None:
    """Tiers, dates and all, to half a nano-dollar; where the time of day counts, never below it."""
    provider, model = named
    try:
        rates = published(f"{provider.id}/{model.id}", AT)
    except NotPublished:
        assume(False)
        return
    usage = Usage.reported(input_tokens=tokens, output_tokens=output, cached_tokens=cached)
    theirs = model.calc_price(
        TheirUsage(input_tokens=tokens, output_tokens=output, cache_read_tokens=usage.cached_tokens),
        provider,
        genai_request_timestamp=datetime.fromtimestamp(AT / 1000, UTC),
    )
    ours, nano = Decimal(rates.cost(usage)), theirs.total_price * 10**9
    if "time of day" in rates.source:
        assert ours >= nano - Decimal("0.5")
    else:
        # A price finer than twelve decimals is rounded up there.
        assert nano - Decimal("0.5") <= ours <= nano + Decimal("0.51")


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two providers of the test's own in place of the package's."""

    def put(*models: ModelInfo, fallback: list[str] | None = None) -> None:
        mine = Provider("acme", "Acme", r"https://api\.acme\.test", models=list(models))
        seller = Provider("seller", "Seller", r"https://seller\.test", fallback_model_providers=fallback)
        monkeypatch.setattr(module, "_providers", lambda: {"acme": mine, "seller": seller})
        module._exact_names.cache_clear()

    yield put
    module._exact_names.cache_clear()


def priced(name: str, *prices: Any, equals: str = "") -> ModelInfo:
    return ModelInfo(name, ClauseEquals(equals or name), prices=prices[0] if len(prices) == 1 else list(prices))


def per_token(into: str, out: str = "1", **more: Any) -> ModelPrice:
    return ModelPrice(input_mtok=Decimal(into), output_mtok=Decimal(out), **more)


def test_every_kind_has_its_place(data: Any) -> None:
    """Cache writes of both lengths, reasoning, images and audio both ways."""
    kinds = {
        "cache_read_mtok": "0.1", "cache_write_mtok": "1.25", "cache_write_1h_mtok": "2", "output_reasoning_mtok": "9",
        "input_image_mtok": "3", "input_audio_mtok": "4", "output_audio_mtok": "12", "web_searches_kcount": "10",
    }  # fmt: skip
    data(priced("m", per_token("1", "8", **{kind: Decimal(usd) for kind, usd in kinds.items()})))
    rates = published("acme/m", AT)
    texts = ("1", "8", "0.1", "1.25", "2", "9", "3", "4", "12")
    assert rates.by_kind == tuple(map(parse_rate, texts))
    assert rates.source.endswith(" acme/m 2026-11-21")


def test_a_price_applies_from_its_date(data: Any) -> None:
    """What is dated ahead is not charged yet; a load after the date takes it."""
    later = StartDateConstraint(datetime(2026, 12, 1, tzinfo=UTC).date())
    data(priced("m", ConditionalPrice(prices=per_token("1")), ConditionalPrice(later, prices=per_token("2"))))
    assert published("acme/m", AT).input == parse_rate(1)
    assert published("acme/m", AT + 10 * 86_400_000).input == parse_rate(2)


def test_the_dearest_time_of_day_counts_at_all_times(data: Any) -> None:
    """Kind by kind, and the source says so; a price of a past date is no part of it."""
    night = TimeOfDateConstraint(time(1, tzinfo=UTC), time(4, tzinfo=UTC))
    past = StartDateConstraint(datetime(2026, 1, 1, tzinfo=UTC).date())
    data(
        priced(
            "m",
            ConditionalPrice(prices=per_token("99", "99")),
            ConditionalPrice(past, prices=per_token("2", "3")),
            ConditionalPrice(night, prices=per_token("1", "7")),
        )
    )
    rates = published("acme/m", AT)
    assert (rates.input, rates.output) == (parse_rate(2), parse_rate(7))
    assert rates.source.endswith("(dearest time of day)")


def test_tiers_that_begin_apart_become_bands(data: Any) -> None:
    """At each start every kind has the price that it has there."""
    tiered = TieredPrices(Decimal(1), [Tier(1000, Decimal(2))])
    data(priced("m", ModelPrice(input_mtok=tiered, output_mtok=TieredPrices(Decimal(5), [Tier(2000, Decimal(6))]))))
    rates = published("acme/m", AT)
    assert [band.above_input_tokens for band in rates.bands] == [1000, 2000]
    at = [rates.at(tokens) for tokens in (1000, 1001, 2000, 2001)]
    assert [(one.input, one.output) for one in at] == [
        (parse_rate(into), parse_rate(out)) for into, out in ((1, 5), (2, 5), (2, 5), (2, 6))
    ]


def test_a_price_finer_than_can_be_kept_is_rounded_up(data: Any) -> None:
    """Binary fractions written out."""
    data(priced("m", per_token("0.0833333333333333")))
    assert published("acme/m", AT).input == parse_rate("0.083333333334")


@pytest.mark.parametrize(
    ("price", "said"),
    [
        (ModelPrice(input_mtok=Decimal(1), requests_kcount=Decimal(5)), "a price by requests_kcount"),
        (ModelPrice(output_mtok=Decimal(1)), "no price by token of input"),
        (ModelPrice(input_mtok=Decimal(1), dreams_mtok=Decimal(1)), "a price by dreams_mtok"),
    ],
)
def test_what_tokens_do_not_bound_is_not_taken(data: Any, price: ModelPrice, said: str) -> None:
    """A price by request or of a kind that nobody knows would be charged wrongly."""
    data(priced("m", price))
    with pytest.raises(NotPublished) as refused:
        published("acme/m", AT)
    assert said in refused.value.message


def test_names_are_exact_but_for_those_the_data_spells_out(data: Any) -> None:
    """A pattern would give a price to a slip of the pen; who sells another's models has its prices."""
    data(priced("m-1", per_token("1"), equals="m-1-dated"), fallback=["acme"])
    assert published("acme/m-1-dated", AT).source == published("ACME/M-1", AT).source
    assert " acme/m-1 " in published("seller/m-1", AT).source
    with pytest.raises(NotPublished) as refused:
        published("acme/m-11", AT)
    assert "acme/m-1" in refused.value.suggestions


def test_a_comparison_finds_the_provider_by_its_address(data: Any) -> None:
    """And nothing at an address that nobody publishes for."""
    data(priced("m", per_token("1")), priced("free", ModelPrice()))
    found = published_at("https://api.acme.test/v1", "m", AT)
    assert found is not None and found[0] == "acme/m" and found[1].input == parse_rate(1)
    assert published_at("https://api.acme.test/v1", "other", AT) is None
    assert published_at("https://api.acme.test/v1", "free", AT) is None
    assert published_at("https://elsewhere.test/v1", "m", AT) is None


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a socket is made."""

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    assert published("openai/gpt-4.1", AT).input == parse_rate(2)
    assert published_at("https://api.openai.com/v1", "gpt-4.1", AT) is not None
