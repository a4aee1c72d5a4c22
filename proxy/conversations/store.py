"""Conversations at rest. Every function works within one transaction; `since_ms` is the time before which a
conversation that had no turn is over."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from proxy.conversations.api import Conversation, Summary, Turn

FILE_NAME: Final = "conversations.db"
"""In the state folder."""
VERSION: Final = 1
TABLES: Final = """
CREATE TABLE conversations (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX conversations_by_owner ON conversations (owner, last_ms);
CREATE INDEX conversations_by_age ON conversations (last_ms);
CREATE TABLE turns (
    conversation INTEGER NOT NULL,
    number INTEGER NOT NULL,
    role TEXT NOT NULL,
    text TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (conversation, number)
) STRICT, WITHOUT ROWID;
"""


def find(connection: sqlite3.Connection, owner: str, id_: str, since_ms: int) -> Conversation | None:
    """The owner's conversation; None where it is unknown, over, or another's."""
    row = connection.execute(
        "SELECT row, created_ms, last_ms FROM conversations WHERE id=? AND owner=? AND last_ms>?",
        (id_, owner, since_ms),
    ).fetchone()
    if row is None:
        return None
    rows = connection.execute("SELECT role, text, at_ms FROM turns WHERE conversation=? ORDER BY number", (row[0],))
    turns = tuple([Turn(role, text, at_ms) for role, text, at_ms in rows])
    return Conversation(Summary(id_, row[1], row[2], len(turns)), turns)


def listing(connection: sqlite3.Connection, owner: str, since_ms: int, count_max: int) -> list[Summary]:
    """The owner's conversations, the one spoken in last first."""
    rows = connection.execute(
        "SELECT id, created_ms, last_ms, (SELECT count(*) FROM turns WHERE conversation=row) FROM conversations"
        " WHERE owner=? AND last_ms>? ORDER BY last_ms DESC, row DESC LIMIT ?",
        (owner, since_ms, count_max),
    )
    return [Summary(*row) for row in rows]


def create(connection: sqlite3.Connection, owner: str, id_: str, now_ms: int, *, owner_count_max: int) -> None:
    """Begin a conversation; the owner's oldest give way where there are too many."""
    connection.execute(
        "INSERT INTO conversations (id, owner, created_ms, last_ms) VALUES (?,?,?,?)", (id_, owner, now_ms, now_ms)
    )
    surplus = connection.execute(
        "SELECT row FROM conversations WHERE owner=? ORDER BY last_ms DESC, row DESC LIMIT -1 OFFSET ?",
        (owner, owner_count_max),
    ).fetchall()
    _drop(connection, [row for (row,) in surplus])


def append(
    connection: sqlite3.Connection,
    owner: str,
    id_: str,
    turns: Sequence[Turn],
    now_ms: int,
    *,
    turns_max: int,
    bytes_max: int,
) -> bool:
    """Put turns behind all that are there, whoever put those; the oldest give way. False: it is no longer there."""
    found = connection.execute(
        "UPDATE conversations SET last_ms=max(last_ms, ?) WHERE id=? AND owner=? RETURNING row", (now_ms, id_, owner)
    ).fetchone()
    if found is None:
        return False
    (last,) = connection.execute("SELECT coalesce(max(number), 0) FROM turns WHERE conversation=?", found).fetchone()
    connection.executemany(
        "INSERT INTO turns VALUES (?,?,?,?,?,?)",
        [
            (found[0], last + place, turn.role, turn.text, len(turn.text.encode()), now_ms)
            for place, turn in enumerate(turns, start=1)
        ],
    )
    _bound(connection, found[0], turns_max, bytes_max)
    return True


def delete(connection: sqlite3.Connection, owner: str, id_: str) -> bool:
    """End a conversation, and forget what was said. False: it is not there."""
    rows = connection.execute("SELECT row FROM conversations WHERE id=? AND owner=?", (id_, owner)).fetchall()
    _drop(connection, [row for (row,) in rows])
    return bool(rows)


def sweep(connection: sqlite3.Connection, since_ms: int, count_max: int) -> int:
    """Forget some of the conversations that are over; says how many. Again until it says 0."""
    rows = connection.execute(
        "SELECT row FROM conversations WHERE last_ms<=? LIMIT ?", (since_ms, count_max)
    ).fetchall()
    _drop(connection, [row for (row,) in rows])
    return len(rows)


def _bound(connection: sqlite3.Connection, row: int, turns_max: int, bytes_max: int) -> None:
    size, kept = 0, 0
    for number, length in connection.execute(
        "SELECT number, bytes FROM turns WHERE conversation=? ORDER BY number DESC", (row,)
    ).fetchall():
        size, kept = size + length, kept + 1
        if kept > turns_max or size > bytes_max:
            connection.execute("DELETE FROM turns WHERE conversation=? AND number<=?", (row, number))
            return


def _drop(connection: sqlite3.Connection, rows: Sequence[int]) -> None:
    pairs = [(row,) for row in rows]
    connection.executemany("DELETE FROM turns WHERE conversation=?", pairs)
    connection.executemany("DELETE FROM conversations WHERE row=?", pairs)
