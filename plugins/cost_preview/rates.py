"""The table of GET /v1/cost-preview/rates, rendered once for all callers who see the same."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any, Final

import orjson

from proxy.catalogue import Model
from proxy.clock import Clock
from proxy.config.schema import Generation
from proxy.endpoints.access import is_callable, tier_of
from proxy.exchange import Exchange
from proxy.operations import CHAT
from proxy.panels import members, run_price
from proxy.policy.rules import NO_RULES
from proxy.pricing.rates import Rates, rate_text

_REFUSED: Final = "Unknown models are refused (404 model_not_available)"

_View = tuple[str | None, bool, tuple[tuple[str, str], ...], tuple[str, ...]]
"""All of a caller that the table depends on: tier, loopback, the scopes whose rules name models, its own models."""


class RatesCache:
    """Rendered tables, each kept for `seconds`; forgotten when another configuration comes."""

    def __init__(self, clock: Clock, seconds: int, entries_max: int) -> None:
        self.seconds = seconds
        self._clock = clock
        self._entries_max = entries_max
        self._entries: dict[_View, tuple[float, bytes]] = {}
        self._generation: Generation | None = None

    def table(self, exchange: Exchange, own: Mapping[str, Model]) -> bytes:
        """The JSON body for this caller, whose team registered the models `own`."""
        if exchange.generation is not self._generation:
            self._generation = exchange.generation
            self._entries.clear()
        view, now = _view(exchange, own), self._clock.monotonic()
        found = self._entries.get(view)
        if found is not None and now < found[0]:
            return found[1]
        if found is None and len(self._entries) >= self._entries_max:
            self._entries.clear()
        body = orjson.dumps(_table(exchange, own))
        self._entries[view] = (now + self.seconds, body)
        return body


def usd(text: str) -> orjson.Fragment:
    """A decimal as a JSON number of exactly these digits: no float comes near it."""
    return orjson.Fragment(text)


def _view(exchange: Exchange, own: Mapping[str, Model]) -> _View:
    policy = exchange.policy or NO_RULES
    scopes = tuple((one.scope, one.scope_id) for one in policy.scopes) if policy.restricts_models else ()
    return tier_of(exchange), exchange.origin.loopback, scopes, tuple(own)


def _table(exchange: Exchange, own: Mapping[str, Model]) -> dict[str, Any]:
    generation = exchange.generation
    by_name = sorted({**generation.models, **own}.items(), key=itemgetter(0))
    priced = [(name, rates) for name, model in by_name if (rates := model.rates) is not None]
    default = generation.default_rate
    shown = "" if default is None else "; the default rate is shown for comparison and never charged"
    return {
        "ok": True,
        "currency": "usd",
        "default_rate": None if default is None else rates_by_side(default),
        "rates": [
            {"model": name, "input_per_1m": usd(rate_text(rates.input)), "output_per_1m": usd(rate_text(rates.output))}
            for name, rates in priced
        ],
        "catalog": [_entry(name, model, generation) for name, model in by_name if CHAT.name in model.operations],
        "accessible_to_caller": [name for name, model in by_name if is_callable(exchange, model)],
        "caller_tier": tier_of(exchange),
        "note": f"{_REFUSED}{shown}.",
    }


def rates_by_side(rates: Rates) -> dict[str, Any]:
    """Dollars per million tokens of input and of output."""
    return {"input": usd(rate_text(rates.input)), "output": usd(rate_text(rates.output))}


def _entry(name: str, model: Model, generation: Generation) -> dict[str, Any]:
    tiers = [tier for tier in generation.tiers if not model.tiers or tier in model.tiers]
    run: dict[str, Any] = {}
    if model.panel is not None:
        run = {"price_per_run": run_price(model.panel), "members": members(model.panel)}
    return {
        "id": name,
        "display_name": model.display_name or name,
        "tiers": tiers,
        "context_window": model.context_tokens,
        **run,
    }
