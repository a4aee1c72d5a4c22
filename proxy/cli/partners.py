"""tollway partners: what ran on revenue-share partners' machines, and what they get of it."""

from __future__ import annotations

import csv
import re
import sys
from datetime import datetime
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.table import Table

from proxy.cli import opening
from proxy.cli.opening import DEFAULT_CONFIG, ConfigOption, JsonOption, fail
from proxy.config.schema import Generation
from proxy.ledger.partners import PartnerUsage, Statement, partners_seen
from proxy.ledger.partners import statement as statement_of
from proxy.ledger.windows import window_bounds
from proxy.pricing.money import usd_text

_MONTH: Final = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")
_CSV: Final = (
    "partner", "month", "upstream", "requests", "input_tokens", "output_tokens", "list_usd", "charged_usd",
    "revenue_usd", "share_percent", "share_usd",
)  # fmt: skip

app = typer.Typer(help="Revenue-share partners.", no_args_is_help=True)


@app.command("list", epilog="Example: tollway partners list --json")
def list_(config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """List the partners of config.yaml, their shares and upstreams."""
    generation = opening.generation_of(config)
    found = [(name, _percent(generation, name), _upstreams(generation, name)) for name in sorted(_named(generation))]
    if json:
        keys = ("partner", "share_percent", "upstreams")
        opening.print_json([dict(zip(keys, one, strict=True)) for one in found])
        return
    if not found:
        typer.echo("No partners. Give an upstream of config.yaml a 'partner', and 'partners' its share.")
        return
    table = Table("partner", "share", "upstreams")
    for name, share, upstreams in found:
        table.add_row(name, "not set" if share is None else f"{share} %", ", ".join(upstreams))
    Console().print(table)


@app.command(
    "statement", epilog="Example: tollway partners statement --partner partner-a --month 2026-11 --csv > 2026-11.csv"
)
def statement(
    partner: Annotated[str, typer.Option(help="Name of the partner.")],
    month: Annotated[str | None, typer.Option(help="As in 2026-11; this month if not given.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
    csv_: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Show what a partner's machines served in a month, and the partner's share of the revenue."""
    if json and csv_:
        fail("Choose one of --json and --csv.")
    generation = opening.generation_of(config)
    zone = opening.zone_of(generation)
    text = month or datetime.fromtimestamp(opening.CLOCK.now_ms() // 1000, zone).strftime("%Y-%m")
    since_ms, until_ms = _bounds(text, zone)
    entry = generation.file.partners.get(partner)
    with opening.ledger_file(generation) as connection:
        opening.known("partner", partner, _named(generation) | partners_seen(connection))
        share = None if entry is None else entry.share_percent
        told = statement_of(connection, partner, share, since_ms=since_ms, until_ms=until_ms)
    if json:
        opening.print_json(_plain(told, text, zone))
    elif csv_:
        _print_csv(told, text)
    else:
        _print(told, text)


def _bounds(month: str, zone: ZoneInfo) -> tuple[int, int]:
    found = _MONTH.fullmatch(month)
    if found is None or found[1] == "0000":
        fail(f"--month {month}: write a month as in 2026-11.")
    middle = datetime(int(found[1]), int(found[2]), 15, 12, tzinfo=zone)
    return window_bounds("month", int(middle.timestamp()) * 1000, zone)


def _named(generation: Generation) -> set[str]:
    every = (*generation.upstreams.values(), *generation.keyless_upstreams.values())
    return {*generation.file.partners, *(one.partner for one in every if one.partner is not None)}


def _upstreams(generation: Generation, partner: str) -> list[str]:
    return sorted(name for name, entry in generation.file.upstreams.items() if entry.partner == partner)


def _percent(generation: Generation, partner: str) -> str | None:
    entry = generation.file.partners.get(partner)
    return None if entry is None else str(entry.share_percent)


def _amounts(row: PartnerUsage) -> dict[str, Any]:
    return {
        "requests": row.requests,
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "list_usd": usd_text(row.list),
        "charged_usd": usd_text(row.charged),
        "revenue_usd": usd_text(row.revenue),
    }


def _share(told: Statement) -> dict[str, str | None]:
    return {
        "share_percent": None if told.share_percent is None else str(told.share_percent),
        "share_usd": None if told.share is None else usd_text(told.share),
    }


def _plain(told: Statement, month: str, zone: ZoneInfo) -> dict[str, Any]:
    return {
        "partner": told.partner,
        "month": month,
        "time_zone": zone.key,
        "upstreams": [{"upstream": row.upstream, **_amounts(row)} for row in told.rows],
        "total": _amounts(told.total),
        **_share(told),
    }


def _print_csv(told: Statement, month: str) -> None:
    writer = csv.DictWriter(sys.stdout, fieldnames=_CSV, lineterminator="\n")
    writer.writeheader()
    whose = {"partner": told.partner, "month": month}
    writer.writerows([{**whose, "upstream": row.upstream, **_amounts(row)} for row in told.rows])
    writer.writerow({**whose, "upstream": "total", **_amounts(told.total), **_share(told)})


def _print(told: Statement, month: str) -> None:
    table = Table("upstream", show_footer=True, title=f"{told.partner}, {month}")
    table.columns[0].footer = "total"
    for name, amount in _amounts(told.total).items():
        title = name.removesuffix("_tokens").replace("_usd", " USD")
        table.add_column(title, footer=str(amount), justify="right")
    for row in told.rows:
        table.add_row(row.upstream, *(str(amount) for amount in _amounts(row).values()))
    Console().print(table)
    if told.share is None:
        typer.echo(f"No share is set: give 'partners' of config.yaml '{told.partner}: {{share_percent: ...}}'.")
    else:
        typer.echo(f"Share of the revenue: {told.share_percent} %, {usd_text(told.share)} USD.")
