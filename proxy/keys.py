"""Tollway's own API keys: made, found, rotated and revoked. Only their SHA-256 is kept.

A key is 128 random bits, so one round of SHA-256 is enough. Its public id outlives a rotation: caps and spend
go on counting under it, and for the time of grace two keys have the same id.
"""

# ruff: noqa: S608 (statements are put together from constants of this file only)

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import sqlite3
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import orjson

from proxy.clock import Clock
from proxy.identities import CapSetting
from proxy.ledger.schema import connect

PREFIX: Final = "lld_"
KEY_CHARACTERS_MAX: Final = 256
KEYS_CACHED_MAX: Final = 20_000
UNKNOWN_CACHED_MAX: Final = 10_000
POLL_SECONDS: Final = 0.25
"""How often a running proxy looks for keys changed by another process."""
_SECRET_BYTES: Final = 16
_HINT_HEX: Final = 4
_COLUMNS: Final = (
    "digest, id, hint, name, user, team, organisation, tier, caps, created_ms, expires_ms, rotated_ms, revoked_ms"
)


class UnknownKey(Exception):
    """No key has this id."""


class KeyNotActive(Exception):
    """The key is revoked or expired, so it cannot be rotated."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as stored; the key itself is nowhere."""

    key_id: str
    hint: str
    """Prefix and first four digits, to tell keys apart."""
    name: str
    user: str
    team: str
    organisation: str
    tier: str | None
    """None: the team's."""
    caps: tuple[CapSetting, ...]
    created_ms: int
    expires_ms: int | None = None
    rotated_ms: int | None = None
    """Replaced by a new key under the same id; it works until it expires."""
    revoked_ms: int | None = None

    def state(self, at_ms: int) -> str:
        """active | rotated (still in its grace) | expired | revoked."""
        if self.revoked_ms is not None:
            return "revoked"
        if self.expires_ms is not None and at_ms >= self.expires_ms:
            return "expired"
        return "active" if self.rotated_ms is None else "rotated"


