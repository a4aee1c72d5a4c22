"""Webhooks at rest: what owners configured, and the outbox. Every function works within one transaction."""

# ruff: noqa: S608 (statements are put together from constants of this file only)

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

import orjson

from proxy.webhooks.api import Delivery, DeliveryReport, DeliveryState, WebhookConfig

FILE_NAME: Final = "webhooks.db"
"""In the state folder."""
VERSION: Final = 1
RECENT_MAX: Final = 20
"""Deliveries that an owner is told of."""
KEPT_MS: Final = 3 * 86_400_000
"""How long what became of a delivery is remembered; its body is forgotten when it ends."""
TABLES: Final = """
CREATE TABLE configs (
    owner TEXT PRIMARY KEY,
    url TEXT,
    events TEXT NOT NULL,
    disabled TEXT NOT NULL,
    salt TEXT NOT NULL,
    previous_salt TEXT,
    previous_until_ms INTEGER NOT NULL,
    shown INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    rotated_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    url TEXT,
    type TEXT NOT NULL,
    body BLOB NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    status INTEGER,
    error TEXT NOT NULL DEFAULT '',
    created_ms INTEGER NOT NULL,
    due_ms INTEGER NOT NULL,
    ended_ms INTEGER,
    boot TEXT
) STRICT;
CREATE INDEX deliveries_due ON deliveries (due_ms) WHERE state = 'pending' AND boot IS NULL;
CREATE INDEX deliveries_by_owner ON deliveries (owner, id);
CREATE INDEX deliveries_waiting ON deliveries (owner) WHERE state = 'pending';
CREATE INDEX deliveries_claimed ON deliveries (boot) WHERE boot IS NOT NULL;
CREATE INDEX deliveries_ended ON deliveries (ended_ms) WHERE ended_ms IS NOT NULL;
"""
_CONFIG: Final = (
    "owner, url, events, disabled, salt, previous_salt, previous_until_ms, shown, created_ms, rotated_ms"
)  # fmt: skip
_DELIVERY: Final = "id, event, owner, url, type, body, attempts, created_ms"
_PENDING: Final = DeliveryState.PENDING.value


def config(connection: sqlite3.Connection, owner: str) -> WebhookConfig | None:
    """What the owner has configured."""
    row = connection.execute(f"SELECT {_CONFIG} FROM configs WHERE owner=?", (owner,)).fetchone()
    if row is None:
        return None
    return WebhookConfig(
        owner=row[0],
        url=row[1],
        events=tuple(orjson.loads(row[2])),
        disabled=row[3],
        salt=row[4],
        previous_salt=row[5],
        previous_until_ms=row[6],
        shown=bool(row[7]),
        created_ms=row[8],
        rotated_ms=row[9],
    )


def put_config(connection: sqlite3.Connection, wanted: WebhookConfig) -> None:
    """Keep it in the place of what there was."""
    connection.execute(
        f"INSERT OR REPLACE INTO configs ({_CONFIG}) VALUES (?,?,?,?,?,?,?,?,?,?)",
        (
            wanted.owner, wanted.url, orjson.dumps(wanted.events).decode(), wanted.disabled, wanted.salt,
            wanted.previous_salt, wanted.previous_until_ms, int(wanted.shown), wanted.created_ms, wanted.rotated_ms,
        ),
    )  # fmt: skip


def remove_url(connection: sqlite3.Connection, owner: str, now_ms: int) -> bool:
    """Nothing more goes to the configured URL, what waits included; says whether there was one."""
    found = connection.execute("UPDATE configs SET url=NULL WHERE owner=? AND url IS NOT NULL", (owner,)).rowcount
    connection.execute(
        "UPDATE deliveries SET state=?, error='the webhook was removed', body=x'', ended_ms=?, boot=NULL"
        " WHERE owner=? AND url IS NULL AND state=?",
        (DeliveryState.FAILED.value, now_ms, owner, _PENDING),
    )
    return found > 0


def disable(connection: sqlite3.Connection, owner: str, url: str, reason: str) -> None:
    """Send nothing more to the configured URL, if it is still this one."""
    connection.execute("UPDATE configs SET disabled=? WHERE owner=? AND url=?", (reason, owner, url))


def enqueue(
    connection: sqlite3.Connection,
    *,
    event_id: str,
    owner: str,
    url: str | None,
    event_type: str,
    body: bytes,
    now_ms: int,
    pending_max: int,
) -> bool:
    """Put an event into the outbox, once by its id; past `pending_max` of the owner it is kept as failed.

    Says whether it waits to be sent.
    """
    (waiting,) = connection.execute(
        "SELECT count(*) FROM deliveries WHERE owner=? AND state='pending'", (owner,)
    ).fetchone()
    full = waiting >= pending_max
    state = DeliveryState.FAILED.value if full else _PENDING
    made = connection.execute(
        "INSERT OR IGNORE INTO deliveries (event, owner, url, type, body, state, error, created_ms, due_ms, ended_ms)"
        " VALUES (?,?,?,?,?,?,?,?,?,?)",
        (
            event_id, owner, url, event_type, b"" if full else body, state,
            f"{pending_max} deliveries were waiting already" if full else "", now_ms, now_ms,
            now_ms if full else None,
        ),
    )  # fmt: skip
    return made.rowcount > 0 and not full


