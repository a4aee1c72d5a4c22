"""Registrations in the ledger's file, and the models made of them, in memory for the event loop."""

# ruff: noqa: S608 (statements are put together from constants of this file only)

from __future__ import annotations

import asyncio
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import orjson

from proxy.byo.cipher import Cipher, Unreadable
from proxy.byo.models import Unusable, model_of
from proxy.byo.registrations import Invalid, Registration, Wanted, hint_of, parse_secret
from proxy.catalogue import Model
from proxy.clock import Clock
from proxy.config.schema import Generation
from proxy.errors import Refusal
from proxy.ledger.schema import connect

POLL_SECONDS: Final = 0.25
"""How often a running proxy looks for registrations changed by another process."""
TEAMS_CACHED_MAX: Final = 1_000
REVOKED_KEPT_MAX: Final = 50
"""Of one team, without their keys, for who asks later; the oldest go first."""

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS byo_registrations (
    id TEXT PRIMARY KEY,
    team TEXT NOT NULL,
    alias TEXT NOT NULL,
    upstream TEXT,
    base_url TEXT NOT NULL,
    model TEXT NOT NULL,
    operations TEXT NOT NULL,
    credential_header TEXT NOT NULL,
    hint TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    rotated_ms INTEGER,
    revoked_ms INTEGER,
    sealed BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS byo_by_alias ON byo_registrations (team, alias) WHERE revoked_ms IS NULL;
CREATE TABLE IF NOT EXISTS byo_generation (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    generation INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO byo_generation VALUES (1, 0);
"""
_COLUMNS: Final = (
    "id, team, alias, upstream, base_url, model, operations, credential_header, hint, created_ms, rotated_ms,"
    " revoked_ms"
)  # fmt: skip


class NoEncryptionKey(Exception):
    """Nothing can be encrypted: no key is configured."""

    def __init__(self) -> None:
        super().__init__(
            "This proxy has no encryption key for customers' keys. The operator makes one with 'tollway byo new-key' "
            "and sets TOLLWAY_BYO_KEY, or byo.keys in config.yaml."
        )


class UnknownAlias(Exception):
    """The team has no such alias."""


class TooMany(Exception):
    """The alias is taken, or the team has as many as it may."""


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """What re-encrypting came to."""

    count: int
    unreadable: tuple[Registration, ...]
    """Left as they were: none of the encryption keys reads them."""


@dataclass(slots=True)
class _Team:
    """A team's registrations, and the models made of those that were asked for."""

    sealed: dict[str, tuple[Registration, bytes]]
    models: dict[str, Model | str] = field(default_factory=dict)
    """By alias; a text says why there is none."""


class ByoStore:
    """`model` and `models` are for the event loop; what writes blocks and is for commands and threads."""

    def __init__(self, path: Path, clock: Clock, generation: Generation) -> None:
        self._reader = connect(path)
        self._writer = connect(path)
        self._writing = threading.Lock()
        self._clock = clock
        self._teams: dict[str, _Team] = {}
        # What is removed or replaced is overwritten, in the log by its next checkpoint.
        self._writer.execute("PRAGMA secure_delete=ON")
        self._make_tables()
        self._seen = self._read_generation()
        self.follow(generation)

    def follow(self, generation: Generation) -> None:
        """Serve under this configuration, with its encryption keys."""
        self._generation = generation
        self._cipher = Cipher(generation.byo.keys)
        self._teams.clear()

    @property
    def ready(self) -> bool:
        """There is an encryption key."""
        return self._cipher.ready

    def model(self, team: str, name: str) -> Model | None:
        """The model behind a team's alias; None where the team has no such alias.

        From memory; the first look at a team reads the file. Raises Refusal `model_not_available` where the alias is
        there and cannot be served.
        """
        known = self._of(team)
        found = known.models.get(name)
        if found is None:
            stored = known.sealed.get(name)
            if stored is None:
                return None
            found = known.models[name] = self._made(*stored)
        if isinstance(found, str):
            raise Refusal("model_not_available", f"The model '{name}' cannot be used: {found}", param="model")
        return found

    def models(self, team: str) -> dict[str, Model]:
        """The team's aliases that can be served, by name."""
        known = self._of(team)
        for name, stored in known.sealed.items():
            if name not in known.models:
                known.models[name] = self._made(*stored)
        return {name: found for name, found in list(known.models.items()) if not isinstance(found, str)}

    async def watch(self) -> None:
        """Forget what is remembered whenever another process changes a registration. Runs until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                seen = self._read_generation()
            except sqlite3.Error:
                # Unreadable, for the moment or for good: remember nothing, so that no removed key lives on in memory.
                self._teams.clear()
                continue
            if seen != self._seen:
                self._seen = seen
                self._teams.clear()

    def add(self, team: str, wanted: Wanted) -> Registration:
        """Register. Raises NoEncryptionKey, TooMany."""
        self._need_key()
        registration = Registration(
            id=secrets.token_hex(6),
            team=team,
            alias=wanted.alias,
            upstream=wanted.upstream,
            base_url=wanted.base_url,
            model=wanted.model,
            operations=wanted.operations,
            credential_header=wanted.credential_header,
            hint=hint_of(wanted.secret),
            created_ms=self._clock.now_ms(),
        )
        sealed = self._cipher.seal(registration.binding, wanted.secret)
        with self._change() as connection:
            present = [one.alias for one, _ in self._stored(connection, team)]
            if wanted.alias in present:
                raise TooMany(f"'{wanted.alias}' is already registered. Rotate its key, or remove it first.")
            limit = self._generation.byo.registrations_max
            if len(present) >= limit:
                raise TooMany(f"A team can have {limit} registrations. Remove one first.")
            connection.execute(
                f"INSERT INTO byo_registrations ({_COLUMNS}, sealed) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (*_row(registration), sealed),
            )
        return registration

    def rotate(self, team: str, alias: str, secret: str) -> Registration:
        """Another key of the customer's in place of the old one. Raises NoEncryptionKey, UnknownAlias, Invalid.

        Only where the old one is readable: a row that was changed in the file is not sealed anew as it is now, or
        the new key would go where the row says.
        """
        self._need_key()
        secret = parse_secret(secret, self._generation)
        with self._change() as connection:
            found, old = self._find(connection, team, alias)
            try:
                self._cipher.open(found.binding, old)
            except Unreadable as error:
                problem = f"'{alias}' cannot be rotated: {error}. Remove it and register it again."
                raise Invalid("alias", problem) from error
            sealed = self._cipher.seal(found.binding, secret)
            now = self._clock.now_ms()
            connection.execute(
                "UPDATE byo_registrations SET sealed=?, hint=?, rotated_ms=? WHERE id=?",
                (sealed, hint_of(secret), now, found.id),
            )
        return replace(found, hint=hint_of(secret), rotated_ms=now)

    def remove(self, team: str, alias: str) -> Registration:
        """End a registration and forget its key. Raises UnknownAlias."""
        with self._change() as connection:
            found, _ = self._find(connection, team, alias)
            now = self._clock.now_ms()
            connection.execute("UPDATE byo_registrations SET sealed=x'', revoked_ms=? WHERE id=?", (now, found.id))
            connection.execute(
                "DELETE FROM byo_registrations WHERE team=?1 AND revoked_ms IS NOT NULL AND id NOT IN (SELECT id FROM"
                " byo_registrations WHERE team=?1 AND revoked_ms IS NOT NULL ORDER BY revoked_ms DESC, rowid DESC"
                " LIMIT ?2)",
                (team, REVOKED_KEPT_MAX),
            )
        return replace(found, revoked_ms=now)

    def rekey(self) -> Rekeyed:
        """Encrypt every secret with the first key, whichever of them it is under now. Raises NoEncryptionKey."""
        self._need_key()
        count, unreadable = 0, []
        with self._change() as connection:
            for registration, sealed in self._stored(connection, None):
                try:
                    renewed = self._cipher.reseal(sealed)
                except Unreadable:
                    unreadable.append(registration)
                    continue
                connection.execute("UPDATE byo_registrations SET sealed=? WHERE id=?", (renewed, registration.id))
                count += 1
        return Rekeyed(count, tuple(unreadable))

    def registrations(self, team: str | None = None, *, revoked: bool = False) -> list[Registration]:
        """Those of a team or all, oldest first; with `revoked` also those that were removed."""
        with self._writing:
            return [one for one, _ in self._stored(self._writer, team, revoked=revoked)]

    def troubles(self, team: str | None = None) -> dict[str, str]:
        """By id: why a registration cannot be served now. Those that can are not in it."""
        with self._writing:
            stored = self._stored(self._writer, team)
        made = {one.id: self._made(one, sealed) for one, sealed in stored}
        return {id_: found for id_, found in made.items() if isinstance(found, str)}

    def close(self) -> None:
        """Let go of the file."""
        self._reader.close()
        self._writer.close()

    def _of(self, team: str) -> _Team:
        known = self._teams.get(team)
        if known is None:
            if len(self._teams) >= TEAMS_CACHED_MAX:
                self._teams.clear()
            stored = self._stored(self._reader, team)
            known = self._teams[team] = _Team({one.alias: (one, sealed) for one, sealed in stored})
        return known

    def _made(self, registration: Registration, sealed: bytes) -> Model | str:
        """The model, or why there is none."""
        try:
            return model_of(registration, self._cipher.open(registration.binding, sealed), self._generation)
        except Unreadable as error:
            return f"its key cannot be read ({error}). Remove it and register it again, or ask the operator."
        except Unusable as error:
            return str(error)

    def _need_key(self) -> None:
        if not self._cipher.ready:
            raise NoEncryptionKey

    def _find(self, connection: sqlite3.Connection, team: str, alias: str) -> tuple[Registration, bytes]:
        for one, sealed in self._stored(connection, team):
            if one.alias == alias:
                return one, sealed
        raise UnknownAlias(f"The team '{team}' has no alias '{alias}'.")

    def _stored(
        self, connection: sqlite3.Connection, team: str | None, *, revoked: bool = False
    ) -> list[tuple[Registration, bytes]]:
        rows = connection.execute(
            f"SELECT {_COLUMNS}, sealed FROM byo_registrations WHERE (?1 IS NULL OR team=?1)"
            " AND (?2 OR revoked_ms IS NULL) ORDER BY created_ms, rowid",
            (team, revoked),
        ).fetchall()
        return [(_registration(row[:-1]), bytes(row[-1])) for row in rows]

    def _read_generation(self) -> int:
        return int(self._reader.execute("SELECT generation FROM byo_generation WHERE id=1").fetchone()[0])

    def _make_tables(self) -> None:
        there = self._writer.execute("SELECT 1 FROM sqlite_master WHERE name='byo_generation'").fetchone()
        if there is None:
            self._writer.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """One transaction that changes registrations, and tells this and other running proxies so."""
        with self._writing:
            # A key that a customer was told is removed must not come back with the power.
            self._writer.execute("PRAGMA synchronous=FULL")
            self._writer.execute("BEGIN IMMEDIATE")
            done = False
            try:
                yield self._writer
                self._writer.execute("UPDATE byo_generation SET generation=generation+1")
                self._writer.execute("COMMIT")
                done = True
            finally:
                if not done:
                    self._writer.execute("ROLLBACK")
        self._teams.clear()


def _row(one: Registration) -> tuple[Any, ...]:
    return (
        one.id, one.team, one.alias, one.upstream, one.base_url, one.model, orjson.dumps(one.operations).decode(),
        one.credential_header, one.hint, one.created_ms, one.rotated_ms, one.revoked_ms,
    )  # fmt: skip


def _registration(row: tuple[Any, ...]) -> Registration:
    values = list(row)
    values[6] = tuple(orjson.loads(values[6]))
    return Registration(*values)
