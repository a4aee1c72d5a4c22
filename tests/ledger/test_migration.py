"""A file of an older version becomes one of this version, with all that it held."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from proxy.ledger.payment_api import Receipt
from proxy.ledger.schema import VERSION, connect
from tests.ledger.making import (
    PURSE,
    bought,
    cap,
    dispatched,
    drawing,
    funded,
    opened,
    paying,
    put_in,
    report,
    rows,
    settlement,
    unsettled,
)

ROOT = Path(__file__).parents[2]
VERSION_1 = (Path(__file__).parent / "version_1.sql").read_text()
"""The tables of version 1 as that version made them, with a day's business: two holds settled (one above its hold),
one released, one dispatched by a process that died, a pruned day, a key."""
VERSION_2 = (Path(__file__).parent / "version_2.sql").read_text()
"""Likewise of version 2: a purse, three holds that it paid for (one above its hold, one in part), one released, one
dispatched by a process that died, a pruned day, a partner's."""
VERSION_3 = (Path(__file__).parent / "version_3.sql").read_text()
"""Likewise of version 3: a purse, three holds that it paid for, one released, one dispatched by a process that died."""


def made(path: Path, script: str) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(script)
    return path


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return made(tmp_path / "tollway.db", VERSION_1)


@pytest.fixture(params=[VERSION_1, VERSION_2, VERSION_3], ids=["version_1", "version_2", "version_3"])
def any_old(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return made(tmp_path / "tollway.db", request.param)


async def test_all_that_was_there_is_there_and_proved(old: Path) -> None:
    """Holds, sums, keys and reports; what the dead process left is recovered."""
    before = report_of(old)
    with closing(connect(old)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert [(row.group, row.requests, row.charged) for row in report(old, "team")] == [before]
    ledger = opened(old)
    assert ledger.recovered.dispatched == 1
    assert await ledger.audit() == []
    assert rows(old, "SELECT key_id, keys.user FROM holds JOIN keys ON keys.id = key_id LIMIT 1") == [("key_1", "ann")]
    await ledger.close()


def report_of(path: Path) -> tuple[str, int, int]:
    """By hand, as version 1 reported."""
    with closing(sqlite3.connect(path)) as connection:
        held = connection.execute("SELECT count(*), sum(charged) FROM holds WHERE state = 3").fetchone()
        days = connection.execute("SELECT sum(requests), sum(charged) FROM days").fetchone()
    return "red", held[0] + days[0], held[1] + days[1]


async def test_a_migrated_file_takes_purses_and_partners(old: Path) -> None:
    """The new columns and tables work beside the old rows."""
    ledger = opened(old)
    await put_in(ledger, 1000)
    hold, attempt = await dispatched(ledger, paying(100, cap(10**6)), partner="gpu-coop")
    ledger.settle(hold, settlement(60, attempt))
    (state,) = await ledger.purse_states((PURSE,))
    assert state.left == 940
    assert await ledger.audit() == []
    await ledger.close()


async def test_a_file_of_version_2_keeps_its_purses_and_accounts(tmp_path: Path) -> None:
    """What the dead process left is paid by the purse; the accounts that were made anew are the same."""
    path = made(tmp_path / "tollway.db", VERSION_2)
    with closing(sqlite3.connect(path)) as connection:
        accounts = connection.execute("SELECT * FROM accounts ORDER BY id").fetchall()
    ledger = opened(path)
    assert ledger.recovered.dispatched == 1
    assert rows(path, "SELECT * FROM accounts ORDER BY id")[: len(accounts)] == accounts
    (state,) = await ledger.purse_states((PURSE,))
    assert (state.granted, state.spent, state.held) == (1000, 270, 0)
    assert await ledger.audit() == []
    await ledger.close()


async def test_a_migrated_file_takes_payments_and_balances(any_old: Path) -> None:
    """Holds with tenders beside old ones, in books of both units."""
    ledger = opened(any_old)
    digest = await funded(ledger, 50_000)
    hold, attempt = await dispatched(ledger, drawing(digest, 30_000))
    ledger.settle(hold, settlement(60, attempt, tendered=7_000))
    hold, attempt = await dispatched(ledger, bought(unsettled()))
    assert hold.lease is not None
    await ledger.payment_settled(hold.lease, Receipt(1_000))
    await ledger.commit(hold)
    ledger.settle(hold, settlement(60, attempt))
    assert await ledger.audit() == []
    assert rows(any_old, "SELECT DISTINCT book FROM accounts ORDER BY 1") == [
        ("charged",),
        ("list",),
        ("msat",),
        ("usdc",),
    ]
    await ledger.close()


def test_a_migrated_file_has_the_tables_of_a_new_one(any_old: Path, tmp_path: Path) -> None:
    """Same tables, same columns, same indexes, whichever way a file came to be."""
    new = tmp_path / "new" / "tollway.db"
    shapes = []
    indexes = []
    for path in (any_old, new):
        with closing(connect(path)) as connection:
            found = connection.execute("SELECT name, tbl_name, sql FROM sqlite_schema WHERE type = 'index'")
            indexes.append(set(found.fetchall()))
        with closing(connect(path)) as connection:
            tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
            shapes.append(
                {
                    table: {tuple(column[1:5]) for column in connection.execute(f"PRAGMA table_info({table})")}
                    for table in tables
                }
            )
    assert shapes[0] == shapes[1]
    assert indexes[0] == indexes[1]


def test_processes_that_start_together_migrate_once(any_old: Path) -> None:
    """Whoever comes first changes the tables; the others find them changed."""
    program = (
        "import sys; from pathlib import Path; from proxy.ledger.schema import connect; connect(Path(sys.argv[1]))"
    )
    started = [subprocess.Popen([sys.executable, "-c", program, str(any_old)], cwd=ROOT) for _ in range(4)]
    assert [process.wait(60) for process in started] == [0] * 4
    assert rows(any_old, "SELECT count(*) FROM balances") == [(0,)]


def test_a_migration_that_fails_leaves_the_old_file(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it or nothing: the next start tries again."""
    monkeypatch.setattr("proxy.ledger.schema._MIGRATIONS", {1: "ALTER TABLE holds ADD COLUMN purse; ALTER TABLE no;"})
    with pytest.raises(sqlite3.Error):
        connect(old)
    monkeypatch.undo()
    with closing(connect(old)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
        assert connection.execute("SELECT count(*) FROM holds WHERE purse IS NULL").fetchone() == (4,)
