"""Prices that providers publish, as the `genai-prices` package dates them: `genai:openai/gpt-4.1`.

Only the data inside the installed package is read; nothing is ever fetched, and the package is imported where a
price is first asked of it (a quarter of a second, 22 MB). Its tiers are Tollway's bands: past the start of a tier
every token of a call costs the tier's price. What it dates ahead applies from then on: the price is that of the
moment of loading, and a reload takes over a later one. Where the price depends on the time of day, the dearest
counts at all times.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import ROUND_UP, Decimal
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from proxy.pricing.rates import Band, Rates, dearest, parse_rate

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider, Tier, TieredPrices

PREFIX: Final = "genai:"
_FINEST: Final = Decimal("1e-12")
"""A few prices are finer, binary fractions written out: rounded up to this."""

_KINDS: Final = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cached_input",
    "cache_write_mtok": "cache_write",
    "cache_write_5m_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "output_reasoning_mtok": "reasoning",
    "input_image_mtok": "image",
    "input_audio_mtok": "audio",
    "output_audio_mtok": "audio_output",
}
_BESIDE: Final = frozenset(
    {
        "web_searches_kcount", "storage_searches_kcount", "output_image_mtok", "input_video_mtok",
        "output_video_mtok", "cache_audio_read_mtok", "cache_image_read_mtok", "input_document_kpages",
        "input_annotated_document_kpages", "audio_hours", "input_audio_hours",
    }
)  # fmt: skip
"""Prices of what a request must ask for by itself, and that counts as unbounded: they may be left out of the rates."""


class NotPublished(LookupError):
    """The reference leads to no price. `suggestions` are the names it may be a slip of."""

    def __init__(self, message: str, suggestions: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.suggestions = suggestions


def published(reference: str, at_ms: int) -> Rates:
    """The rates of `provider/model` (without the prefix), exactly that name. Raises NotPublished.

    A model without a price for output, as those that only embed, has 0 there. Their source names package, version,
    model and day.
    """
    provider_id, _, name = reference.partition("/")
    provider = _providers().get(provider_id.lower())
    if provider is None:
        raise NotPublished(
            f"genai-prices {_version()} knows no provider '{provider_id}'",
            tuple(f"{known}/{name}" for known in _providers()),
        )
    for place in _with_fallbacks(provider):
        model = _exact_names(place.id).get(name.lower())
        if model is not None:
            return _rates(place, model, at_ms)
    raise NotPublished(
        f"genai-prices {_version()} has no price for '{name}' of {provider.id}",
        tuple(f"{provider.id}/{known}" for known in _exact_names(provider.id)),
    )


def published_at(base_url: str, name: str, at_ms: int) -> tuple[str, Rates] | None:
    """What the provider at `base_url` publishes for the model it calls `name`; None where nothing is known.

    `name` may be any spelling that the package takes for the model: good for a comparison, not for charging.
    """
    for provider in _providers().values():
        if not re.match(provider.api_pattern, base_url):
            continue
        model = provider.find_model(name, all_providers=list(_providers().values()))
        if model is not None:
            try:
                return f"{provider.id}/{model.id}", _rates(provider, model, at_ms)
            except NotPublished:
                return None
    return None


def _rates(provider: Provider, model: ModelInfo, at_ms: int) -> Rates:
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    prices = list(_applicable(model, at))
    source = f"genai-prices {_version()} {provider.id}/{model.id} {at.date().isoformat()}"
    if len(prices) > 1:
        source += " (dearest time of day)"
    return dearest([_rates_of(f"{provider.id}/{model.id}", price, source) for price in prices])


def _applicable(model: ModelInfo, at: datetime) -> Iterator[ModelPrice]:
    """The price in force, after every one that takes its place at some time of the day. Later entries win."""
    from genai_prices.types import StartDateConstraint, TimeOfDateConstraint

    if not isinstance(model.prices, list):
        yield model.prices
        return
    for conditional in reversed(model.prices):
        if isinstance(conditional.constraint, TimeOfDateConstraint):
            yield conditional.prices
        elif not isinstance(conditional.constraint, StartDateConstraint) or conditional.constraint.active(at):
            yield conditional.prices
            return
    yield model.prices[0].prices


def _rates_of(name: str, price: ModelPrice, source: str) -> Rates:
    """Raises NotPublished where it has a price that is not by token, or none for input."""
    found = {key: value for key, value in vars(price).items() if value is not None and not key.startswith("_")}
    strange = sorted(found.keys() - _KINDS.keys() - _BESIDE)
    if strange or "input_mtok" not in found:
        what = f"has a price by {', '.join(strange)}" if strange else "has no price by token of input"
        raise NotPublished(f"'{name}' {what}, which cannot be bounded for a request: write its price out")
    kinds = {_KINDS[key]: value for key, value in found.items() if key in _KINDS}
    starts = sorted({tier.start for value in kinds.values() for tier in _tiers(value)})
    bands = tuple(Band(start, _at(kinds, start)) for start in starts)
    return _at(kinds, None, bands, source)


def _at(
    kinds: dict[str, Decimal | TieredPrices], start: int | None, bands: tuple[Band, ...] = (), source: str = ""
) -> Rates:
    """The rates below every tier (None), or just past `start` tokens."""
    rates = {kind: _scaled(_price(value, start)) for kind, value in kinds.items()}
    return Rates(rates.pop("input"), rates.pop("output", 0), bands=bands, source=source, **rates)


def _price(value: Decimal | TieredPrices, start: int | None) -> Decimal:
    if isinstance(value, Decimal):
        return value
    reached = [tier.price for tier in value.tiers if start is not None and tier.start <= start]
    return reached[-1] if reached else value.base


def _tiers(value: Decimal | TieredPrices) -> list[Tier]:
    return [] if isinstance(value, Decimal) else value.tiers


def _scaled(usd: Decimal) -> int:
    return parse_rate(usd.quantize(_FINEST, ROUND_UP) if usd % _FINEST else usd)


def _with_fallbacks(provider: Provider) -> Iterator[Provider]:
    """The provider, and those whose models it sells: Azure OpenAI's."""
    yield provider
    for name in provider.fallback_model_providers or ():
        if name in _providers():
            yield _providers()[name]


@cache
def _providers() -> dict[str, Provider]:
    from genai_prices.data import providers

    return {provider.id: provider for provider in providers}


@cache
def _version() -> str:
    return version("genai-prices")


@cache
def _exact_names(provider_id: str) -> dict[str, ModelInfo]:
    """A provider's models by id and by the names that the data spells out; patterns would price a slip of the pen."""
    from genai_prices.types import ClauseEquals, ClauseOr

    found: dict[str, ModelInfo] = {}
    for model in _providers()[provider_id].models:
        clauses = model.match.or_ if isinstance(model.match, ClauseOr) else [model.match]
        for clause in clauses:
            if isinstance(clause, ClauseEquals):
                found.setdefault(clause.equals.lower(), model)
    for model in _providers()[provider_id].models:
        found[model.id.lower()] = model
    return found
