"""A SQLite file of its own beside the ledger's, for what is large or private: one thread, whole transactions.

What is written is durable past a loss of power when `write` returns, and overwritten when it is deleted. Several
processes may share the file. Each holds a lock named after its boot id, so that what one had claimed when it died can
be told from what it still works on.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from proxy.ledger.boots import FileLock, boots_folder, claim, is_alive

BUSY_SECONDS_MAX: Final = 5.0
"""How long a statement waits for another process's write before it fails."""
BOOT_BYTES: Final = 8


class FileTooNew(Exception):
    """The file was written by a newer Tollway."""


class StateFile:
    """Open with `open`, from one event loop; `close` when nothing is written any more."""

    def __init__(self, path: Path, connection: sqlite3.Connection, boot: str, lock: FileLock) -> None:
        self.path = path
        self.boot = boot
        """Names this process among those that share the file; never used again."""
        self._connection = connection
        self._lock = lock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=path.stem)

    @classmethod
    def open(cls, path: Path, *, tables: str, version: int) -> StateFile:
        """Make the file and its tables at first sight. Raises FileTooNew, sqlite3.Error, OSError."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            # SQLite does not wait for its lock while it changes the journal mode.
            fcntl.flock(folder, fcntl.LOCK_EX)
            connection = _connect(path, tables, version)
        finally:
            os.close(folder)
        boot = secrets.token_hex(BOOT_BYTES)
        lock = claim(path, boot)
        if lock is None:
            connection.close()
            raise OSError(f"{boots_folder(path) / boot} is locked by another process")
        return cls(path, connection, boot, lock)

    async def read[T](self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` finds. Raises sqlite3.Error."""
        return await self._run(lambda: work(self._connection))

    async def write[T](self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in one transaction, whole or not at all; a caller that is cancelled does not stop it.

        Raises sqlite3.Error and what `work` raises.
        """
        return await self._run(lambda: self._transaction(work))

    async def overwrite(self) -> bool:
        """Empty the log, in which what was deleted still stands; False where another process reads just now.

        Raises sqlite3.Error.
        """

        def work(connection: sqlite3.Connection) -> bool:
            return bool(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)

        return await self._run(lambda: work(self._connection))

    def dead(self, boots: Iterable[str]) -> list[str]:
        """Those of other processes that live no more."""
        return [boot for boot in boots if boot != self.boot and not is_alive(self.path, boot)]

    def forget(self, boots: Iterable[str]) -> None:
        """Remove the lock files of dead processes."""
        for boot in boots:
            lock = FileLock.acquire(boots_folder(self.path) / boot, create=False)
            if lock is not None:
                lock.release(remove=True)

    async def close(self) -> None:
        """After all that was begun."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown()
        self._lock.release(remove=True)

    async def _run[T](self, work: Callable[[], T]) -> T:
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))

    def _transaction[T](self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._connection.execute("BEGIN IMMEDIATE")
        done = False
        try:
            result = work(self._connection)
            self._connection.execute("COMMIT")
            done = True
        finally:
            if not done and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        return result


def _connect(path: Path, tables: str, version: int) -> sqlite3.Connection:
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS_MAX, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=ON")
        found = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if found > version:
            raise FileTooNew(f"{path} was written by a newer Tollway (schema {found}, this one knows {version})")
        if found < version:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.executescript(f"BEGIN IMMEDIATE; {tables} PRAGMA user_version={version}; COMMIT;")
    except (sqlite3.Error, FileTooNew):
        connection.close()
        raise
    return connection
