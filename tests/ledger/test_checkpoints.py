"""The write-ahead log is copied back and used again; the writer never waits for it."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from proxy.ledger import checkpoints
from tests.ledger.making import cap, dispatched, opened, request, settlement


async def test_the_log_is_copied_back_beside_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written reaches the file itself while the ledger is open."""
    monkeypatch.setattr(checkpoints, "COMMITS_PER_CHECKPOINT", 5)
    monkeypatch.setattr(checkpoints, "LOG_PAGES_MAX", 20)
    path, copy = tmp_path / "tollway.db", tmp_path / "copy.db"
    ledger = opened(path)
    for _ in range(20):
        hold, attempt = await dispatched(ledger, request(100, cap(100_000)))
        ledger.settle(hold, settlement(70, attempt))
        await ledger.flush()
    async with asyncio.timeout(20):
        while not copied(path, copy):
            await ledger.cap_states((cap(100_000),))
    assert await ledger.audit() == []
    await ledger.close()


def copied(path: Path, copy: Path) -> bool:
    """Whether the file holds exchanges without its log."""
    shutil.copy(path, copy)
    with closing(sqlite3.connect(copy)) as connection:
        try:
            return bool(connection.execute("SELECT count(*) FROM holds").fetchone()[0])
        except sqlite3.DatabaseError:
            # Copied in the middle of a checkpoint.
            return False


async def test_a_closed_ledger_leaves_one_whole_file(tmp_path: Path) -> None:
    """The last one out copies everything back: the file alone is the ledger."""
    path = tmp_path / "tollway.db"
    ledger = opened(path)
    await ledger.hold(request(100, cap(1000)))
    await ledger.close()
    assert not path.with_name("tollway.db-wal").exists()
    moved = path.rename(tmp_path / "moved.db")
    again = opened(moved)
    (state,) = await again.cap_states((cap(1000),))
    assert state.held + state.spent in (0, 100)
    assert again.recovered.released == 1
    await again.close()
