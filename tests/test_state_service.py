"""A file that is swept while it is open, and says so where it cannot be used."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from proxy.errors import Refusal
from proxy.state_service import SweptFile, reachable
from tests.support.fakes import Log


class Notes(SweptFile):
    """Counts its sweeps, and fails in them on demand."""

    def __init__(self, folder: Path, log: Log) -> None:
        tables = "CREATE TABLE IF NOT EXISTS notes (text TEXT) STRICT;"
        super().__init__(folder / "notes.db", tables=tables, version=1, what="Notes", log=log)
        self.swept = 0
        self.broken = False

    async def sweep(self) -> int:
        if self.broken:
            raise sqlite3.OperationalError("disk I/O error")
        self.swept += 1
        return await self._opened().write(lambda connection: connection.execute("DELETE FROM notes").rowcount)


async def test_it_is_swept_at_its_start_and_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep that fails is logged, and tried again."""
    monkeypatch.setattr("proxy.state_service.SWEEP_SECONDS", 0.001)
    log = Log()
    notes = Notes(tmp_path, log)
    await notes.start()
    assert notes.swept >= 1
    notes.broken = True

    async with asyncio.timeout(5):
        while "not_swept" not in log.names():
            await asyncio.sleep(0.001)
    notes.broken, before = False, notes.swept
    async with asyncio.timeout(5):
        while notes.swept == before:
            await asyncio.sleep(0.001)
    await notes.stop()


async def test_closed_file_is_refused_and_may_be_closed_again(tmp_path: Path) -> None:
    """By the name that people know it by."""
    notes = Notes(tmp_path, Log())
    with pytest.raises(Refusal, match="Notes cannot be reached"):
        notes._opened()
    await notes.start()
    await notes.stop()
    await notes.stop()
    with pytest.raises(Refusal, match="Notes cannot be reached"):
        notes._opened()


def test_work_that_the_file_cannot_do_is_refused() -> None:
    """Try again: nothing was lost."""
    with pytest.raises(Refusal) as refused, reachable("Notes"):
        raise sqlite3.OperationalError("database is locked")
    assert (refused.value.code, refused.value.retry_after_seconds) == ("overloaded", 1)
