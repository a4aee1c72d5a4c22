"""The one thread that writes: many exchanges' operations in one transaction, woken once per batch."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

from proxy.errors import Refusal
from proxy.ledger.api import CapExceeded, PurseExceeded
from proxy.ledger.books import Books
from proxy.ledger.errors import LedgerError, StaleCounters
from proxy.ledger.operations import Durability, Operation

BATCH_OPERATIONS_MAX: Final = 256
RETRY_SECONDS: Final = 0.5
"""Pause before ends that could not be written (disk full, file locked) are tried again."""
CLOSE_RETRY_COUNT_MAX: Final = 5
STALE_RETRY_COUNT_MAX: Final = 3
_UNWRITABLE: Final = (sqlite3.Error, OverflowError, ValueError)


class Writer(threading.Thread):
    """Takes lists of operations from a queue. All callbacks are called on this thread.

    `delivered` gets operations that were written, or failed for good; `committed` is called after that;
    `swept` every `sweep_seconds` or so; `ended` once, however the thread ends.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        books: Books,
        *,
        monotonic: Callable[[], float],
        delivered: Callable[[list[Operation]], None],
        committed: Callable[[sqlite3.Connection], None],
        swept: Callable[[], None],
        ended: Callable[[], None],
        sweep_seconds: float,
    ) -> None:
        super().__init__(name="ledger-writer", daemon=True)
        self._connection = connection
        self._books = books
        self._monotonic = monotonic
        self._delivered = delivered
        self._committed = committed
        self._swept = swept
        self._ended = ended
        self._sweep_seconds = sweep_seconds
        self._next_sweep = monotonic() + sweep_seconds
        self._queue: SimpleQueue[list[Operation] | None] = SimpleQueue()
        self._stopping = False
        self._unwritten: list[Operation] = []
        self._pause = threading.Event()
        self._durability = Durability.NORMAL

    def put(self, operations: list[Operation]) -> None:
        """Hand over operations; they are written in this order."""
        self._queue.put(operations)

    def close(self) -> None:
        """Write what was handed over so far, then end the thread."""
        self._queue.put(None)

    def run(self) -> None:
        """Until `close`, or a fault of ours: `ended` then fails what waits, so that nobody waits for ever."""
        tries_left = CLOSE_RETRY_COUNT_MAX
        try:
            while not self._stopping or (self._unwritten and tries_left):
                if self._stopping:
                    tries_left -= 1
                batch = self._collect()
                if batch:
                    self._write(batch)
                    self._committed(self._connection)
                if not self._stopping and (not batch or self._monotonic() >= self._next_sweep):
                    self._next_sweep = self._monotonic() + self._sweep_seconds
                    self._swept()
            self._delivered(self._unwritten)
        finally:
            self._ended()

    def _collect(self) -> list[Operation]:
        # What could not be written comes first again, with whatever has arrived meanwhile.
        batch, self._unwritten = self._unwritten, []
        if self._stopping:
            self._pause.wait(RETRY_SECONDS)
            return batch
        try:
            more = self._queue.get(timeout=RETRY_SECONDS if batch else self._sweep_seconds)
            while more is not None:
                batch += more
                if len(batch) >= BATCH_OPERATIONS_MAX:
                    return batch
                more = self._queue.get_nowait()
            self._stopping = True
        except Empty:
            return batch
        return batch

    def _write(self, batch: list[Operation]) -> None:
        for _ in range(STALE_RETRY_COUNT_MAX):
            try:
                self._transact(batch)
            except StaleCounters:
                self._books.rollback()
            except sqlite3.OperationalError as error:
                self._books.rollback()
                self._refuse(batch, error)
                return
            except _UNWRITABLE:
                break
            else:
                self._delivered(batch)
                return
        self._books.rollback()
        self._write_singly(batch)

    def _transact(self, batch: list[Operation]) -> None:
        durability = max([operation.durability for operation in batch])
        if durability is not self._durability:
            self._connection.execute(f"PRAGMA synchronous={durability.name}")
            self._durability = durability
        books = self._books
        books.begin()
        for operation in batch:
            try:
                operation.error = None
                operation.apply(books)
            except (CapExceeded, PurseExceeded, LedgerError) as error:
                operation.error = error
        books.commit()

    def _refuse(self, batch: list[Operation], error: sqlite3.OperationalError) -> None:
        # Nobody waits for a file that cannot be written, but an end is kept until it is.
        refused = []
        for operation in batch:
            operation.error = error
            if operation.refusable:
                operation.error = unwritable(error)
                refused.append(operation)
            else:
                self._unwritten.append(operation)
        self._delivered(refused)

    def _write_singly(self, batch: list[Operation]) -> None:
        # One operation that can never be written must not take the others with it.
        for operation in batch:
            try:
                self._transact([operation])
            except sqlite3.OperationalError as error:
                self._books.rollback()
                self._refuse([operation], error)
            except _UNWRITABLE as error:
                self._books.rollback()
                operation.error = error
                self._delivered([operation])
            else:
                self._delivered([operation])


def unwritable(error: Exception) -> Refusal:
    """The answer while the file cannot be written."""
    return Refusal(
        "overloaded",
        "The ledger cannot be written at the moment, so nothing was forwarded. Try again shortly.",
        retry_after_seconds=2,
        details={"reason": type(error).__name__},
    )
