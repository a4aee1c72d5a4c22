"""tollway byo: customers' own upstream keys, and the keys that encrypt them. No secret is ever an argument."""

from __future__ import annotations

import asyncio
import getpass
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from proxy.byo import ByoStore, Invalid, NoEncryptionKey, Registration, TooMany, UnknownAlias, Wanted, check_public
from proxy.byo import new_key as fresh_key
from proxy.cli import opening
from proxy.cli.opening import DEFAULT_CONFIG, EXIT_FINDINGS, ConfigOption, JsonOption, fail
from proxy.config.schema import Generation
from proxy.ledger.schema import SchemaTooNew
from proxy.secrets import SecretError, environment, read_secret_file

INPUT_CHARS_MAX: Final = 8192

app = typer.Typer(help="Customers' own upstream keys (byo-* aliases).", no_args_is_help=True)

TeamOption = Annotated[str, typer.Option(help="Team that the key belongs to.")]
AliasOption = Annotated[str, typer.Option(help="Name that the team calls it by: byo-...")]
KeyFileOption = Annotated[
    Path | None, typer.Option("--key-file", help="File that holds the provider's key; '-' or nothing: standard input.")
]
KeyVariableOption = Annotated[
    str | None, typer.Option("--key-env", metavar="NAME", help="Environment variable that holds it.")
]


