"""tollway models: what can be asked for, who serves it, what it costs, what is missing; and how prices compare."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from proxy.catalogue import Model, tiers_text
from proxy.cli.opening import CLOCK, DEFAULT_CONFIG, EXIT_FINDINGS, ConfigOption, JsonOption, generation_of, print_json
from proxy.cli.price_diff import DIFFERS, NOT_FOUND, SAME, Comparison, comparisons, kinds_text
from proxy.config.schema import Generation
from proxy.consensus.settings import Mode
from proxy.panels import MILLI, members
from proxy.pricing.money import usd_text
from proxy.pricing.rates import Rates

app = typer.Typer(
    help="List the catalogue and compare its prices with those that providers publish.",
    invoke_without_command=True,
    epilog="Example: tollway models --json",
)

SERVED_BY_CHARS_MIN: Final = 9
"""Long enough for the name of an upstream; several are wrapped."""


@app.callback()
def models(context: typer.Context, config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """List the catalogue: prices in USD per million tokens, and why a model cannot be served."""
    if context.invoked_subcommand is not None:
        return
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
            _served_by(row),
            f"{row['price']['run']}/run" if row["members"] else row["price"]["input"],
            row["price"].get("cached_input", ""),
            row["price"]["output"],
            f"{row['context'] // 1000}k",
            "no key" if row["open"] else tiers_text(frozenset(row["tiers"]), generation.tiers),
            "yes" if row["available"] else "no",
        )
    Console().print(table)
    typer.echo(
        "USD per million tokens or per run. --json tells aliases, candidates, all rates and where they come from."
    )
    for name, remedy in sorted(generation.unavailable.items()):
        typer.echo(f"{name} is not available: {remedy}")


@app.command("diff", epilog="Example: tollway models diff --check")
def diff(
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 where a price differs.")] = False,
) -> None:
    """Compare what each candidate costs with what its provider publishes, as the installed genai-prices has it."""
    found = list(comparisons(generation_of(config), CLOCK.now_ms()))
    if json:
        print_json([one.plain() for one in found])
    else:
        _print_comparisons(found)
    if check and any(one.state == DIFFERS for one in found):
        raise typer.Exit(EXIT_FINDINGS)


def _print_comparisons(found: list[Comparison]) -> None:
    table = Table("model", "at", "published as", "rate", "ours", "published", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in table.columns[3:]:
        column.no_wrap = True
    differing = [one for one in found if one.state == DIFFERS]
    for one in differing:
        for number, (kind, ours, theirs) in enumerate(one.differences):
            names = (one.model, one.upstream, one.published_as) if number == 0 else ("", "", "")
            table.add_row(*names, kind, ours, theirs)
    if differing:
        Console().print(table)
    for one in found:
        if one.state == NOT_FOUND:
            typer.echo(f"{one.model}: nothing published for '{one.upstream_model}' at {one.upstream}.")
    same = sum(one.state == SAME for one in found)
    missing = sum(one.state == NOT_FOUND for one in found)
    typer.echo(f"{same} the same, {len(differing)} different, {missing} not found. USD per million tokens.")


def _served_by(row: dict[str, Any]) -> str:
    """A lane's and a panel's members, anybody else's upstreams."""
    if row["members"]:
        return ", ".join(dict.fromkeys(row["members"]))
    key = "serves" if row["lane"] else "upstream"
    return ", ".join(dict.fromkeys(candidate[key] for candidate in row["candidates"]))


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
                "serves": model.served_as(candidate),
                "available": candidate.upstream in generation.upstreams,
                "cost": _price(model.list_rates(candidate)),
                "cost_source": _source(model.list_rates(candidate)),
                "context": model.context_of(candidate),
                "capabilities": sorted(candidate.capabilities),
                "weight": candidate.weight,
            }
            for candidate in model.candidates
        ],
        "lane": model.lane,
        "strategy": model.strategy.value,
        "sticky": model.sticky,
        "hedge": model.hedge,
        "wallet": model.wallet.value,
        "members": [] if model.panel is None else members(model.panel),
        "price": _price(model.rates) if model.panel is None else _run_price(model.panel),
        "price_source": _source(model.rates),
        "context": model.context_tokens,
        "output_default": model.output_tokens_default,
        "output_max": model.output_tokens_max,
        "tiers": sorted(model.tiers),
        "open": model.open,
        "available": missing is None,
        "missing": missing,
    }


def _price(rates: Rates | None) -> dict[str, Any]:
    """Dollars per million tokens as exact text; kinds without a rate of their own are left out, bands as a list."""
    if rates is None:
        return {"input": "", "output": ""}
    price: dict[str, Any] = kinds_text(rates)
    if rates.bands:
        price["bands"] = [{"above": band.above_input_tokens, **kinds_text(band.rates)} for band in rates.bands]
    return price


def _run_price(mode: Mode) -> dict[str, Any]:
    """Of a panel: dollars and credits for a run, and the longest question that they are good for."""
    whole, milli = divmod(mode.price.credits_milli, MILLI)
    return {
        "input": "",
        "output": "",
        "run": usd_text(mode.price.usd),
        "credits": f"{whole}.{milli:03}",
        "input_tokens_max": mode.input_tokens_max,
        "budget": usd_text(mode.budget),
    }


def _source(rates: Rates | None) -> str:
    return "" if rates is None else rates.source
