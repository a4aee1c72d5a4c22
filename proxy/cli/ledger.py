"""tollway ledger: prove that the books hold, and keep them small."""

from __future__ import annotations

import sqlite3
from dataclasses import asdict
from typing import Annotated

import typer

from proxy.cli import opening
from proxy.cli.opening import DEFAULT_CONFIG, EXIT_FINDINGS, ConfigOption, JsonOption, fail
from proxy.ledger.audit import RULES, RULES_OF_THE_FILE
from proxy.ledger.audit import audit as audit_ledger
from proxy.ledger.audit_payments import UnitSums, unit_sums
from proxy.ledger.prune import prune as prune_ledger

app = typer.Typer(help="The ledger itself.", no_args_is_help=True)


@app.command("audit", epilog="Example: tollway ledger audit && echo the books hold")
def audit(config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Prove that every sum holds, beside running proxies. Exits with 1 if one does not.

    Where anything was paid with requests it prints, by unit, what became of all of it.
    """
    generation = opening.generation_of(config)
    with opening.ledger_file(generation) as connection:
        findings = audit_ledger(connection, opening.database_of(generation))
        (holds,) = connection.execute("SELECT count(*) FROM holds").fetchone()
        units = unit_sums(connection)
    if json:
        opening.print_json(
            {
                "clean": not findings,
                "findings": [asdict(finding) for finding in findings],
                "units": [asdict(unit) for unit in units],
            }
        )
    elif findings:
        for finding in findings:
            typer.echo(str(finding), err=True)
        typer.echo(f"{len(findings)} findings. Keep a copy of the file before anything else is done to it.", err=True)
    else:
        typer.echo(f"The books hold: {holds} holds, {len(RULES) + RULES_OF_THE_FILE} rules, no finding.")
        for unit in units:
            typer.echo(_sums_text(unit))
    if findings:
        raise typer.Exit(EXIT_FINDINGS)


def _sums_text(unit: UnitSums) -> str:
    amounts = [f"{amount} {part}" for part, amount in asdict(unit).items() if part != "unit"]
    return f"{unit.unit}: {amounts[0]} = {' + '.join(amounts[1:])}"


@app.command("prune", epilog="Example: tollway ledger prune --before 90d")
def prune(
    before: Annotated[str, typer.Option(help="First day that is kept in full (2026-08-01), or a span: 90d.")] = "90d",
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Fold old exchanges into sums by day, beside running proxies. Spend reports and audit stay right."""
    generation = opening.generation_of(config)
    zone = opening.zone_of(generation)
    before_ms = opening.moment_ms(before, "--before", zone)
    with opening.ledger_file(generation) as connection:
        try:
            pruned = prune_ledger(connection, before_ms=before_ms, zone=zone)
        except sqlite3.OperationalError as error:
            fail(f"The ledger is busy ({error}). Nothing is lost; run this again.")
    if json:
        opening.print_json({"pruned": pruned})
    else:
        typer.echo(f"Folded {pruned} exchanges from before {opening.day_text(before_ms, zone)} into sums by day.")
