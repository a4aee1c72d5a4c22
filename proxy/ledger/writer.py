"""The one thread that writes: many exchanges' operations in one transaction, woken once per batch."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

from proxy.errors import Refusal
from proxy.ledger.api import CapExceeded
from proxy.ledger.books import Books, LedgerError, StaleCounters
from proxy.ledger.operations import Durability, Operation

BATCH_OPERATIONS_MAX: Final = 256
RETRY_SECONDS: Final = 0.5
"""Pause before ends that could not be written (disk full, file locked) are tried again."""
CLOSE_RETRY_COUNT_MAX: Final = 5
STALE_RETRY_COUNT_MAX: Final = 3
_UNWRITABLE: Final = (sqlite3.Error, OverflowError, ValueError)


class Writer(threading.Thread):
    """Takes lists of operations from a queue. All three callbacks are called on this thread.

    `delivered` gets each batch after its commit; `swept` is called every `sweep_seconds` or so when there is
    nothing to write; `ended` once, however the thread ends.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        books: Books,
        *,
        delivered: Callable[[list[Operation]], None],
        swept: Callable[[], None],
        ended: Callable[[], None],
        sweep_seconds: float,
    ) -> None:
        super().__init__(name="ledger-writer", daemon=True)
        self._connection = connection
        self._books = books
        self._delivered = delivered
        self._swept = swept
        self._ended = ended
        self._sweep_seconds = sweep_seconds
        self._queue: SimpleQueue[list[Operation] | None] = SimpleQueue()
        self._closing = threading.Event()
        self._pause = threading.Event()
        self._durability = Durability.NORMAL

    def put(self, operations: list[Operation]) -> None:
        """Hand over operations; they are written in this order."""
        self._queue.put(operations)

    def close(self) -> None:
        """Write what was handed over so far, then end the thread."""
        self._closing.set()
        self._queue.put(None)

    def run(self) -> None:
        """Until `close`, or a fault of ours: then `ended` fails what waits, so nobody waits for ever."""
        try:
            stopping = False
            while not stopping:
                batch, stopping = self._collect()
                if batch:
                    self._write(batch)
                    self._delivered(batch)
                elif not stopping:
                    self._swept()
        finally:
            self._ended()

    def _collect(self) -> tuple[list[Operation], bool]:
        try:
            batch = self._queue.get(timeout=self._sweep_seconds)
        except Empty:
            return [], False
        if batch is None:
            return [], True
        while len(batch) < BATCH_OPERATIONS_MAX:
            try:
                more = self._queue.get_nowait()
            except Empty:
                break
            if more is None:
                return batch, True
            batch.extend(more)
        return batch, False

    def _write(self, batch: list[Operation]) -> None:
        for _ in range(STALE_RETRY_COUNT_MAX):
            try:
                self._transact(batch)
                return
            except StaleCounters:
                self._books.rollback()
            except sqlite3.OperationalError as error:
                self._books.rollback()
                self._refuse(batch, error)
                return
            except _UNWRITABLE:
                self._books.rollback()
                self._write_singly(batch)
                return
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
            except (CapExceeded, LedgerError) as error:
                operation.error = error
        books.commit()

    def _refuse(self, batch: list[Operation], error: sqlite3.OperationalError) -> None:
        # Holds are refused at once; ends are tried until they are written or the process closes.
        ends = []
        for operation in batch:
            if operation.refusable:
                operation.error = unwritable(error)
            else:
                ends.append(operation)
        tries_left = CLOSE_RETRY_COUNT_MAX
        while ends and tries_left:
            self._pause.wait(RETRY_SECONDS)
            if self._closing.is_set():
                tries_left -= 1
            try:
                self._transact(ends)
                return
            except sqlite3.OperationalError as again:
                error = again
                self._books.rollback()
            except _UNWRITABLE:
                self._books.rollback()
                self._write_singly(ends)
                return
        for operation in ends:
            operation.error = error

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


def unwritable(error: Exception) -> Refusal:
    """The answer while the file cannot be written."""
    return Refusal(
        "overloaded",
        "The ledger cannot be written at the moment, so nothing was forwarded. Try again shortly.",
        retry_after_seconds=2,
        details={"reason": type(error).__name__},
    )
