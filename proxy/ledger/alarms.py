"""What should never happen to a hold: logged as an error, counted, told to the metrics."""

from __future__ import annotations

from typing import Any, Protocol

from proxy.ledger.api import Hold, Settlement
from proxy.pricing.money import Nano


class AlarmMetrics(Protocol):
    """Where alarms are counted for the outside."""

    def ledger_double_end(self) -> None: ...

    def ledger_overage(self, nano: Nano) -> None: ...


class Alarms:
    """The counts are since the start. On the event loop."""

    def __init__(self, log: Any, metrics: AlarmMetrics | None = None) -> None:
        self._log = log
        self._metrics = metrics
        self.overages = 0
        self.double_ends = 0
        self.lost_ends = 0
        self.invalid_amounts = 0

    def overage(self, hold: Hold, settlement: Settlement) -> None:
        """A hold was settled above what it had set aside. It was applied; its bound was wrong."""
        request = hold.request
        self.overages += 1
        if self._metrics is not None:
            over = max(settlement.charged - request.charged, (settlement.list or 0) - (request.list or 0))
            self._metrics.ledger_overage(Nano(over))
        self._error(
            "ledger_overage",
            hold,
            held_nano=request.charged,
            charged_nano=settlement.charged,
            held_list_nano=request.list,
            list_nano=settlement.list,
        )

    def double_end(self, hold: Hold, how: str) -> None:
        """A hold was ended a second time. It was not applied."""
        self.double_ends += 1
        if self._metrics is not None:
            self._metrics.ledger_double_end()
        self._error("ledger_double_end", hold, how=how)

    def lost_end(self, hold: Hold, why: str) -> None:
        """An end could not be written. The next start settles the hold in full."""
        self.lost_ends += 1
        self._error("ledger_end_lost", hold, why=why)

    def invalid_amount(self, hold: Hold, settlement: Settlement) -> None:
        """A settlement with an impossible amount. The hold was settled in full instead."""
        self.invalid_amounts += 1
        self._error("ledger_invalid_amount", hold, charged=str(settlement.charged), list=str(settlement.list))

    def _error(self, event: str, hold: Hold, **fields: Any) -> None:
        self._log.error(event, hold=hold.id, exchange_id=hold.request.exchange_id, **fields)
