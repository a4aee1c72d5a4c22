"""What the commands on keys, teams and spend share: the configuration, the ledger's file, spans of time."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn
from zoneinfo import ZoneInfo

import orjson
import typer

from proxy.clock import Clock, SystemClock
from proxy.config.load import load_generation
from proxy.config.problems import ConfigProblems, near
from proxy.config.schema import Generation
from proxy.keys import PREFIX, KeyStore
from proxy.ledger.schema import DATABASE_NAME, SchemaTooNew, connect

EXIT_FINDINGS: Final = 1
"""The command ran and found something wrong."""
EXIT_USAGE: Final = 2
"""The command could not run; the message says what to do."""

CLOCK: Clock = SystemClock()

ConfigOption = Annotated[Path, typer.Option("--config", help="The configuration file.", metavar="PATH")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEFAULT_CONFIG: Final = Path("config.yaml")

_UNITS: Final = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_SPAN: Final = re.compile(r"(\d{1,9})([smhdw])")


def fail(message: str, code: int = EXIT_USAGE) -> NoReturn:
    """End the command with a message on standard error."""
    typer.echo(message, err=True)
    raise typer.Exit(code)


def generation_of(config: Path) -> Generation:
    """The configuration, or the end of the command with what is wrong with it."""
    if not config.exists():
        fail(f"There is no {config}. Run 'tollway init' here, or say where it is with --config PATH.")
    try:
        return load_generation(config)
    except ConfigProblems as problems:
        fail(f"{problems}\nMend this first; 'tollway check' shows all of it.")


def database_of(generation: Generation) -> Path:
    """The ledger's file."""
    return generation.state / DATABASE_NAME


@contextmanager
def ledger_file(generation: Generation) -> Iterator[sqlite3.Connection]:
    """A connection to the ledger that is already there."""
    path = database_of(generation)
    try:
        connection = connect(path, create=False)
    except FileNotFoundError:
        fail(f"There is no ledger at {path} yet. 'tollway serve' or 'tollway keys create' makes it.")
    except (SchemaTooNew, sqlite3.Error) as error:
        fail(f"The ledger at {path} cannot be read: {error}")
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def key_store(generation: Generation) -> Iterator[KeyStore]:
    """The keys, with the prefix that the chain's identity plugin expects."""
    path = database_of(generation)
    prefix = dict(generation.chain).get("identity", {}).get("key_prefix", PREFIX)
    try:
        keys = KeyStore(path, CLOCK, prefix=prefix)
    except (SchemaTooNew, sqlite3.Error, OSError) as error:
        fail(f"The keys in {path} cannot be opened: {error}")
    try:
        yield keys
    finally:
        keys.close()


def zone_of(generation: Generation) -> ZoneInfo:
    """The time zone in which windows and days begin."""
    return ZoneInfo(generation.file.time_zone)


def known(kind: str, name: str, names: Any) -> None:
    """End the command unless `name` is one of `names`, with the near miss."""
    if name not in names:
        hint = near(name, names)
        ask = f"Did you mean '{hint}'?" if hint else f"There are: {', '.join(sorted(names)) or 'none'}."
        fail(f"There is no {kind} '{name}'. {ask}")


def span_milliseconds(text: str, option: str) -> int:
    """`45s`, `90m`, `12h`, `30d` or `2w` as milliseconds."""
    found = _SPAN.fullmatch(text)
    if found is None:
        fail(f"{option} {text}: write a number and s, m, h, d or w, as in 12h or 30d.")
    return int(found[1]) * _UNITS[found[2]]


def moment_ms(text: str, option: str, zone: ZoneInfo) -> int:
    """A day, from its local midnight, or a span back from now. `7d` is today and the six days before it."""
    now = CLOCK.now_ms()
    found = _SPAN.fullmatch(text)
    if found is not None and found[2] not in "dw":
        return now - int(found[1]) * _UNITS[found[2]]
    try:
        if found is not None:
            days = int(found[1]) * (7 if found[2] == "w" else 1)
            day = datetime.fromtimestamp(now // 1000, zone).date() - timedelta(days=max(0, days - 1))
        else:
            day = date.fromisoformat(text)
        return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * 1000
    except (ValueError, OverflowError):
        fail(f"{option} {text}: write a day as in 2026-11-01, or a span as in 12h, 7d or 4w.")


def print_json(data: Any) -> None:
    """For programs: indented, keys in the order given."""
    typer.echo(orjson.dumps(data, option=orjson.OPT_INDENT_2).decode())


def day_text(at_ms: int | None, zone: ZoneInfo) -> str:
    """A moment for people, to the minute."""
    return "" if at_ms is None else datetime.fromtimestamp(at_ms // 1000, zone).strftime("%Y-%m-%d %H:%M")


def instant_text(at_ms: int | None) -> str | None:
    """A moment for programs: ISO 8601 in UTC."""
    return None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, ZoneInfo("UTC")).isoformat()
