"""tollway keys: make, list, rotate and revoke the keys that clients send."""

from __future__ import annotations

from typing import Annotated, Any, Final, NoReturn
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.table import Table

from proxy.caps import cap_text, parse_cap
from proxy.catalogue import Wallet
from proxy.cli import opening
from proxy.cli.opening import DEFAULT_CONFIG, ConfigOption, JsonOption, fail
from proxy.config.schema import Generation, Listener
from proxy.identities import CapSetting
from proxy.keys import KeyNotActive, KeyRecord, UnknownKey
from proxy.operations import CHAT
from proxy.policy.callers import tier_of

NAME_CHARACTERS_MAX: Final = 128

app = typer.Typer(help="Keys that clients send to Tollway.", no_args_is_help=True)


@app.command("create", epilog="Example: tollway keys create --team default --user ann@example.com --cap 5/day")
def create(
    team: Annotated[str | None, typer.Option(help="Team that pays. Needed if there are several.")] = None,
    user: Annotated[str, typer.Option(help="Who uses it.")] = "default",
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    tier: Annotated[str | None, typer.Option(help="Tier; the team's if not given.")] = None,
    cap: Annotated[
        list[str] | None,
        typer.Option(help="USD/WINDOW[:list][:clamp][:soft=PERCENT], WINDOW hour, day, month or total; repeatable."),
    ] = None,
    expires: Annotated[str | None, typer.Option(help="Lifetime, as in 30d; for ever if not given.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Make a key and show it, once."""
    generation = opening.generation_of(config)
    chosen = generation.teams[_team(generation, team)]
    if tier is not None:
        opening.known("tier", tier, generation.tiers)
    for option, text in (("--user", user), ("--name", name)):
        if len(text) > NAME_CHARACTERS_MAX or not (text.isprintable()) or (option == "--user" and not text.strip()):
            fail(f"{option} is printable text of at most {NAME_CHARACTERS_MAX} characters.")
    lifetime = None if expires is None else opening.span_milliseconds(expires, "--expires")
    caps = _caps(cap or [])
    with opening.key_store(generation) as keys:
        key, record = keys.create(
            user=user,
            team=chosen.name,
            organisation=chosen.organisation,
            tier=tier,
            caps=caps,
            name=name,
            expires_ms=None if lifetime is None else opening.CLOCK.now_ms() + lifetime,
        )
    _show_new(generation, key, record, json=json)


@app.command("list", epilog="Example: tollway keys list --team default --json")
def list_(
    team: Annotated[str | None, typer.Option(help="Only this team's.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Revoked and expired ones, too.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """List the keys; only their first digits are known."""
    generation = opening.generation_of(config)
    now = opening.CLOCK.now_ms()
    with opening.key_store(generation) as keys:
        records = [one for one in keys.records(team=team) if all_ or one.state(now) in ("active", "rotated")]
    if json:
        opening.print_json([_plain(record, now) for record in records])
        return
    if not records:
        typer.echo("No keys. Make one: tollway keys create")
        return
    Console().print(_table(records, now, opening.zone_of(generation)))


@app.command("revoke", epilog="Example: tollway keys revoke key_0123456789ab")
def revoke(
    key: Annotated[str, typer.Argument(help="Id of the key (tollway keys list), or the key itself.")],
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """End a key at once, in running proxies within a second."""
    generation = opening.generation_of(config)
    with opening.key_store(generation) as keys:
        try:
            key_id = keys.key_id_of(key)
            worked = keys.revoke(key_id)
        except UnknownKey as error:
            _unknown(error)
    if json:
        opening.print_json({"id": key_id, "revoked": True, "worked_before": worked})
    else:
        typer.echo(f"{key_id} is revoked." if worked else f"{key_id} did not work any more; it stays revoked.")


@app.command("rotate", epilog="Example: tollway keys rotate key_0123456789ab --grace 24h")
def rotate(
    key: Annotated[str, typer.Argument(help="Id of the key (tollway keys list), or the key itself.")],
    grace: Annotated[str, typer.Option(help="How long the old key works on, as in 24h; 0s: not at all.")] = "24h",
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Replace a key by a new one with the same id, settings, caps and spend."""
    generation = opening.generation_of(config)
    milliseconds = opening.span_milliseconds(grace, "--grace")
    with opening.key_store(generation) as keys:
        try:
            new, record = keys.rotate(keys.key_id_of(key), grace_milliseconds=milliseconds)
        except UnknownKey as error:
            _unknown(error)
        except KeyNotActive as error:
            fail(f"{error}, so there is nothing to rotate. Make a new one: tollway keys create")
    _show_new(generation, new, record, json=json)
    if not json:
        typer.echo(f"\nThe old key works for another {grace}.")


def _team(generation: Generation, name: str | None) -> str:
    if name is None:
        if len(generation.teams) != 1:
            fail(f"Say whose key it is with --team. There are: {', '.join(sorted(generation.teams)) or 'none'}.")
        return next(iter(generation.teams))
    opening.known("team", name, generation.teams)
    return name


def _caps(texts: list[str]) -> tuple[CapSetting, ...]:
    try:
        return tuple(parse_cap(text) for text in texts)
    except ValueError as error:
        fail(f"--cap: {error}")


def _unknown(error: UnknownKey) -> NoReturn:
    fail(f"{error}. 'tollway keys list --all' shows them.")


def _show_new(generation: Generation, key: str, record: KeyRecord, *, json: bool) -> None:
    if json:
        opening.print_json({"key": key, **_plain(record, opening.CLOCK.now_ms())})
        return
    caps = ", ".join(cap_text(cap) for cap in record.caps) or "the team's"
    typer.echo(f"{key}\n\nKeep it now: only its hash is stored, so it cannot be shown again.")
    typer.echo(f"id {record.key_id}, user {record.user}, team {record.team}, caps {caps}\n\nTry it:")
    for line in _commands(generation, key, record):
        typer.echo(f"  {line}")


def _commands(generation: Generation, key: str, record: KeyRecord) -> list[str]:
    model, lines = _first_model(generation, record), []
    reverse = next((one for one in generation.listeners if one.kind == "reverse"), None)
    if reverse is not None:
        base = f"{'https' if reverse.cert_file else 'http'}://{_address(reverse)}/v1"
        body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
        lines += [
            f"export OPENAI_BASE_URL={base} OPENAI_API_KEY={key}",
            f"curl {base}/chat/completions -H 'Authorization: Bearer {key}' \\",
            f"  -H 'Content-Type: application/json' -d '{body}'",
        ]
    regular = next((one for one in generation.listeners if one.kind == "regular"), None)
    if regular is not None:
        lines.append(f"export HTTPS_PROXY=http://{key}@{_address(regular)}")
    return lines


def _first_model(generation: Generation, record: KeyRecord) -> str:
    """For a first request: the cheapest chat model that the key's tier can call without credits; else a free one."""
    team = generation.teams[record.team]
    tier = tier_of(team, user=record.user, key_id=record.key_id, key_name=record.name, own=record.tier)
    prices = {
        name: (model.rates.input + model.rates.output, name)
        for name, model in generation.models.items()
        if CHAT.name in model.operations
        and (not model.tiers or tier in model.tiers)
        and model.wallet is Wallet.BALANCE
        and model.rates is not None
        and not model.rates.free
    }
    return min(prices, key=lambda name: prices[name], default="demo")


def _address(listener: Listener) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listener.host, listener.host)
    return f"[{host}]:{listener.port}" if ":" in host else f"{host}:{listener.port}"


def _plain(record: KeyRecord, now_ms: int) -> dict[str, Any]:
    return {
        "id": record.key_id,
        "hint": record.hint,
        "name": record.name,
        "state": record.state(now_ms),
        "user": record.user,
        "team": record.team,
        "organisation": record.organisation,
        "tier": record.tier,
        "caps": [cap_text(cap) for cap in record.caps],
        "created": opening.instant_text(record.created_ms),
        "expires": opening.instant_text(record.expires_ms),
        "revoked": opening.instant_text(record.revoked_ms),
    }


def _table(records: list[KeyRecord], now_ms: int, zone: ZoneInfo) -> Table:
    table = Table()
    for column in ("id", "key", "state"):
        table.add_column(column, no_wrap=True)
    for column in ("team/user", "caps", "expires", "name"):
        table.add_column(column, overflow="fold")
    for record in records:
        table.add_row(
            record.key_id,
            f"{record.hint}...",
            record.state(now_ms),
            f"{record.team}/{record.user}",
            ", ".join(cap_text(cap) for cap in record.caps),
            opening.day_text(record.expires_ms, zone),
            record.name,
        )
    return table
