"""tollway teams: the teams of policies/teams.yaml, and where their caps and prepaid balances stand."""

from __future__ import annotations

import sqlite3
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from proxy.cap_windows import present
from proxy.caps import cap_text
from proxy.cli import opening
from proxy.cli.credit import purse_table
from proxy.cli.opening import DEFAULT_CONFIG, ConfigOption, JsonOption
from proxy.config.schema import Generation, Team
from proxy.credit import plain_state
from proxy.identities import CapSetting
from proxy.ledger.api import CapState, PurseState
from proxy.ledger.books import Books
from proxy.ledger.credit import purse_state, purses
from proxy.prepaid import purses_of
from proxy.pricing.money import usd_text

app = typer.Typer(help="Teams, and where their caps and balances stand.", no_args_is_help=True)


@app.command("list", epilog="Example: tollway teams list --json")
def list_(config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """List the teams of policies/teams.yaml."""
    generation = opening.generation_of(config)
    teams = list(generation.teams.values())
    if json:
        opening.print_json([_plain(team) for team in teams])
        return
    if not teams:
        typer.echo("No teams. Add one to policies/teams.yaml.")
        return
    table = Table("team", "organisation", "tier", "caps", "each user", "each key")
    for team in teams:
        table.add_row(
            team.name, team.organisation, team.tier, _texts(team.caps), _texts(team.user_caps), _texts(team.key_caps)
        )
    Console().print(table)


@app.command("show", epilog="Example: tollway teams show default")
def show(
    team: Annotated[str, typer.Argument(help="Name of the team.")],
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Show a team's caps and prepaid balances, what is spent and held of them, and its working keys."""
    generation = opening.generation_of(config)
    opening.known("team", team, generation.teams)
    found = generation.teams[team]
    now = opening.CLOCK.now_ms()
    with opening.key_store(generation) as keys:
        records = keys.records(team=team)
    working = [one for one in records if one.state(now) in ("active", "rotated")]
    with opening.ledger_file(generation) as connection:
        standing = _standing(connection, generation, found)
        balances = _balances(connection, found, {record.key_id for record in records})
    if json:
        states = [_plain_state(setting, state) for setting, state in standing]
        told = {"standing": states, "balances": [plain_state(state) for state in balances]}
        opening.print_json({**_plain(found), **told, "keys": [record.key_id for record in working]})
        return
    typer.echo(f"{found.name}: organisation {found.organisation}, tier {found.tier}, {len(working)} working keys")
    if found.prepaid is not None:
        typer.echo(f"Pays in advance, from the purse of each {found.prepaid}. Top up with 'tollway credit grant'.")
        Console().print(purse_table(balances))
    if not standing:
        typer.echo("No caps. Give it some in policies/teams.yaml.")
        return
    table = Table("cap", "spent", "held", "left", "resets")
    for setting, state in standing:
        table.add_row(
            f"{state.cap.scope} {cap_text(setting)}",
            usd_text(state.spent),
            usd_text(state.held),
            usd_text(state.left),
            opening.day_text(state.cap.end_ms or None, opening.zone_of(generation)) or "never",
        )
    Console().print(table)


def _standing(connection: sqlite3.Connection, generation: Generation, team: Team) -> list[tuple[CapSetting, CapState]]:
    books = Books(connection)
    zone, now = opening.zone_of(generation), opening.CLOCK.now_ms()
    settings = [("team", team.name, setting) for setting in team.caps]
    settings += [
        ("organisation", team.organisation, setting) for setting in generation.organisations.get(team.organisation, ())
    ]
    return [
        (setting, books.cap_state(present(scope, scope_id, setting, now, zone)))
        for scope, scope_id, setting in settings
    ]


def _balances(connection: sqlite3.Connection, team: Team, keys: set[str]) -> list[PurseState]:
    """The purses that pay for the team; of users and keys those that were ever put something into."""
    shared = [purse_state(connection, purse) for purse in purses_of(team)]
    if shared or team.prepaid is None:
        return shared
    own = [state for state in purses(connection) if state.purse.scope == team.prepaid]
    return [one for one in own if one.purse.scope_id in keys or one.purse.scope_id.startswith(f"{team.name}/")]


def _texts(caps: tuple[CapSetting, ...]) -> str:
    return ", ".join(cap_text(cap) for cap in caps)


def _plain(team: Team) -> dict[str, Any]:
    return {
        "team": team.name,
        "organisation": team.organisation,
        "tier": team.tier,
        "prepaid": team.prepaid,
        "caps": [cap_text(cap) for cap in team.caps],
        "user_caps": [cap_text(cap) for cap in team.user_caps],
        "key_caps": [cap_text(cap) for cap in team.key_caps],
        "users": {user: [cap_text(cap) for cap in caps] for user, caps in team.users.items()},
    }


def _plain_state(setting: CapSetting, state: CapState) -> dict[str, Any]:
    return {
        "scope": state.cap.scope,
        "scope_id": state.cap.scope_id,
        "cap": cap_text(setting),
        "spent_usd": usd_text(state.spent),
        "held_usd": usd_text(state.held),
        "left_usd": usd_text(state.left),
        "resets": opening.instant_text(state.cap.end_ms or None),
    }
