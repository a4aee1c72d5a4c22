"""tollway wallet: the ecash that payers have paid with, and taking it out. Works beside running proxies."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from proxy.cli import opening
from proxy.cli.opening import DEFAULT_CONFIG, ConfigOption, JsonOption, fail
from proxy.ledger.errors import LedgerError
from proxy.ledger.payment_decisions import NotesNow

app = typer.Typer(help="Ecash (Cashu) that is ours.", no_args_is_help=True)


@app.command("balance", epilog="Example: tollway wallet balance --json")
def balance(config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Show how many sats there are of each mint."""
    from proxy.payments.cashu.wallet import balances

    with opening.ledger_file(opening.generation_of(config)) as connection:
        held = asyncio.run(balances(NotesNow(connection)))
    if json:
        opening.print_json({"sats": sum(held.values()), "mints": held})
    elif not held:
        typer.echo("The wallet is empty: nobody has paid with ecash, or all of it was taken out.")
    else:
        table = Table("mint")
        table.add_column("sats", justify="right")
        for mint, sats in sorted(held.items()):
            table.add_row(mint, str(sats))
        Console().print(table)


@app.command("export", epilog="Example: tollway wallet export --all --mint https://mint.example --yes > tokens.txt")
def export(
    mint: Annotated[str | None, typer.Option(help="Of which mint; needed if there are several.")] = None,
    sats: Annotated[int | None, typer.Option(min=1, help="So many, or the least above it.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All of it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Print tokens that any Cashu wallet redeems. Whoever has them has the money: this wallet has it no longer."""
    from proxy.payments.cashu.wallet import NotEnough, balances, export_tokens

    if all_ == (sats is not None):
        fail("Say how much: --sats N or --all.")
    with opening.ledger_file(opening.generation_of(config)) as connection:
        notes = NotesNow(connection)
        held = asyncio.run(balances(notes))
        if mint is None and len(held) != 1:
            there = f"There are: {', '.join(sorted(held))}." if held else "The wallet is empty."
            fail(f"Say of which mint with --mint. {there}")
        chosen = mint or next(iter(held))
        what = f"{held.get(chosen, 0) if sats is None else sats} sats of {chosen}"
        if not yes:
            typer.confirm(f"{what} leave this wallet as tokens on standard output. Sure?", abort=True, err=True)
        try:
            tokens = asyncio.run(export_tokens(notes, chosen, sats))
        except NotEnough as error:
            fail(f"{error}. Nothing was taken out.")
        except LedgerError as error:
            fail(f"{error}: somebody else took it out meanwhile. Nothing was taken out now; run this again.")
        except sqlite3.OperationalError as error:
            fail(f"The ledger is busy ({error}). Nothing was taken out; run this again.")
    if json:
        opening.print_json({"mint": chosen, "tokens": list(tokens)})
        return
    for token in tokens:
        typer.echo(token)
