"""Copies the write-ahead log back into the file beside the writer, so that no exchange waits for the disk.

SQLite would do it within a commit, which then waits for two syncs of the disk. A passive checkpoint on a
connection of its own lets the writer go on; but the log starts again from its beginning only when one has
caught up with it, so past `LOG_PAGES_MAX` the writer itself does the rest, which is short by then.
"""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Final

from proxy.ledger.schema import connect

COMMITS_PER_CHECKPOINT: Final = 500
LOG_PAGES_MAX: Final = 16_000
"""64 MiB of log, at which the writer helps."""
JOIN_SECONDS_MAX: Final = 30.0


class Checkpointer(threading.Thread):
    """One thread; `committed` is called by the writer after each commit."""

    def __init__(self, path: Path) -> None:
        super().__init__(name="ledger-checkpoints", daemon=True)
        self._connection = connect(path)
        self._due = threading.Event()
        self._stopping = False
        self._commits = 0
        self._behind = False

    def committed(self, connection: sqlite3.Connection) -> None:
        """Count a commit; `connection` is the writer's, outside any transaction."""
        self._commits += 1
        if self._behind:
            self._behind = False
            self._checkpoint(connection)
        if self._commits >= COMMITS_PER_CHECKPOINT:
            self._commits = 0
            self._due.set()

    def run(self) -> None:
        """Until `stop`. A checkpoint that fails is made up for by the next one."""
        while True:
            self._due.wait()
            self._due.clear()
            if self._stopping:
                return
            self._behind = self._checkpoint(self._connection) > LOG_PAGES_MAX

    @staticmethod
    def _checkpoint(connection: sqlite3.Connection) -> int:
        # Says how long the log is, in pages. On a full disk nothing is copied and the log goes on growing.
        try:
            return int(connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1])
        except sqlite3.OperationalError:
            return 0

    def stop(self) -> None:
        """End the thread, then let go of the file."""
        self._stopping = True
        self._due.set()
        self.join(JOIN_SECONDS_MAX)
        self._connection.close()
