"""One run for one exchange: what it is charged, what its calls cost, and that all of them end with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from plugins.consensus.calls import ChainCalls
from plugins.consensus.wires import Meta
from proxy.consensus.api import Emit, Question, Result, RunFailed
from proxy.consensus.engine import Engine
from proxy.exchange import Exchange, Finish
from proxy.pricing.money import ZERO, Nano

PERCENT: Final = 100


class Run:
    """Made before the first call. `close` is called when the exchange ends, however it does, before it is settled."""

    def __init__(
        self, exchange: Exchange, engine: Engine, question: Question, mode: str, calls: ChainCalls, metrics: Any
    ) -> None:
        self.calls = calls
        self._metrics = metrics
        self._exchange = exchange
        self._engine = engine
        self._question = question
        self._mode = mode
        self._answering = False
        self.result: Result | None = None

    def admit(self) -> None:
        """Raises Refusal where the mode's budget cannot hold this question."""
        self._engine.admit(self._question, self._mode, self.calls)

    def answering(self) -> None:
        """A piece of the answer goes out: from now on the run is worth its price, whoever leaves."""
        self._answering = True

    async def run(self, emit: Emit) -> Result:
        """The result; the exchange is charged for it. Raises RunFailed, and the charge is returned."""
        try:
            result = self.result = await self._engine.run(self._question, self._mode, self.calls, emit)
        except RunFailed:
            self._exchange.charge = ZERO
            raise
        finally:
            self.calls.hand_over()
        self._exchange.charge = self._price(result)
        return result

    def close(self, reason: Finish) -> None:
        """Book what is still under way. Who leaves early pays what the calls had cost, at most the price."""
        self.calls.close(reason)
        self._count()
        exchange = self._exchange
        if exchange.charge is not None:
            return
        whole = self._price(None)
        if self._answering and reason is Finish.CLIENT_GONE:
            exchange.charge = whole
        else:
            exchange.charge = min(whole, self.calls.cost) if reason is Finish.CLIENT_GONE else ZERO

    def _count(self) -> None:
        result = self.result
        outcome = "failed" if self._exchange.charge is not None else "left"
        if result is not None:
            outcome = "degraded" if result.degraded else "answered"
        self._metrics.consensus_run(self._mode if result is None else result.mode, outcome)
        for record in self.calls.records:
            self._metrics.consensus_call(record.role.value, record.status)

    def meta(self, meta: Meta) -> Meta:
        """With what was charged, which is known by now."""
        charged, credits_milli = self._exchange.charge or ZERO, 0
        if self.result is not None:
            credits_milli = self._share(self._engine.consensus.modes[self.result.mode].price.credits_milli)
        return replace(meta, charged=charged, credits_milli=credits_milli)

    def _price(self, result: Result | None) -> Nano:
        """Of the mode that answered; of the dearest that may, where none did."""
        panel = None if self._exchange.model is None else self._exchange.model.panel
        mode = panel if result is None else self._engine.consensus.modes[result.mode]
        return ZERO if mode is None else Nano(self._share(mode.price.usd))

    def _share(self, amount: int) -> int:
        """Of an answer from fewer members than the quorum a part is charged, rounded up."""
        result = self.result
        if result is None or not result.degraded:
            return amount
        percent = self._engine.consensus.modes[result.mode].degraded_percent
        return -(-amount * percent // PERCENT)
