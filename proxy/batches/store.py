"""Batches at rest. Every function works within one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

from proxy.batches.api import BatchReport, Item, ItemReport, ItemState, NewBatch

FILE_NAME: Final = "batches.db"
"""In the state folder."""
VERSION: Final = 1
TABLES: Final = """
CREATE TABLE batches (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    peer TEXT NOT NULL,
    webhook_url TEXT,
    once_key TEXT,
    once_request TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    claimed_ms INTEGER NOT NULL,
    canceled_ms INTEGER,
    ended_ms INTEGER,
    expires_ms INTEGER NOT NULL,
    told INTEGER NOT NULL DEFAULT 0,
    UNIQUE (owner, once_key)
) STRICT;
CREATE TABLE items (
    batch INTEGER NOT NULL,
    number INTEGER NOT NULL,
    body BLOB NOT NULL,
    state TEXT NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    waits INTEGER NOT NULL DEFAULT 0,
    due_ms INTEGER NOT NULL,
    boot TEXT,
    outcome BLOB NOT NULL DEFAULT x'',
    started_ms INTEGER,
    ended_ms INTEGER,
    PRIMARY KEY (batch, number)
) STRICT;
CREATE INDEX items_due ON items (due_ms) WHERE state = 'queued';
CREATE INDEX items_running ON items (boot) WHERE boot IS NOT NULL;
CREATE INDEX batches_open ON batches (owner) WHERE ended_ms IS NULL;
CREATE INDEX batches_by_age ON batches (expires_ms);
CREATE INDEX batches_untold ON batches (number) WHERE told = 0 AND ended_ms IS NOT NULL;
"""
_CLAIM: Final = """
WITH busy AS (
    SELECT items.batch, batches.owner FROM items JOIN batches ON batches.number = items.batch
    WHERE items.boot IS NOT NULL
)
SELECT batches.number, min(items.number) FROM items JOIN batches ON batches.number = items.batch
WHERE items.state = 'queued' AND items.due_ms <= :now
GROUP BY batches.number
ORDER BY
    (SELECT count(*) FROM busy WHERE busy.owner = batches.owner),
    (SELECT count(*) FROM busy WHERE busy.batch = batches.number),
    batches.claimed_ms, batches.number
LIMIT 1
"""
"""The turn of whoever has least under way; among equals, of the batch whose last turn was longest ago."""


class OtherRequest(Exception):
    """The Idempotency-Key stands for another batch."""


class TooManyOpen(Exception):
    """The owner has as many batches under way as it may."""


def add(connection: sqlite3.Connection, batch: NewBatch, *, open_max: int) -> BatchReport:
    """Queue a batch; the one that its Idempotency-Key stands for, where there is one already.

    Raises OtherRequest, TooManyOpen.
    """
    if batch.once_key is not None:
        known = connection.execute(
            "SELECT id, once_request FROM batches WHERE owner=? AND once_key=?", (batch.owner, batch.once_key)
        ).fetchone()
        if known is not None:
            if known[1] != batch.once_request:
                raise OtherRequest
            return _report(connection, batch.owner, known[0])
    (count,) = connection.execute(
        "SELECT count(*) FROM batches WHERE owner=? AND ended_ms IS NULL", (batch.owner,)
    ).fetchone()
    if count >= open_max:
        raise TooManyOpen
    number = connection.execute(
        "INSERT INTO batches (id, owner, peer, webhook_url, once_key, once_request, created_ms, claimed_ms, expires_ms)"
        " VALUES (?,?,?,?,?,?,?,?,?)",
        (
            batch.id, batch.owner, batch.peer, batch.webhook_url, batch.once_key, batch.once_request,
            batch.created_ms, batch.created_ms, batch.expires_ms,
        ),
    ).lastrowid  # fmt: skip
    connection.executemany(
        "INSERT INTO items (batch, number, body, state, due_ms) VALUES (?,?,?,'queued',?)",
        [(number, index, body, batch.created_ms) for index, body in enumerate(batch.prompts)],
    )
    return _report(connection, batch.owner, batch.id)


def report(connection: sqlite3.Connection, owner: str, batch_id: str) -> BatchReport | None:
    """What the owner may know; None for a batch of another's, or none at all."""
    row = connection.execute(
        "SELECT number, created_ms, ended_ms, canceled_ms, expires_ms FROM batches WHERE id=? AND owner=?",
        (batch_id, owner),
    ).fetchone()
    if row is None:
        return None
    items = connection.execute(
        "SELECT number, state, outcome, started_ms, ended_ms FROM items WHERE batch=? ORDER BY number", (row[0],)
    )
    return BatchReport(
        id=batch_id,
        created_ms=row[1],
        ended_ms=row[2],
        canceled_ms=row[3],
        expires_ms=row[4],
        items=tuple([ItemReport(item[0], ItemState(item[1]), *item[2:]) for item in items]),
    )