def boots(connection: sqlite3.Connection) -> list[str]:
    """Processes that have claimed deliveries."""
    return [row[0] for row in connection.execute("SELECT DISTINCT boot FROM deliveries WHERE boot IS NOT NULL")]


def free(connection: sqlite3.Connection, dead: Iterable[str]) -> None:
    """What dead processes had claimed is for anybody again: whether it arrived nobody knows, so it is sent again."""
    connection.executemany("UPDATE deliveries SET boot=NULL WHERE boot=?", [(boot,) for boot in dead])


def claim(connection: sqlite3.Connection, boot: str, now_ms: int, *, count_max: int, owner_max: int) -> list[Delivery]:
    """Deliveries that are due, those first whose owner has least under way, then the oldest; from now on no other
    process sends them.

    No more than `owner_max` of one owner are under way in this process: a slow receiver, however much waits for it,
    delays its own alone.
    """
    rows = connection.execute(
        "WITH due AS (SELECT id, owner, due_ms, row_number() OVER (PARTITION BY owner ORDER BY due_ms, id) AS place"
        " FROM deliveries WHERE state='pending' AND boot IS NULL AND due_ms<=?1),"
        " busy AS (SELECT owner, count(*) AS running FROM deliveries WHERE boot=?2 GROUP BY owner)"
        " SELECT due.id FROM due LEFT JOIN busy USING (owner)"
        " WHERE place + coalesce(running, 0) <= ?3"
        " ORDER BY place + coalesce(running, 0), due.due_ms, due.id LIMIT ?4",
        (now_ms, boot, owner_max, count_max),
    ).fetchall()
    claimed = []
    for (row,) in rows:
        connection.execute("UPDATE deliveries SET boot=?, attempts=attempts+1 WHERE id=?", (boot, row))
        found = connection.execute(f"SELECT {_DELIVERY} FROM deliveries WHERE id=?", (row,)).fetchone()
        claimed.append(Delivery(*found))
    return claimed


def next_due_ms(connection: sqlite3.Connection) -> int | None:
    """When the next delivery is due that nobody has claimed."""
    found = connection.execute("SELECT min(due_ms) FROM deliveries WHERE state='pending' AND boot IS NULL").fetchone()
    return None if found[0] is None else int(found[0])


def ended(
    connection: sqlite3.Connection, row: int, state: DeliveryState, *, status: int | None, error: str, now_ms: int
) -> None:
    """It has arrived, or will not; its body is forgotten. What was ended meanwhile stays as it is."""
    connection.execute(
        "UPDATE deliveries SET state=?, status=?, error=?, ended_ms=?, body=x'', boot=NULL WHERE id=? AND state=?",
        (state.value, status, error, now_ms, row, _PENDING),
    )


def again(connection: sqlite3.Connection, row: int, *, status: int | None, error: str, due_ms: int) -> None:
    """It is tried again."""
    connection.execute(
        "UPDATE deliveries SET boot=NULL, status=?, error=?, due_ms=? WHERE id=? AND state=?",
        (status, error, due_ms, row, _PENDING),
    )


def unsent(connection: sqlite3.Connection, boot: str) -> None:
    """What this process had claimed and did not come to an end with was no attempt."""
    connection.execute("UPDATE deliveries SET boot=NULL, attempts=attempts-1 WHERE boot=?", (boot,))


def recent(connection: sqlite3.Connection, owner: str) -> list[DeliveryReport]:
    """The owner's last deliveries, newest first."""
    rows = connection.execute(
        "SELECT event, type, state, attempts, status, error, created_ms, due_ms, ended_ms FROM deliveries"
        " WHERE owner=? ORDER BY id DESC LIMIT ?",
        (owner, RECENT_MAX),
    )
    return [
        DeliveryReport(
            event_id=row[0],
            type=row[1],
            state=DeliveryState(row[2]),
            attempts=row[3],
            status=row[4],
            error=row[5],
            created_ms=row[6],
            due_ms=row[7] if row[2] == _PENDING else None,
            ended_ms=row[8],
        )
        for row in rows
    ]


def sweep(connection: sqlite3.Connection, now_ms: int) -> None:
    """Forget what ended long ago."""
    connection.execute("DELETE FROM deliveries WHERE ended_ms<?", (now_ms - KEPT_MS,))
