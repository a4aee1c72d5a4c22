"""Asking outside for the money, in a task that no client can cancel, and writing down what came of it."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from proxy.errors import Refusal
from proxy.ledger.payment_api import Lease, LeaseLost, PaymentLedger
from proxy.payments.api import Ask, Declined, Doubtful, Outcome, Rail, Settled

UNKNOWN_RETRY_SECONDS: Final = 15
FINISH_SECONDS_MAX: Final = 60.0
"""How long the end of the process waits for what is being asked; what is cut then is unknown, and reconciled."""


class Collector:
    """Settlements under way."""

    def __init__(self, ledger: PaymentLedger, log: Any) -> None:
        self._ledger = ledger
        self._log = log
        self._tasks: set[asyncio.Task[Outcome]] = set()

    async def collect(self, rail: Rail, lease: Lease, ask: Ask) -> None:
        """Returns once the money is ours. Raises Refusal: the rail's own, or `payment_unknown` with the id."""
        lease.asked = True
        task = asyncio.get_running_loop().create_task(self._settle(rail, lease, ask), name=f"settle {lease.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        outcome = await asyncio.shield(task)
        if isinstance(outcome, Declined):
            raise outcome.refusal
        if isinstance(outcome, Doubtful):
            raise unknown(lease.id)

    async def _settle(self, rail: Rail, lease: Lease, ask: Ask) -> Outcome:
        # Whatever is raised on the way, or cancelled: outside may have been asked.
        outcome: Outcome = Doubtful("settling was cut off")
        try:
            outcome = await rail.settle(lease, ask)
        finally:
            outcome = await record(self._ledger, lease, outcome, self._log)
        return outcome

    async def finish(self) -> None:
        """Wait for all that is under way."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=FINISH_SECONDS_MAX)


async def record(ledger: PaymentLedger, lease: Lease, outcome: Outcome, log: Any) -> Outcome:
    """Write an outcome into the ledger; durable when this returns. Gives it back, or Doubtful in its place where its
    amounts cannot be true.
    """
    try:
        if isinstance(outcome, Settled):
            try:
                await ledger.payment_settled(lease, outcome.receipt)
            except ValueError as error:
                return await record(ledger, lease, Doubtful(f"an impossible receipt: {error}"), log)
            lease.settled, lease.receipt = True, outcome.receipt
        elif isinstance(outcome, Doubtful):
            await ledger.payment_unknown(lease, outcome.reason)
            log.warning("payment_unknown", payment=lease.id, rail=lease.proof.rail, reason=outcome.reason)
        elif outcome.final:
            await ledger.payment_refused(lease, outcome.reason)
        else:
            await ledger.payment_freed(lease, outcome.reason)
        return outcome
    except LeaseLost:
        log.error("payment_lease_lost", payment=lease.id, rail=lease.proof.rail, outcome=type(outcome).__name__)
        raise


def unknown(payment_id: str) -> Refusal:
    """Nobody knows whether money moved: never a fresh 402, which would be paid a second time."""
    return Refusal(
        "payment_unknown",
        f"It is not known yet whether payment {payment_id} went through. Do not pay again: send the same request with "
        f"the same payment in a moment, or ask GET /v1/payments/{payment_id}.",
        retry_after_seconds=UNKNOWN_RETRY_SECONDS,
        details={"payment_id": payment_id},
    )