def _report(connection: sqlite3.Connection, owner: str, batch_id: str) -> BatchReport:
    found = report(connection, owner, batch_id)
    if found is None:
        raise sqlite3.DatabaseError(f"{batch_id} vanished within a transaction")
    return found


def claim(connection: sqlite3.Connection, boot: str, now_ms: int) -> Item | None:
    """The prompt whose turn it is; from now on no other process runs it. None: none is due."""
    turn = connection.execute(_CLAIM, {"now": now_ms}).fetchone()
    if turn is None:
        return None
    connection.execute("UPDATE batches SET claimed_ms=? WHERE number=?", (now_ms, turn[0]))
    connection.execute(
        "UPDATE items SET state='running', boot=?, tries=tries+1, started_ms=coalesce(started_ms, ?)"
        " WHERE batch=? AND number=?",
        (boot, now_ms, *turn),
    )
    row = connection.execute(
        "SELECT batches.id, owner, peer, items.number, body, tries, waits FROM items"
        " JOIN batches ON batches.number = items.batch WHERE items.batch=? AND items.number=?",
        turn,
    ).fetchone()
    return Item(*row)


def next_due_ms(connection: sqlite3.Connection) -> int | None:
    """When the next prompt is due."""
    (found,) = connection.execute("SELECT min(due_ms) FROM items WHERE state='queued'").fetchone()
    return None if found is None else int(found)


def end(
    connection: sqlite3.Connection, item: Item, state: ItemState, outcome: bytes, now_ms: int, *, kept_ms: int
) -> None:
    """A prompt has come to its end; with the last of its batch the batch has, too."""
    connection.execute(
        "UPDATE items SET state=?, outcome=?, ended_ms=?, boot=NULL, body=x'' WHERE number=?"
        " AND batch=(SELECT number FROM batches WHERE id=?)",
        (state.value, outcome, now_ms, item.number, item.batch),
    )
    _close(connection, now_ms, kept_ms)


def again(connection: sqlite3.Connection, item: Item, now_ms: int, *, due_ms: int, waited: bool, kept_ms: int) -> None:
    """It goes back to the queue; this run of it does not count. `waited`: it was told to come later.

    One whose batch was canceled meanwhile is left out.
    """
    canceled = connection.execute(
        "UPDATE items SET state='canceled', boot=NULL, ended_ms=?, body=x'' WHERE number=?"
        " AND batch=(SELECT number FROM batches WHERE id=? AND canceled_ms IS NOT NULL)",
        (now_ms, item.number, item.batch),
    ).rowcount
    if canceled:
        _close(connection, now_ms, kept_ms)
        return
    connection.execute(
        "UPDATE items SET state='queued', boot=NULL, tries=tries-1, waits=waits+?, due_ms=? WHERE number=?"
        " AND batch=(SELECT number FROM batches WHERE id=?)",
        (int(waited), due_ms, item.number, item.batch),
    )


def cancel(connection: sqlite3.Connection, owner: str, batch_id: str, now_ms: int, *, kept_ms: int) -> bool:
    """Leave out what has not begun; what runs is told by `canceled`. False: no such batch of this owner."""
    row = connection.execute(
        "SELECT number, ended_ms FROM batches WHERE id=? AND owner=?", (batch_id, owner)
    ).fetchone()
    if row is None:
        return False
    if row[1] is None:
        connection.execute(
            "UPDATE batches SET canceled_ms=coalesce(canceled_ms, ?) WHERE number=?", (now_ms, row[0])
        )  # fmt: skip
        connection.execute(
            "UPDATE items SET state='canceled', ended_ms=?, body=x'' WHERE batch=? AND state='queued'",
            (now_ms, row[0]),
        )
        _close(connection, now_ms, kept_ms)
    return True


