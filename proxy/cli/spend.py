"""tollway spend: what was charged and what it cost at list."""

from __future__ import annotations

import csv
import sys
from enum import StrEnum
from typing import Annotated, Any, Final

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from proxy.cli import opening
from proxy.cli.opening import DEFAULT_CONFIG, ConfigOption, JsonOption, fail
from proxy.ledger.spend import SpendRow, total
from proxy.ledger.spend import spend as spend_rows
from proxy.pricing.money import usd_text

app = typer.Typer(help="What was spent, by team, user, key, model or day.", subcommand_metavar="")


_ALWAYS: Final = ("requests", "input_tokens", "output_tokens", "charged_usd", "list_usd")


class Group(StrEnum):
    """What rows stand for."""

    TEAM = "team"
    USER = "user"
    KEY = "key"
    MODEL = "model"
    DAY = "day"


@app.callback(invoke_without_command=True, epilog="Example: tollway spend --by model --since 7d --csv > spend.csv")
def spend(
    by: Annotated[Group, typer.Option(help="What a row stands for.")] = Group.TEAM,
    since: Annotated[
        str,
        typer.Option(help="First day (2026-11-01) or a span: 7d is today and six days before, 12h to the hour."),
    ] = "30d",
    until: Annotated[str | None, typer.Option(help="First day that is no longer counted; now if not given.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
    csv_: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Show spend. An exchange counts at the moment it began; a user is named team/user."""
    if json and csv_:
        fail("Choose one of --json and --csv.")
    generation = opening.generation_of(config)
    zone = opening.zone_of(generation)
    since_ms = opening.moment_ms(since, "--since", zone)
    until_ms = opening.CLOCK.now_ms() + 1 if until is None else opening.moment_ms(until, "--until", zone)
    with opening.ledger_file(generation) as connection:
        rows = spend_rows(connection, by.value, since_ms=since_ms, until_ms=until_ms, zone=zone)
    if json:
        opening.print_json([_plain(by, row) for row in rows])
    elif csv_:
        _print_csv(by, rows)
    elif not rows:
        typer.echo(f"Nothing was spent since {opening.day_text(since_ms, zone)}. See further back with --since 90d.")
    else:
        Console().print(_table(by, rows))


def _plain(by: Group, row: SpendRow) -> dict[str, Any]:
    return {
        by.value: row.group,
        "requests": row.requests,
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "cached_tokens": row.cached_tokens,
        "reasoning_tokens": row.reasoning_tokens,
        "charged_usd": usd_text(row.charged),
        "list_usd": usd_text(row.list),
        "charged_overage_usd": usd_text(row.charged_overage),
        "list_overage_usd": usd_text(row.list_overage),
        "prepaid_usd": usd_text(row.paid),
    }


def _print_csv(by: Group, rows: list[SpendRow]) -> None:
    writer = csv.DictWriter(sys.stdout, fieldnames=list(_plain(by, SpendRow(""))), lineterminator="\n")
    writer.writeheader()
    writer.writerows([_plain(by, row) for row in rows])


def _table(by: Group, rows: list[SpendRow]) -> Table:
    """Without the columns that are 0 in every row: --json and --csv have them all."""
    plain = [_plain(by, row) for row in rows]
    sums = _plain(by, total(rows))
    shown = [column for column in list(sums)[1:] if column in _ALWAYS or str(sums[column]) not in ("0", "0.00")]
    table = Table(by.value, show_footer=True, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.columns[0].footer = "total"
    table.columns[0].overflow = "fold"
    for column in shown:
        title = column.removesuffix("_tokens").replace("_usd", " USD").replace("_", " ")
        table.add_column(title, footer=str(sums[column]), justify="right")
    for row in plain:
        table.add_row(row[by.value], *(str(row[column]) for column in shown))
    return table
