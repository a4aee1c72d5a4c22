"""Owns payments of which nobody knows what came of them, and lets what is too old expire."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any, Final

from proxy.clock import Clock
from proxy.errors import Refusal
from proxy.ledger.errors import LedgerError
from proxy.ledger.payment_api import Lease, PaymentLedger
from proxy.payments.api import Doubtful, Outcome
from proxy.payments.collection import record

if TYPE_CHECKING:
    from proxy.payments.rails import Rails

ROUND_SECONDS: Final = 5.0
ASKED_AT_ONCE_MAX: Final = 8
IDLE_MS: Final = 15_000
"""One that was asked about is left alone so long."""
ASKED_SECONDS_MAX: Final = 60.0
"""So long one may take to be asked about; what is cut then is asked about again."""
EXPIRE_SECONDS: Final = 300.0
"""Between two looks for what is too old: an answer is kept in clear, and for no longer than it need be."""


class Reconciler:
    """One task of the process; the ledger gives each payment to one process at a time."""

    def __init__(self, rails: Rails, ledger: PaymentLedger, clock: Clock, log: Any) -> None:
        self._rails = rails
        self._ledger = ledger
        self._clock = clock
        self._log = log
        self._task: asyncio.Task[None] | None = None
        self._expire_at = 0.0

    def start(self) -> None:
        """Begin, at once: a process that died may have left something."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="reconcile")

    async def stop(self) -> None:
        """What is being asked is given up; whoever starts next asks again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        while True:
            try:
                await self.round()
            except (LedgerError, Refusal, sqlite3.Error, ValueError) as error:
                self._log.error("reconcile_failed", error=str(error))
            await asyncio.sleep(ROUND_SECONDS)

    async def round(self) -> int:
        """Ask about what is unknown; says how many were asked about."""
        leases = await self._ledger.unknown_payments(count_max=ASKED_AT_ONCE_MAX, idle_ms=IDLE_MS)
        asked = await asyncio.gather(*[self._reconcile(lease) for lease in leases], return_exceptions=True)
        for lease, fault in zip(leases, asked, strict=True):
            if fault is not None:
                self._log.error("reconcile_failed", payment=lease.id, rail=lease.proof.rail, exc_info=fault)
        if self._clock.monotonic() >= self._expire_at:
            self._expire_at = self._clock.monotonic() + EXPIRE_SECONDS
            await self._expire()
        return len(leases)

    async def _reconcile(self, lease: Lease) -> None:
        rail = self._rails.proving(lease.proof.rail)
        if rail is None:
            self._log.warning("payment_of_rail_that_is_off", payment=lease.id, rail=lease.proof.rail)
            return
        outcome: Outcome = Doubtful("it took too long to tell")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ASKED_SECONDS_MAX):
                outcome = await rail.reconcile(lease)
        if isinstance(outcome, Doubtful):
            self._log.info("payment_still_unknown", payment=lease.id, rail=lease.proof.rail, reason=outcome.reason)
            return
        await record(self._ledger, lease, outcome, self._log)
        self._log.info("payment_reconciled", payment=lease.id, rail=lease.proof.rail, outcome=type(outcome).__name__)

    async def _expire(self) -> None:
        now = self._clock.now_ms()
        ended = await self._ledger.expire_payments(now)
        await self._ledger.prune_answers(now - self._rails.settings.answer_seconds * 1000)
        if ended:
            self._log.info("payments_expired", count=ended)