def canceled(connection: sqlite3.Connection, boot: str) -> set[tuple[str, int]]:
    """Prompts that this process runs and that are not wanted any more."""
    rows = connection.execute(
        "SELECT batches.id, items.number FROM items JOIN batches ON batches.number = items.batch"
        " WHERE items.boot=? AND batches.canceled_ms IS NOT NULL",
        (boot,),
    )
    return {(row[0], row[1]) for row in rows}


def boots(connection: sqlite3.Connection) -> list[str]:
    """Processes that have claimed prompts."""
    return [row[0] for row in connection.execute("SELECT DISTINCT boot FROM items WHERE boot IS NOT NULL")]


def free(
    connection: sqlite3.Connection, dead: Iterable[str], now_ms: int, *, tries_max: int, lost: bytes, kept_ms: int
) -> None:
    """What dead processes ran is run again; past `tries_max` runs it has failed, with the outcome `lost`."""
    for boot in dead:
        connection.execute(
            "UPDATE items SET state='canceled', boot=NULL, ended_ms=?, body=x'' WHERE boot=? AND EXISTS"
            " (SELECT 1 FROM batches WHERE batches.number = items.batch AND canceled_ms IS NOT NULL)",
            (now_ms, boot),
        )
        connection.execute(
            "UPDATE items SET state='failed', boot=NULL, ended_ms=?, outcome=?, body=x'' WHERE boot=? AND tries>=?",
            (now_ms, lost, boot, tries_max),
        )
        connection.execute("UPDATE items SET state='queued', boot=NULL, due_ms=? WHERE boot=?", (now_ms, boot))
    _close(connection, now_ms, kept_ms)


def untold(connection: sqlite3.Connection) -> list[tuple[str, str, str | None]]:
    """Batches that ended and whose owners were not told: id, owner, URL."""
    rows = connection.execute(
        "SELECT id, owner, webhook_url FROM batches WHERE told=0 AND ended_ms IS NOT NULL ORDER BY number"
    )
    return [(row[0], row[1], row[2]) for row in rows]


def told(connection: sqlite3.Connection, batch_id: str) -> None:
    """Its owner will hear of it."""
    connection.execute("UPDATE batches SET told=1, webhook_url=NULL WHERE id=?", (batch_id,))


def sweep(connection: sqlite3.Connection, now_ms: int, *, expired: bytes, kept_ms: int) -> None:
    """Fail what was not begun in time, with the outcome `expired`; forget what ended long ago."""
    connection.execute(
        "UPDATE items SET state='failed', ended_ms=?1, outcome=?2, body=x'' WHERE state='queued' AND batch IN"
        " (SELECT number FROM batches WHERE ended_ms IS NULL AND expires_ms<=?1)",
        (now_ms, expired),
    )
    _close(connection, now_ms, kept_ms)
    gone = "SELECT number FROM batches WHERE ended_ms IS NOT NULL AND told=1 AND expires_ms<=?"
    connection.execute(f"DELETE FROM items WHERE batch IN ({gone})", (now_ms,))  # noqa: S608 -- constants of this file
    connection.execute(f"DELETE FROM batches WHERE number IN ({gone})", (now_ms,))  # noqa: S608


def _close(connection: sqlite3.Connection, now_ms: int, kept_ms: int) -> None:
    """End the batches that nothing of is left to do. One that its owner canceled tells nobody."""
    connection.execute(
        "UPDATE batches SET ended_ms=?1, expires_ms=?1+?2, told=(canceled_ms IS NOT NULL) WHERE ended_ms IS NULL"
        " AND NOT EXISTS (SELECT 1 FROM items WHERE items.batch = batches.number AND state IN ('queued', 'running'))",
        (now_ms, kept_ms),
    )
