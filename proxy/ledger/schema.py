"""The tables of the ledger and the key store, and how a connection to them is opened.

Amounts are nano-dollars, times milliseconds since the epoch. A hold's `counters` is a JSON list of the ids of
the counters it counts in; what it counts there (charged or list) is the counter's own `basis`. `folded` is what a
counter has spent, or a purse has paid, by holds that were pruned into `days`. What a purse has set aside for a hold
is the hold's `held_charged`. `price_source` is NULL in holds of version 1, which did not keep it. `owed` is what a
hold of a fixed price counts for where its process dies with the answer under way; NULL: all that was held. The
`tender_*` of a hold count its tender's unit; `tender_paid` is what its balance paid, or what of its payment was
captured when it was burnt. Tables of payments: `payment_schema.py`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Final

from proxy.ledger.payment_schema import FROM_2, PAYMENT_TABLES

DATABASE_NAME: Final = "tollway.db"
"""Name of the file in the state folder."""
VERSION: Final = 4
BUSY_MILLISECONDS_MAX: Final = 5_000
"""How long a statement waits for another process's write before it fails."""
CACHED_STATEMENTS_MAX: Final = 128

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS boots (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    boot TEXT NOT NULL UNIQUE,
    first_hold INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS counters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    scope TEXT NOT NULL,
    scope_id TEXT NOT NULL,
    window TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL,
    basis TEXT NOT NULL CHECK (basis IN ('charged', 'list')),
    spent INTEGER NOT NULL DEFAULT 0 CHECK (spent >= 0),
    held INTEGER NOT NULL DEFAULT 0 CHECK (held >= 0),
    overage INTEGER NOT NULL DEFAULT 0,
    limit_max INTEGER NOT NULL DEFAULT 0,
    folded INTEGER NOT NULL DEFAULT 0,
    folded_overage INTEGER NOT NULL DEFAULT 0,
    UNIQUE (scope, scope_id, window, start_ms, basis)
) STRICT;
CREATE TABLE IF NOT EXISTS holds (
    id INTEGER PRIMARY KEY,
    exchange_id TEXT NOT NULL UNIQUE,
    boot INTEGER NOT NULL,
    state INTEGER NOT NULL,
    key_id TEXT NOT NULL,
    user TEXT NOT NULL,
    team TEXT NOT NULL,
    organisation TEXT NOT NULL,
    model TEXT NOT NULL,
    operation TEXT NOT NULL,
    held_charged INTEGER NOT NULL CHECK (held_charged >= 0),
    held_list INTEGER CHECK (held_list >= 0),
    charged INTEGER CHECK (charged >= 0),
    list INTEGER CHECK (list >= 0),
    counters TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    ended_ms INTEGER,
    outcome TEXT,
    purse INTEGER,
    input_charged INTEGER NOT NULL DEFAULT 0 CHECK (input_charged >= 0),
    paid INTEGER CHECK (paid >= 0),
    price_source TEXT,
    payment INTEGER,
    balance INTEGER,
    tender_unit TEXT,
    tender_held INTEGER CHECK (tender_held >= 0),
    tender_input INTEGER CHECK (tender_input >= 0),
    tender_paid INTEGER CHECK (tender_paid >= 0),
    owed INTEGER CHECK (owed >= 0)
) STRICT;
CREATE TABLE IF NOT EXISTS attempts (
    hold_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    upstream TEXT NOT NULL,
    upstream_model TEXT NOT NULL,
    role TEXT NOT NULL,
    started_ms INTEGER NOT NULL,
    outcome TEXT,
    status INTEGER,
    input_tokens INTEGER,
    output_tokens INTEGER,
    cached_tokens INTEGER,
    cache_write_tokens INTEGER,
    cache_write_1h_tokens INTEGER,
    reasoning_tokens INTEGER,
    counted INTEGER,
    list_cost INTEGER,
    ended_ms INTEGER,
    partner TEXT,
    PRIMARY KEY (hold_id, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS accounts (
    id INTEGER PRIMARY KEY,
    book TEXT NOT NULL CHECK (book IN ('charged', 'list', 'msat', 'usdc')),
    name TEXT NOT NULL,
    UNIQUE (book, name)
) STRICT;
CREATE TABLE IF NOT EXISTS transfers (
    origin INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    debit INTEGER NOT NULL,
    credit INTEGER NOT NULL CHECK (credit <> debit),
    amount INTEGER NOT NULL CHECK (amount > 0),
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (origin, kind)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS days (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    team TEXT NOT NULL,
    user TEXT NOT NULL,
    key_id TEXT NOT NULL,
    model TEXT NOT NULL,
    requests INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    charged INTEGER NOT NULL,
    list INTEGER NOT NULL,
    charged_overage INTEGER NOT NULL,
    list_overage INTEGER NOT NULL,
    paid INTEGER NOT NULL DEFAULT 0,
    UNIQUE (at_ms, team, user, key_id, model)
) STRICT;
CREATE TABLE IF NOT EXISTS purses (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    scope TEXT NOT NULL,
    scope_id TEXT NOT NULL,
    wallet TEXT NOT NULL,
    granted INTEGER NOT NULL DEFAULT 0,
    spent INTEGER NOT NULL DEFAULT 0 CHECK (spent >= 0),
    held INTEGER NOT NULL DEFAULT 0 CHECK (held >= 0),
    overage INTEGER NOT NULL DEFAULT 0,
    folded INTEGER NOT NULL DEFAULT 0,
    folded_overage INTEGER NOT NULL DEFAULT 0,
    UNIQUE (scope, scope_id, wallet),
    CHECK (spent + held <= granted)
) STRICT;
CREATE TABLE IF NOT EXISTS grants (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    purse INTEGER NOT NULL,
    amount INTEGER NOT NULL CHECK (amount <> 0),
    note TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS grants_by_purse ON grants (purse);
CREATE TABLE IF NOT EXISTS partner_days (
    at_ms INTEGER NOT NULL,
    partner TEXT NOT NULL,
    upstream TEXT NOT NULL,
    requests INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    list INTEGER NOT NULL,
    charged INTEGER NOT NULL,
    revenue INTEGER NOT NULL,
    PRIMARY KEY (at_ms, partner, upstream)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS keys (
    digest BLOB PRIMARY KEY,
    id TEXT NOT NULL,
    hint TEXT NOT NULL,
    name TEXT NOT NULL,
    user TEXT NOT NULL,
    team TEXT NOT NULL,
    organisation TEXT NOT NULL,
    tier TEXT,
    caps TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER,
    rotated_ms INTEGER,
    revoked_ms INTEGER
) STRICT;
CREATE INDEX IF NOT EXISTS keys_by_id ON keys (id);
CREATE TABLE IF NOT EXISTS key_generation (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    generation INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO key_generation VALUES (1, 0);
"""
_FROM_1: Final = """
ALTER TABLE holds ADD COLUMN purse INTEGER;
ALTER TABLE holds ADD COLUMN input_charged INTEGER NOT NULL DEFAULT 0 CHECK (input_charged >= 0);
ALTER TABLE holds ADD COLUMN paid INTEGER CHECK (paid >= 0);
ALTER TABLE holds ADD COLUMN price_source TEXT;
ALTER TABLE attempts ADD COLUMN partner TEXT;
ALTER TABLE days ADD COLUMN paid INTEGER NOT NULL DEFAULT 0;
"""
_FROM_3: Final = """
ALTER TABLE holds ADD COLUMN owed INTEGER CHECK (owed >= 0);
"""
_NEW: Final = _TABLES + PAYMENT_TABLES
_MIGRATIONS: Final = {
    0: _NEW,
    1: _NEW + _FROM_1 + FROM_2 + _FROM_3,
    2: _NEW + FROM_2 + _FROM_3,
    3: _NEW + _FROM_3,
}
"""From a file's version to what brings it to `VERSION`."""


class SchemaTooNew(Exception):
    """The file was written by a newer Tollway."""


def connect(path: Path, *, create: bool = True) -> sqlite3.Connection:
    """A connection in autocommit mode, tables in place, usable from any one thread at a time.

    Raises SchemaTooNew, FileNotFoundError (`create=False` and no such file) and sqlite3.Error.
    """
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
        _make(path)
    elif not path.exists():
        raise FileNotFoundError(path)
    connection = sqlite3.connect(
        path,
        timeout=BUSY_MILLISECONDS_MAX / 1000,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=CACHED_STATEMENTS_MAX,
    )
    connection.execute("PRAGMA synchronous=NORMAL")
    _migrate(connection, path)
    return connection


def _make(path: Path) -> None:
    # Only ever a new file: POSIX drops all locks that this process has on a file when it closes any descriptor of
    # it. Without SQLite's lock the next process to leave takes itself for the last, and deletes the log in use.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    if _version(connection, path) == VERSION:
        return
    # SQLite does not wait for its lock while it changes the journal mode, so processes that start together do here;
    # whoever comes second finds the work done.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        version = _version(connection, path)
        if version < VERSION:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.executescript(f"BEGIN IMMEDIATE; {_MIGRATIONS[version]} PRAGMA user_version={VERSION}; COMMIT;")
    except sqlite3.Error:
        connection.close()
        raise
    finally:
        os.close(folder)


def _version(connection: sqlite3.Connection, path: Path) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > VERSION:
        connection.close()
        raise SchemaTooNew(f"{path} was written by a newer Tollway (schema {version}, this one knows {VERSION})")
    return version
