"""Alarms reach the metrics as well as the log."""

from __future__ import annotations

from pathlib import Path

from proxy.pricing.money import Nano
from tests.ledger.making import cap, dispatched, opened, request, settlement


class Metrics:
    def __init__(self) -> None:
        self.double_ends = 0
        self.over: list[Nano] = []

    def ledger_double_end(self) -> None:
        self.double_ends += 1

    def ledger_overage(self, nano: Nano) -> None:
        self.over.append(nano)


async def test_metrics_are_told_of_overage_and_double_ends(tmp_path: Path) -> None:
    """By how much, and how often."""
    metrics = Metrics()
    ledger = opened(tmp_path / "tollway.db", metrics=metrics)
    hold, attempt = await dispatched(ledger, request(100, cap(1000)))
    ledger.settle(hold, settlement(130, attempt))
    ledger.release(hold, reason="again", at_ms=1)
    await ledger.flush()
    assert (metrics.over, metrics.double_ends) == ([30], 1)
    await ledger.close()