class KeyStore:
    """Keys in the ledger's file. `lookup` is for the event loop; what writes blocks and is for commands."""

    def __init__(self, path: Path, clock: Clock, *, prefix: str = PREFIX) -> None:
        self._connection = connect(path)
        self._clock = clock
        self._prefix = prefix
        self._known: dict[bytes, KeyRecord] = {}
        self._unknown: set[bytes] = set()
        self._generation = self._read_generation()

    def lookup(self, key: str) -> KeyRecord | None:
        """The record of a key that works now. Answers from memory; a miss reads the file, tens of microseconds."""
        if len(key) > KEY_CHARACTERS_MAX:
            return None
        digest = _digest(key)
        record = self._known.get(digest)
        if record is None:
            if digest in self._unknown:
                return None
            record = self._read(digest)
            if record is None:
                return None
        if record.revoked_ms is not None:
            return None
        if record.expires_ms is not None and self._clock.now_ms() >= record.expires_ms:
            return None
        return record

    async def watch(self) -> None:
        """Forget what is remembered whenever another process changes a key. Runs until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                generation = self._read_generation()
            except sqlite3.Error:
                # Unreadable, for the moment or for good: remember nothing, so that no revoked key lives on in memory.
                self._forget()
                continue
            if generation != self._generation:
                self._generation = generation
                self._forget()

    def create(
        self,
        *,
        user: str,
        team: str,
        organisation: str,
        tier: str | None = None,
        caps: tuple[CapSetting, ...] = (),
        name: str = "",
        expires_ms: int | None = None,
    ) -> tuple[str, KeyRecord]:
        """A new key and its record. The key is told here and never again."""
        now = self._clock.now_ms()
        key = self._new_key()
        key_id = f"key_{secrets.token_hex(6)}"
        record = KeyRecord(key_id, self._hint(key), name, user, team, organisation, tier, caps, now, expires_ms)
        with _Change(self._connection):
            self._insert(key, record)
        self._forget()
        return key, record

    def rotate(self, key_id: str, *, grace_milliseconds: int) -> tuple[str, KeyRecord]:
        """A new key under the same id and settings; the old one works for the grace.

        Raises UnknownKey, KeyNotActive.
        """
        key = self._new_key()
        now = self._clock.now_ms()
        with _Change(self._connection):
            old = self.current(key_id)
            if old.state(now) != "active":
                raise KeyNotActive(f"{key_id} is {old.state(now)}")
            self._connection.execute(
                "UPDATE keys SET rotated_ms=?1, expires_ms=min(coalesce(expires_ms, ?2), ?2)"
                " WHERE id=?3 AND rotated_ms IS NULL",
                (now, now + grace_milliseconds, key_id),
            )
            record = KeyRecord(
                key_id,
                self._hint(key),
                old.name,
                old.user,
                old.team,
                old.organisation,
                old.tier,
                old.caps,
                now,
                old.expires_ms,
            )
            self._insert(key, record)
        self._forget()
        return key, record

    def revoke(self, key_id: str) -> bool:
        """End every key of this id at once; says whether any still worked. Raises UnknownKey."""
        now = self._clock.now_ms()
        with _Change(self._connection):
            worked = any(record.state(now) in ("active", "rotated") for record in self._of(key_id))
            self._connection.execute("UPDATE keys SET revoked_ms=? WHERE id=? AND revoked_ms IS NULL", (now, key_id))
        self._forget()
        return worked

    def current(self, key_id: str) -> KeyRecord:
        """The newest key of this id, whatever its state. Raises UnknownKey."""
        return self._of(key_id)[-1]

    def working(self, key_id: str) -> KeyRecord | None:
        """The newest key of this id, or an older one in its grace, that works now; None: none does.

        Reads the file, tens of microseconds. Raises UnknownKey.
        """
        now = self._clock.now_ms()
        found = (one for one in reversed(self._of(key_id)) if one.state(now) in ("active", "rotated"))
        return next(found, None)

    def key_id_of(self, selector: str) -> str:
        """The id that a person means: an id, or the key itself. Raises UnknownKey."""
        if selector.startswith(self._prefix):
            row = self._connection.execute("SELECT id FROM keys WHERE digest=?", (_digest(selector),)).fetchone()
            if row is None:
                raise UnknownKey("No key is the one given")
            return str(row[0])
        return self.current(selector).key_id

    def records(self, *, team: str | None = None) -> list[KeyRecord]:
        """Every key, oldest first."""
        where, values = ("", ()) if team is None else (" WHERE team=?", (team,))
        rows = self._connection.execute(f"SELECT {_COLUMNS} FROM keys{where} ORDER BY created_ms, rowid", values)
        return [_record(row) for row in rows]

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _new_key(self) -> str:
        return self._prefix + secrets.token_hex(_SECRET_BYTES)

    def _hint(self, key: str) -> str:
        return key[: len(self._prefix) + _HINT_HEX]

    def _insert(self, key: str, record: KeyRecord) -> None:
        self._connection.execute(
            f"INSERT INTO keys ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                _digest(key),
                record.key_id,
                record.hint,
                record.name,
                record.user,
                record.team,
                record.organisation,
                record.tier,
                orjson.dumps([asdict(cap) for cap in record.caps]).decode(),
                record.created_ms,
                record.expires_ms,
                record.rotated_ms,
                record.revoked_ms,
            ),
        )

    def _of(self, key_id: str) -> list[KeyRecord]:
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM keys WHERE id=? ORDER BY created_ms, rowid", (key_id,)
        ).fetchall()
        if not rows:
            raise UnknownKey(f"No key has the id '{key_id}'")
        return [_record(row) for row in rows]

    def _read(self, digest: bytes) -> KeyRecord | None:
        row = self._connection.execute(f"SELECT {_COLUMNS} FROM keys WHERE digest=?", (digest,)).fetchone()
        if row is None or not hmac.compare_digest(row[0], digest):
            if len(self._unknown) >= UNKNOWN_CACHED_MAX:
                self._unknown.clear()
            self._unknown.add(digest)
            return None
        if len(self._known) >= KEYS_CACHED_MAX:
            self._known.clear()
        record = self._known[digest] = _record(row)
        return record

    def _read_generation(self) -> int:
        return int(self._connection.execute("SELECT generation FROM key_generation WHERE id=1").fetchone()[0])

    def _forget(self) -> None:
        self._known.clear()
        self._unknown.clear()


class _Change:
    """One transaction that changes keys and tells running proxies so."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        # A key that was shown to its owner must not vanish with the power.
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._connection.execute("UPDATE key_generation SET generation=generation+1")
            self._connection.execute("COMMIT")
        else:
            self._connection.execute("ROLLBACK")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _record(row: tuple[object, ...]) -> KeyRecord:
    values = list(row[1:])
    values[7] = tuple(CapSetting(**cap) for cap in orjson.loads(str(values[7])))
    return KeyRecord(*values)  # type: ignore[arg-type]
