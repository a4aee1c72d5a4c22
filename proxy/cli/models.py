"""tollway models: what can be asked for, who serves it, what it costs, and what is missing."""

from __future__ import annotations

from typing import Any, Final

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from proxy.catalogue import Model
from proxy.cli.opening import DEFAULT_CONFIG, ConfigOption, JsonOption, generation_of, print_json
from proxy.config.schema import Generation
from proxy.pricing.rates import Rates, rate_text

SERVED_BY_CHARS_MIN: Final = 9
"""Long enough for the name of an upstream; several are wrapped."""


def models(config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """List the catalogue: prices in USD per million tokens, and why a model cannot be served."""
    generation = generation_of(config)
    rows = [_row(generation, model, aliases) for model, aliases in _by_model(generation)]
    if json:
        print_json(rows)
        return
    table = Table(
        "model",
        "served by",
        "in",
        "cached",
        "out",
        "context",
        "for",
        "now",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for column in table.columns[2:6]:
        column.justify, column.no_wrap = "right", True
    table.columns[0].no_wrap = True
    table.columns[0].min_width = max(len(row["model"]) for row in rows)
    table.columns[1].min_width = SERVED_BY_CHARS_MIN
    for row in rows:
        table.add_row(
            row["model"],
            ", ".join(dict.fromkeys(candidate["upstream"] for candidate in row["candidates"])),
            row["price"]["input"],
            row["price"].get("cached_input", ""),
            row["price"]["output"],
            f"{row['context'] // 1000}k",
            "no key" if row["open"] else ", ".join(row["tiers"]) or "all",
            "yes" if row["available"] else "no",
        )
    Console().print(table)
    typer.echo("USD per million tokens. --json tells aliases, candidates and all rates.")
    for name, remedy in sorted(generation.unavailable.items()):
        typer.echo(f"{name} is not available: {remedy}")


def _by_model(generation: Generation) -> list[tuple[Model, list[str]]]:
    """Each model once, with its other names."""
    found: dict[str, list[str]] = {}
    for name, model in generation.catalogue.items():
        others = found.setdefault(model.name, [])
        if name != model.name:
            others.append(name)
    return [(generation.catalogue[name], aliases) for name, aliases in found.items()]


def _row(generation: Generation, model: Model, aliases: list[str]) -> dict[str, Any]:
    missing = generation.unavailable_models.get(model.name)
    return {
        "model": model.name,
        "aliases": aliases,
        "operations": sorted(model.operations),
        "candidates": [
            {
                "upstream": candidate.upstream,
                "model": candidate.upstream_model,
                "available": candidate.upstream in generation.upstreams,
                "cost": _price(model.list_rates(candidate)),
            }
            for candidate in model.candidates
        ],
        "price": _price(model.rates),
        "context": model.context_tokens,
        "output_default": model.output_tokens_default,
        "output_max": model.output_tokens_max,
        "tiers": sorted(model.tiers),
        "open": model.open,
        "available": missing is None,
        "missing": missing,
    }


def _price(rates: Rates | None) -> dict[str, str]:
    """Dollars per million tokens as exact text; kinds without a rate of their own are left out."""
    if rates is None:
        return {"input": "", "output": ""}
    kinds = ("input", "output", "cached_input", "cache_write", "cache_write_1h", "reasoning")
    return {kind: rate_text(rate) for kind in kinds if (rate := getattr(rates, kind)) is not None}