@app.command(
    "add",
    epilog="Example: tollway byo add --team acme --alias byo-openai-gpt-4o --upstream openai --model gpt-4o < key.txt",
)
def add(
    team: TeamOption,
    alias: AliasOption,
    model: Annotated[str, typer.Option(help="What the upstream calls the model.")],
    upstream: Annotated[str | None, typer.Option(help="A configured upstream.")] = None,
    base_url: Annotated[str | None, typer.Option(help="The customer's own, https and public.")] = None,
    operation: Annotated[list[str] | None, typer.Option(help="What it serves; repeatable; unset: all.")] = None,
    credential_header: Annotated[
        str | None, typer.Option(help="With --base-url: authorization, x-api-key or api-key.")
    ] = None,
    key_file: KeyFileOption = None,
    key_env: KeyVariableOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Register a customer's key; it is read from standard input, a file or the environment."""
    generation = opening.generation_of(config)
    opening.known("team", team, generation.teams)
    with _store(generation) as store:
        if not store.ready:
            fail(str(NoEncryptionKey()))
        wanted = Wanted.parse(
            generation,
            alias=alias,
            model=model,
            secret=_secret(key_file, key_env),
            upstream=upstream,
            base_url=base_url,
            operations=operation or (),
            credential_header=credential_header,
        )
        asyncio.run(check_public(wanted, generation.byo))
        made = store.add(team, wanted)
    _done(made, f"{made.alias} is registered for {made.team}; running proxies serve it within a second.", json=json)


@app.command("list", epilog="Example: tollway byo list --team acme --json")
def list_(
    team: Annotated[str | None, typer.Option(help="Only this team's.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Removed ones, too.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """List registrations, and which of them cannot be served; of a key only its last characters are shown."""
    generation = opening.generation_of(config)
    with _store(generation) as store:
        found = store.registrations(team, revoked=all_)
        troubles = store.troubles(team)
    if json:
        opening.print_json([_plain(one, troubles.get(one.id)) for one in found])
    elif not found:
        typer.echo("No registrations. Make one: tollway byo add")
    else:
        Console().print(_table(found, troubles))


@app.command("rotate", epilog="Example: tollway byo rotate --team acme --alias byo-openai-gpt-4o --key-env NEW_KEY")
def rotate(
    team: TeamOption,
    alias: AliasOption,
    key_file: KeyFileOption = None,
    key_env: KeyVariableOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Put another key of the customer's in place of the old one, which is forgotten."""
    generation = opening.generation_of(config)
    with _store(generation) as store:
        made = store.rotate(team, alias, _secret(key_file, key_env))
    _done(made, f"{made.alias} has its new key; running proxies use it within a second.", json=json)


@app.command("remove", epilog="Example: tollway byo remove --team acme --alias byo-openai-gpt-4o")
def remove(
    team: TeamOption, alias: AliasOption, config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False
) -> None:
    """End an alias and forget its key, in running proxies within a second."""
    generation = opening.generation_of(config)
    with _store(generation) as store:
        made = store.remove(team, alias)
    _done(made, f"{made.alias} of {made.team} is removed and its key forgotten.", json=json)


@app.command("rotate-key", epilog="Example: tollway byo rotate-key --json")
def rotate_key(config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Encrypt everything with the first of byo.keys; the others can then be taken out of config.yaml."""
    generation = opening.generation_of(config)
    with _store(generation) as store:
        done = store.rekey()
    left = [{"team": one.team, "alias": one.alias, "id": one.id} for one in done.unreadable]
    if json:
        opening.print_json({"encrypted": done.count, "unreadable": left})
    else:
        typer.echo(f"{done.count} keys are encrypted with the first encryption key.")
        for one in left:
            typer.echo(f"{one['alias']} of {one['team']} is under none of the encryption keys, and stays as it was.")
    if left:
        raise typer.Exit(EXIT_FINDINGS)


@app.command("new-key", epilog="Example: tollway byo new-key > byo.key, and in config.yaml byo: {keys: [file:byo.key]}")
def new_key() -> None:
    """Print a fresh encryption key. Whoever has it and the ledger's file can read the customers' keys."""
    typer.echo(fresh_key())


@contextmanager
def _store(generation: Generation) -> Iterator[ByoStore]:
    """The registrations; what can be wrong with them ends the command with a message."""
    path = opening.database_of(generation)
    try:
        store = ByoStore(path, opening.CLOCK, generation)
    except (SchemaTooNew, sqlite3.Error, OSError) as error:
        fail(f"The registrations in {path} cannot be opened: {error}")
    try:
        yield store
    except Invalid as error:
        option = "operation" if error.param == "operations" else error.param.replace("_", "-")
        fail(str(error) if option == "key" else f"--{option}: {error}")
    except UnknownAlias as error:
        fail(f"{error} 'tollway byo list' shows them.")
    except (NoEncryptionKey, TooMany) as error:
        fail(str(error))
    finally:
        store.close()


def _secret(file: Path | None, variable: str | None) -> str:
    """The provider's key, without the line end that editors add."""
    if file is not None and variable is not None:
        fail("Give --key-file or --key-env, not both.")
    if variable is not None:
        return environment().get(variable) or fail(f"The environment variable {variable} is not set.")
    if file is not None and str(file) != "-":
        try:
            return read_secret_file(file)
        except SecretError as error:
            fail(str(error))
    if sys.stdin.isatty():
        return getpass.getpass("The provider's key (not shown): ").strip()
    return sys.stdin.read(INPUT_CHARS_MAX).strip()


def _done(one: Registration, message: str, *, json: bool) -> None:
    if json:
        opening.print_json(_plain(one, None))
    else:
        typer.echo(message)


def _plain(one: Registration, trouble: str | None) -> dict[str, Any]:
    return {
        "id": one.id,
        "team": one.team,
        "alias": one.alias,
        "upstream": one.upstream,
        "base_url": one.base_url,
        "model": one.model,
        "operations": list(one.operations),
        "key_hint": one.hint,
        "state": "removed" if one.revoked_ms is not None else "unusable" if trouble else "active",
        "reason": trouble,
        "created": opening.instant_text(one.created_ms),
        "rotated": opening.instant_text(one.rotated_ms),
        "removed": opening.instant_text(one.revoked_ms),
    }


def _table(found: list[Registration], troubles: dict[str, str]) -> Table:
    table = Table()
    for column in ("team", "alias", "key"):
        table.add_column(column, no_wrap=True)
    for column in ("upstream", "model", "state"):
        table.add_column(column, overflow="fold")
    for one in found:
        state = "removed" if one.revoked_ms is not None else troubles.get(one.id, "active")
        hint = f"...{one.hint}" if one.hint else "hidden"
        table.add_row(one.team, one.alias, hint, one.upstream or one.base_url, one.model, state)
    return table
