"""A SQLite file of its own beside the ledger's."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from proxy.ledger.boots import boots_folder
from proxy.state_file import FileTooNew, StateFile

TABLES = "CREATE TABLE notes (text TEXT NOT NULL) STRICT;"


def opened(folder: Path, *, version: int = 1) -> StateFile:
    return StateFile.open(folder / "state" / "notes.db", tables=TABLES, version=version)


def note(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO notes VALUES ('hello')")


def notes(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM notes").fetchone()[0])


async def test_file_is_its_owners_alone_and_outlives_the_process(tmp_path: Path) -> None:
    """Made at first sight, in a folder that need not be there yet."""
    file = opened(tmp_path)
    await file.write(note)
    await file.close()
    assert (file.path.stat().st_mode & 0o777, file.path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    again = opened(tmp_path)
    assert await again.read(notes) == 1
    await again.close()


async def test_work_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """A transaction is whole or not at all."""

    def broken(connection: sqlite3.Connection) -> None:
        note(connection)
        raise ValueError

    file = opened(tmp_path)
    with pytest.raises(ValueError, match=r"^$"):
        await file.write(broken)
    await file.write(note)
    assert await file.read(notes) == 1
    await file.close()


async def test_caller_that_is_cancelled_tears_no_transaction(tmp_path: Path) -> None:
    """What was begun is written."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> None:
        begun.set()
        go_on.wait(10)
        note(connection)

    file = opened(tmp_path)
    task = asyncio.get_running_loop().create_task(file.write(slow))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    assert await file.read(notes) == 1
    await file.close()


async def test_the_dead_are_told_from_the_living(tmp_path: Path) -> None:
    """By their locks; whoever closes leaves none behind."""
    one, other = opened(tmp_path), opened(tmp_path)
    assert one.dead([one.boot, other.boot, "never"]) == ["never"]
    (boots_folder(one.path) / "crashed").touch()
    assert one.dead([other.boot, "crashed"]) == ["crashed"]
    one.forget(["crashed", "never"])
    await other.close()
    assert one.dead([other.boot]) == [other.boot]
    await one.close()
    assert list(boots_folder(one.path).iterdir()) == []


async def test_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    """An older process must not guess."""
    await opened(tmp_path, version=2).close()
    with pytest.raises(FileTooNew, match="newer"):
        opened(tmp_path)


async def test_many_that_begin_at_once_agree_on_one_file(tmp_path: Path) -> None:
    """Each finds the tables made."""
    files = await asyncio.gather(*[asyncio.to_thread(opened, tmp_path) for _ in range(8)])
    for file in files:
        await file.write(note)
    assert await files[0].read(notes) == 8
    for file in files:
        await file.close()
