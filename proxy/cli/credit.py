"""tollway credit: money that accounts pay in advance with. Works beside running proxies, at once."""

from __future__ import annotations

import secrets
import sqlite3
from contextlib import closing
from enum import StrEnum
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from proxy.cli import opening
from proxy.cli.opening import DEFAULT_CONFIG, ConfigOption, JsonOption, fail
from proxy.config.schema import Generation
from proxy.credit import BadCredit, Owner, not_used, parse_usd, plain_grant, plain_state, purse_text
from proxy.errors import Refusal
from proxy.ledger.api import Grant, Purse, PurseExceeded, PurseState
from proxy.ledger.credit import grant_now, grants_of, purse_state, purses
from proxy.ledger.schema import connect
from proxy.pricing.money import Nano, usd_text

GRANTS_SHOWN_MAX: Final = 50

app = typer.Typer(help="Prepaid balances and Frontier Credits.", no_args_is_help=True)


class WalletName(StrEnum):
    """Which purse of an account."""

    BALANCE = "balance"
    FRONTIER = "frontier"


AmountArgument = Annotated[str, typer.Argument(help="Dollars, as in 25 or 0.50.", metavar="USD")]
TeamOption = Annotated[str | None, typer.Option(help="A team's purse; with --user that user's.")]
UserOption = Annotated[str | None, typer.Option(help="A user's purse; --team says of which team.")]
KeyOption = Annotated[str | None, typer.Option(help="A key's purse: its id (tollway keys list).")]
OrganisationOption = Annotated[str | None, typer.Option(help="An organisation's purse, for all its teams.")]
WalletOption = Annotated[WalletName, typer.Option(help="frontier: Frontier Credits, for models passed through.")]
NoteOption = Annotated[str, typer.Option(help="What it is for; kept with it.")]
IdOption = Annotated[
    str | None, typer.Option("--id", help="The same id again changes nothing: make one up to be able to repeat.")
]


@app.command("grant", epilog='Example: tollway credit grant 25.00 --team acme --note "invoice 7" --id invoice-7')
def grant(
    usd: AmountArgument,
    team: TeamOption = None,
    user: UserOption = None,
    key: KeyOption = None,
    organisation: OrganisationOption = None,
    wallet: WalletOption = WalletName.BALANCE,
    note: NoteOption = "",
    id_: IdOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Put money into a purse. On disk before it is confirmed; the proxies that are running count with it at once."""
    _move(config, Owner(team, user, key, organisation), wallet, _amount(usd), note, id_, json=json)


@app.command("take-out", epilog="Example: tollway credit take-out 5.00 --team acme --note refund")
def take_out(
    usd: AmountArgument,
    team: TeamOption = None,
    user: UserOption = None,
    key: KeyOption = None,
    organisation: OrganisationOption = None,
    wallet: WalletOption = WalletName.BALANCE,
    note: NoteOption = "",
    id_: IdOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Take money out of a purse again: at most what is neither spent nor held."""
    _move(config, Owner(team, user, key, organisation), wallet, Nano(-_amount(usd)), note, id_, json=json)


@app.command("list", epilog="Example: tollway credit list --json")
def list_(config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """List every purse: what was put in, spent, held and is left."""
    generation = opening.generation_of(config)
    with opening.ledger_file(generation) as connection:
        states = purses(connection)
    if json:
        opening.print_json([plain_state(state) for state in states])
    elif not states:
        typer.echo("No purses. Put money into one: tollway credit grant 25.00 --team NAME")
    else:
        Console().print(purse_table(states))


@app.command("show", epilog="Example: tollway credit show --team acme --user ann@example.com")
def show(
    team: TeamOption = None,
    user: UserOption = None,
    key: KeyOption = None,
    organisation: OrganisationOption = None,
    wallet: WalletOption = WalletName.BALANCE,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Show one purse and the last grants to it."""
    generation = opening.generation_of(config)
    purse = _purse(generation, Owner(team, user, key, organisation), wallet)
    with opening.ledger_file(generation) as connection:
        state = purse_state(connection, purse)
        grants = grants_of(connection, purse, count_max=GRANTS_SHOWN_MAX)
    if json:
        opening.print_json({**plain_state(state), "grants": [_plain_grant(one) for one in grants]})
        return
    Console().print(purse_table([state]))
    table = Table("granted", "USD", "id", "note")
    for one in grants:
        table.add_row(opening.day_text(one.at_ms, opening.zone_of(generation)), usd_text(one.amount), one.id, one.note)
    Console().print(table)


def _amount(text: str) -> Nano:
    try:
        return parse_usd(text)
    except BadCredit as error:
        fail(f"{error} To take money out: tollway credit take-out")


def _purse(generation: Generation, owner: Owner, wallet: WalletName) -> Purse:
    with opening.key_store(generation) as keys:
        try:
            return owner.purse(generation, keys, wallet.value)
        except BadCredit as error:
            fail(f"--{error.param}: {error}")


def _move(
    config: Any, owner: Owner, wallet: WalletName, amount: Nano, note: str, id_: str | None, *, json: bool
) -> None:
    generation = opening.generation_of(config)
    purse = _purse(generation, owner, wallet)
    wanted = Grant(id_ or f"cli-{secrets.token_hex(8)}", purse, amount, note, opening.CLOCK.now_ms())
    try:
        with closing(connect(opening.database_of(generation))) as connection:
            state, made = grant_now(connection, wanted)
    except PurseExceeded as error:
        fail(f"{purse_text(purse)} has {usd_text(error.state.left)} USD left, so that much cannot be taken out.")
    except Refusal as refusal:
        fail(refusal.message)
    except sqlite3.OperationalError as error:
        fail(f"The ledger is busy ({error}). Nothing was changed; run this again.")
    unused = not_used(purse, generation)
    if json:
        opening.print_json({**plain_grant(wanted), "repeated": not made, "balance": plain_state(state)})
    else:
        _confirm(wanted, state, made=made, unused=unused)


def _confirm(wanted: Grant, state: PurseState, *, made: bool, unused: str) -> None:
    way = "taken out of" if wanted.amount < 0 else "granted to"
    what = f"{usd_text(Nano(abs(wanted.amount)))} USD {way} {purse_text(wanted.purse)}"
    typer.echo(f"{what}, id {wanted.id}." if made else f"{what} before, under the same id: nothing was changed.")
    typer.echo(f"{usd_text(state.left)} USD are left, {usd_text(state.held)} held by calls under way.")
    if unused:
        typer.echo(unused, err=True)


def _plain_grant(one: Grant) -> dict[str, Any]:
    return {**plain_grant(one), "at": opening.instant_text(one.at_ms)}


def purse_table(states: list[PurseState]) -> Table:
    """For people: a row for each purse."""
    table = Table("purse", "wallet")
    for column in ("granted USD", "spent USD", "held USD", "left USD"):
        table.add_column(column, justify="right")
    for state in states:
        amounts = (state.granted, state.spent, state.held, state.left)
        table.add_row(
            f"{state.purse.scope} {state.purse.scope_id}", state.purse.wallet, *(usd_text(one) for one in amounts)
        )
    return table
