"""Keys and answers at rest. Every function works within one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final

import orjson

from proxy.idempotency.api import Asked, Kept

FILE_NAME: Final = "idempotency.db"
"""In the state folder."""
VERSION: Final = 1
TABLES: Final = """
CREATE TABLE answers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    request TEXT NOT NULL,
    about TEXT NOT NULL,
    boot TEXT,
    headers TEXT NOT NULL DEFAULT '[]',
    body BLOB NOT NULL DEFAULT x'',
    stream INTEGER NOT NULL DEFAULT 0,
    expires_ms INTEGER,
    UNIQUE (scope, key)
) STRICT;
CREATE INDEX answers_by_age ON answers (expires_ms) WHERE boot IS NULL;
CREATE INDEX answers_by_boot ON answers (boot) WHERE boot IS NOT NULL;
"""
"""`boot` is the process that runs it; NULL: it is kept."""


class Found(Enum):
    """Why a key cannot be claimed."""

    RUNNING = "running"
    OTHER = "other"
    """It stands for another request."""


def claim(
    connection: sqlite3.Connection, asked: Asked, *, boot: str, now_ms: int, is_dead: Callable[[str], bool]
) -> int | Kept | Found:
    """The row to run under, or what stands in its place."""
    made = connection.execute(
        "INSERT INTO answers (scope, key, request, about, boot) VALUES (?,?,?,?,?) ON CONFLICT DO NOTHING RETURNING id",
        (asked.scope, asked.key, asked.request, asked.about, boot),
    ).fetchone()
    if made is not None:
        return int(made[0])
    row, request, runs, headers, body, stream, expires_ms = connection.execute(
        "SELECT id, request, boot, headers, body, stream, expires_ms FROM answers WHERE scope=? AND key=?",
        (asked.scope, asked.key),
    ).fetchone()
    if is_dead(runs) if runs is not None else expires_ms <= now_ms:
        connection.execute("DELETE FROM answers WHERE id=?", (row,))
        return claim(connection, asked, boot=boot, now_ms=now_ms, is_dead=is_dead)
    if request != asked.request:
        return Found.OTHER
    if runs is not None:
        return Found.RUNNING
    return Kept(tuple([(name, value) for name, value in orjson.loads(headers)]), body, bool(stream))


def keep(
    connection: sqlite3.Connection, row: int, kept: Kept, *, expires_ms: int, scope: str, scope_bytes_max: int
) -> bool:
    """Keep the answer of a claim; the caller's oldest give way where it has too much. False: the claim is gone."""
    found = connection.execute(
        "UPDATE answers SET boot=NULL, headers=?, body=?, stream=?, expires_ms=? WHERE id=? AND boot IS NOT NULL",
        (orjson.dumps(kept.headers).decode(), kept.body, int(kept.stream), expires_ms, row),
    ).rowcount
    (size,) = connection.execute(
        "SELECT coalesce(sum(length(body)), 0) FROM answers WHERE scope=?", (scope,)
    ).fetchone()
    while size > scope_bytes_max:
        oldest = connection.execute(
            "SELECT id, length(body) FROM answers WHERE scope=? AND boot IS NULL AND id<>? ORDER BY expires_ms, id"
            " LIMIT 1",
            (scope, row),
        ).fetchone()
        if oldest is None:
            break
        connection.execute("DELETE FROM answers WHERE id=?", (oldest[0],))
        size -= oldest[1]
    return found > 0


def free(connection: sqlite3.Connection, row: int) -> None:
    """Give a claim up; one that was kept stays."""
    connection.execute("DELETE FROM answers WHERE id=? AND boot IS NOT NULL", (row,))


def forget(connection: sqlite3.Connection, scope: str, about: str) -> int:
    """Forget what a caller's answers said about something, those under way too; says how many they were."""
    return connection.execute("DELETE FROM answers WHERE scope=? AND about=?", (scope, about)).rowcount


def boots(connection: sqlite3.Connection) -> list[str]:
    """Processes that run something."""
    return [row[0] for row in connection.execute("SELECT DISTINCT boot FROM answers WHERE boot IS NOT NULL")]


def sweep(connection: sqlite3.Connection, *, now_ms: int, dead: Iterable[str], count_max: int) -> int:
    """Free what dead processes ran and forget some of what has expired; says how many. Again until it says 0."""
    freed = sum([connection.execute("DELETE FROM answers WHERE boot=?", (boot,)).rowcount for boot in dead])
    expired = connection.execute(
        "DELETE FROM answers WHERE id IN (SELECT id FROM answers WHERE boot IS NULL AND expires_ms<=? LIMIT ?)",
        (now_ms, count_max),
    ).rowcount
    return freed + expired
