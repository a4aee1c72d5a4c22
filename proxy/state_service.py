"""What services with a file of their own share: it is open or it is not, and now and then it is swept."""

from __future__ import annotations

import asyncio
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from proxy.errors import Refusal
from proxy.state_file import StateFile

SWEEP_SECONDS: Final = 300.0
SWEPT_AT_ONCE_MAX: Final = 200
RETRY_SECONDS: Final = 1


def unreachable(what: str) -> Refusal:
    """`overloaded`, for a file that is not open or cannot be used. `what` is a plural: 'Batches'."""
    return Refusal("overloaded", f"{what} cannot be reached. Try again.", retry_after_seconds=RETRY_SECONDS)


@contextmanager
def reachable(what: str) -> Iterator[None]:
    """Around work on the file. Raises Refusal `overloaded` where SQLite cannot do it."""
    try:
        yield
    except sqlite3.Error as error:
        raise unreachable(what) from error


class SweptFile(ABC):
    """A file that is opened at start, swept from then on, and closed at the end. From one event loop."""

    def __init__(self, path: Path, *, tables: str, version: int, what: str, log: Any) -> None:
        self._path = path
        self._tables = tables
        self._version = version
        self._what = what
        self._log = log
        self._file: StateFile | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the file, and sweep it at once. Raises FileTooNew, sqlite3.Error, OSError."""
        self._file = StateFile.open(self._path, tables=self._tables, version=self._version)
        await self.sweep()
        self._sweeper = asyncio.get_running_loop().create_task(self._sweeping(), name=f"{self._path.stem}-sweep")

    async def stop(self) -> None:
        """After the last exchange."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.wait({self._sweeper})
            self._sweeper = None
        if self._file is not None:
            await self._file.close()
            self._file = None

    @abstractmethod
    async def sweep(self) -> int:
        """Forget what is over; says how much. Raises sqlite3.Error."""

    def _opened(self) -> StateFile:
        """Raises Refusal `overloaded`."""
        if self._file is None:
            raise unreachable(self._what)
        return self._file

    async def _sweeping(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self.sweep()
            except sqlite3.Error as error:
                self._log.warning("not_swept", file=self._path.name, reason=type(error).__name__)
