"""The ledger in a SQLite file, shared by as many processes as open it."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from proxy.clock import Clock
from proxy.errors import Refusal
from proxy.ledger.alarms import AlarmMetrics, Alarms
from proxy.ledger.api import Attempt, Cap, CapState, Grant, Hold, HoldRequest, Purse, PurseState, Settlement
from proxy.ledger.audit import Finding, audit
from proxy.ledger.books import Books
from proxy.ledger.boots import FileLock, claim, sweeper_path
from proxy.ledger.checkpoints import Checkpointer
from proxy.ledger.checks import check_grant, check_request, is_possible, refused_grant
from proxy.ledger.errors import GrantConflict, GrantTooLarge, HoldNotOpen, LedgerClosed
from proxy.ledger.operations import (
    Dispatching,
    Flushing,
    Granting,
    Holding,
    Operation,
    Reading,
    ReadingPurses,
    Releasing,
    Settling,
)
from proxy.ledger.payment_api import StoredAnswer
from proxy.ledger.payment_checks import check_answer
from proxy.ledger.payment_operations import HoldingProof, Leasing, Unleasing, commits, releases, settles
from proxy.ledger.payment_store import PaymentStore
from proxy.ledger.prune import prune
from proxy.ledger.recovery import Recovered, recover
from proxy.ledger.schema import connect
from proxy.ledger.writer import Writer, unwritable

OPERATIONS_WAITING_MAX: Final = 10_000
"""Operations not yet durable; past it no hold is taken."""
SWEEP_SECONDS: Final = 10.0
CLOSE_SECONDS_MAX: Final = 2.0
"""How long `close` waits for answers that may still have to be undone; a file that cannot be written gives none."""
END_DELAY_SECONDS: Final = 0.005
"""How long an end, for which nobody waits, may lie before it is written without company."""


class BootTaken(Exception):
    """Another living process has opened the ledger under the same boot id."""


class SqliteLedger(PaymentStore):
    """`Ledger` and `PaymentLedger` in one file. All methods are for the event loop of the first await."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        books: Books,
        clock: Clock,
        log: Any,
        lock: FileLock,
        metrics: AlarmMetrics | None,
    ) -> None:
        self.path = path
        self.recovered = Recovered()
        """What was ended for dead processes, at open and since."""
        self.alarms = Alarms(log, metrics)
        self._connection = connection
        self._clock = clock
        self._log = log
        self._lock = lock
        self._books = books
        self._sweeper: FileLock | None = FileLock.acquire(sweeper_path(path))
        self._open = 0
        self._outbox: list[Operation] = []
        self._unanswered: dict[Operation, None] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._posting = False
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._checkpointer = Checkpointer(path)
        self._writer = Writer(
            connection,
            books,
            monotonic=clock.monotonic,
            delivered=self._wake,
            swept=self._sweep,
            committed=self._checkpointer.committed,
            ended=self._writer_ended,
            sweep_seconds=SWEEP_SECONDS,
        )

    @classmethod
    def open(
        cls, path: Path, clock: Clock, log: Any, *, boot_id: str | None = None, metrics: AlarmMetrics | None = None
    ) -> SqliteLedger:
        """Open or make the file, end the holds of dead processes, and start the writer.

        `boot_id` names this process among those that share the file and is never used again; random if None.
        Raises BootTaken, SchemaTooNew, sqlite3.Error.
        """
        connection = connect(path)
        connection.execute("PRAGMA wal_autocheckpoint=0")
        books = Books(connection)
        recovered = recover(connection, books, path, clock.now_ms())
        boot = boot_id or secrets.token_hex(8)
        lock = claim(path, boot)
        if lock is None:
            connection.close()
            raise BootTaken(f"another process has opened {path} as boot '{boot}'")
        row = connection.execute(
            "INSERT INTO boots (boot, first_hold) VALUES (?, (SELECT coalesce(max(id), 0) + 1 FROM holds))", (boot,)
        )
        books.boot = int(row.lastrowid or 0)
        ledger = cls(path, connection, books, clock, log, lock, metrics)
        ledger.recovered = recovered
        if recovered.boots:
            log.warning("ledger_recovered", **_counts(recovered))
        ledger._checkpointer.start()
        ledger._writer.start()
        return ledger

    # -- the contract

    async def hold(self, request: HoldRequest) -> Hold:
        """See `Ledger.hold`. Raises DuplicateHold, too, and Refusal `overloaded` or `unbounded_cost`."""
        if len(self._unanswered) >= OPERATIONS_WAITING_MAX:
            raise Refusal("overloaded", "The ledger is behind. Try again in a second.", retry_after_seconds=1)
        check_request(request)
        future: asyncio.Future[Hold] = asyncio.get_running_loop().create_future()
        paid = request.tender is not None and request.tender.proof is not None
        self._submit((HoldingProof if paid else Holding)(request, future))
        try:
            return await future
        except asyncio.CancelledError:
            # Cancelled after the hold was made but before the caller could have it: nobody else can end it.
            if future.done() and not future.cancelled() and future.exception() is None:
                self._give_up(future.result())
            raise

    async def dispatch(
        self, hold: Hold, *, upstream: str, upstream_model: str, role: str = "answer", partner: str | None = None
    ) -> Attempt:
        """See `Ledger.dispatch`. Raises HoldNotOpen."""
        if hold.ended:
            raise HoldNotOpen(f"hold {hold.id} has ended already")
        hold.attempts += 1
        attempt = Attempt(hold.id, hold.attempts, upstream, upstream_model, role, partner)
        future: asyncio.Future[Attempt] = asyncio.get_running_loop().create_future()
        self._submit(Dispatching(attempt, self._clock.now_ms(), future))
        return await future

    async def commit(self, hold: Hold, answer: StoredAnswer | None = None) -> None:
        """See `Ledger.commit`. Survives the loss of power, but for a balance's. Raises HoldNotOpen, too."""
        if hold.ended:
            raise HoldNotOpen(f"hold {hold.id} has ended already")
        if answer is not None:
            check_answer(answer)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._submit(commits(hold)(hold, answer, self._clock.now_ms(), future))
        await future

    def settle(self, hold: Hold, settlement: Settlement) -> None:
        """See `Ledger.settle`. Never raises."""
        if self._may_end(hold, "settle"):
            self._enqueue_end(settles(hold)(hold, self._checked(hold, settlement)))

    def release(self, hold: Hold, *, reason: str, at_ms: int) -> None:
        """See `Ledger.release`. Never raises."""
        if self._may_end(hold, "release"):
            self._enqueue_end(releases(hold)(hold, reason, at_ms))

    async def cap_states(self, caps: tuple[Cap, ...]) -> tuple[CapState, ...]:
        """See `Ledger.cap_states`."""
        future: asyncio.Future[tuple[CapState, ...]] = asyncio.get_running_loop().create_future()
        self._submit(Reading(caps, future))
        return await future

    async def grant(self, grant: Grant) -> PurseState:
        """See `Ledger.grant`. Raises Refusal `invalid_request`, too, for an impossible amount, id or note."""
        check_grant(grant)
        future: asyncio.Future[tuple[PurseState, bool]] = asyncio.get_running_loop().create_future()
        self._submit(Granting(grant, future))
        try:
            state, _ = await future
        except (GrantConflict, GrantTooLarge) as error:
            raise refused_grant(error) from error
        return state

    async def purse_states(self, purses: tuple[Purse, ...]) -> tuple[PurseState, ...]:
        """See `Ledger.purse_states`."""
        future: asyncio.Future[tuple[PurseState, ...]] = asyncio.get_running_loop().create_future()
        self._submit(ReadingPurses(purses, future))
        return await future

    async def flush(self) -> None:
        """See `Ledger.flush`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._submit(Flushing(future))
        await future

    async def audit(self) -> list[Finding]:
        """What does not hold in the books, as they are after everything enqueued before; empty when clean."""
        await self.flush()
        return await asyncio.to_thread(self._audit)

    async def prune(self, before_ms: int, zone: ZoneInfo) -> int:
        """Fold what ended and was begun before `before_ms` into days; says how many holds. See `ledger.prune`."""
        return await asyncio.to_thread(self._prune, before_ms, zone)

    async def close(self) -> None:
        """Flush, end the writer and let go of the file. Holds still open are left to the next start."""
        if self._closed:
            return
        await self._answer_all()
        self._closed = True
        self._post()
        self._writer.close()
        await asyncio.to_thread(self._join)
        if self._open:
            self._log.error("ledger_closed_with_open_holds", holds=self._open)
        leases = self._books.payments.table.leased_by(self._books.boot)
        if leases:
            self._log.error("ledger_closed_with_leases", payments=leases)
        done = not self._open and not leases
        if done:
            self._connection.execute("DELETE FROM boots WHERE id=?", (self._books.boot,))
        self._connection.close()
        self._lock.release(remove=done)
        if self._sweeper is not None:
            self._sweeper.release()

    async def _answer_all(self) -> None:
        # A hold whose owner was cancelled meanwhile is released when its answer comes: that must not be too late.
        try:
            async with asyncio.timeout(CLOSE_SECONDS_MAX):
                while self._unanswered:
                    await self.flush()
        except (TimeoutError, LedgerClosed, Refusal) as error:
            self._log.error("ledger_close_incomplete", reason=type(error).__name__, waiting=len(self._unanswered))

    def _audit(self) -> list[Finding]:
        with closing(connect(self.path, create=False)) as connection:
            return audit(connection, self.path)

    def _prune(self, before_ms: int, zone: ZoneInfo) -> int:
        with closing(connect(self.path, create=False)) as connection:
            return prune(connection, before_ms=before_ms, zone=zone)

    def _join(self) -> None:
        self._writer.join()
        self._checkpointer.stop()

    # -- the queue

    def _submit(self, operation: Operation) -> None:
        if self._closed:
            raise LedgerClosed("the ledger is closed")
        self._unanswered[operation] = None
        self._outbox.append(operation)
        if self._posting:
            return
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        # What one turn of the loop asks for is one handover: fewer wakes of the writer, larger batches. An end
        # goes with the next operation that somebody waits for.
        if operation.future is not None:
            self._posting = True
            self._loop.call_soon(self._post)
        elif self._timer is None:
            self._timer = self._loop.call_later(END_DELAY_SECONDS, self._post)

    def _post(self) -> None:
        self._posting = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._outbox:
            self._writer.put(self._outbox)
            self._outbox = []

    def _wake(self, batch: list[Operation]) -> None:
        try:
            if batch and self._loop is not None:
                self._loop.call_soon_threadsafe(self._answer, batch)
        except RuntimeError:
            self._log.error("ledger_loop_closed", operations=len(batch))

    def _answer(self, batch: list[Operation]) -> None:
        for operation in batch:
            self._unanswered.pop(operation, None)
            future = operation.future
            if future is None:
                self._note_end(operation)
            elif operation.error is not None:
                if not future.cancelled():
                    future.set_exception(operation.error)
            else:
                if isinstance(operation, Holding):
                    self._open += 1
                    if future.cancelled():
                        self._give_up(operation.result)
                elif isinstance(operation, Leasing) and future.cancelled():
                    self._abandon(operation.result)
                if not future.cancelled():
                    future.set_result(operation.result)

    # -- ends

    def _give_up(self, hold: Hold) -> None:
        # Nobody has it, so nobody has asked for its money either.
        if hold.lease is not None:
            hold.lease.asked = False
        self.release(hold, reason="abandoned", at_ms=self._clock.now_ms())

    def _may_end(self, hold: Hold, how: str) -> bool:
        if hold.ended:
            self.alarms.double_end(hold, how)
            return False
        hold.ended = True
        return True

    def _enqueue_end(self, operation: Settling | Releasing) -> None:
        if self._closed:
            self.alarms.lost_end(operation.hold, "the ledger was closed before")
            return
        self._submit(operation)

    def _note_end(self, operation: Operation) -> None:
        if isinstance(operation, Unleasing) and operation.error is not None:
            self._log.error("ledger_unlease_lost", payment=operation.lease.id, error=str(operation.error))
        if not isinstance(operation, Settling | Releasing):
            return
        hold = operation.hold
        if isinstance(operation.error, HoldNotOpen):
            self.alarms.double_end(hold, "recovered")
        elif operation.error is not None:
            self.alarms.lost_end(hold, str(operation.error))
        else:
            self._open -= 1
            if isinstance(operation, Settling) and operation.result:
                self.alarms.overage(hold, operation.settlement)

    def _checked(self, hold: Hold, settlement: Settlement) -> Settlement:
        if is_possible(settlement):
            return settlement
        self.alarms.invalid_amount(hold, settlement)
        request = hold.request
        tendered = 0 if request.tender is None else request.tender.amount
        return Settlement(request.charged, request.list, (), "invalid_amount", settlement.at_ms, tendered=tendered)

    # -- on the writer's thread

    def _sweep(self) -> None:
        if self._sweeper is None:
            self._sweeper = FileLock.acquire(sweeper_path(self.path))
        if self._sweeper is None:
            return
        try:
            recovered = recover(self._connection, self._books, self.path, self._clock.now_ms())
        except sqlite3.OperationalError as error:
            self._log.error("ledger_sweep_failed", error=str(error))
            return
        if recovered.boots:
            self.recovered += recovered
            self._log.warning("ledger_recovered", **_counts(recovered))

    def _writer_ended(self) -> None:
        if not self._closed and self._loop is not None:
            self._closed = True
            self._loop.call_soon_threadsafe(self._fail_all)

    def _fail_all(self) -> None:
        # The writer died of a fault of ours: nobody may wait for it, and nothing may be served without it.
        self._log.error("ledger_writer_failed", waiting=len(self._unanswered))
        for operation in list(self._unanswered):
            operation.error = unwritable(LedgerClosed("the ledger's writer has failed"))
        self._answer(list(self._unanswered))


def _counts(recovered: Recovered) -> dict[str, int]:
    return {
        "boots": recovered.boots,
        "released": recovered.released,
        "dispatched": recovered.dispatched,
        "committed": recovered.committed,
        "payments_unknown": recovered.unknown,
        "payments_freed": recovered.freed,
    }
