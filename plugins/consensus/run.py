"""One run for one exchange: what it is charged, what its calls cost, and that all of them end with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from plugins.consensus.calls import ChainCalls
from plugins.consensus.wires import Meta
from proxy.consensus.api import Emit, Question, Result, RunFailed
from proxy.consensus.engine import Engine
from proxy.consensus.settings import Mode, Price
from proxy.exchange import Exchange, Finish
from proxy.payments.prices import surcharged
from proxy.pricing.money import ZERO, Nano

PERCENT: Final = 100


class Run:
    """Made before the first call. `close` is called when the exchange ends, however it does, before it is settled."""

    def __init__(
        self,
        exchange: Exchange,
        engine: Engine,
        question: Question,
        mode: str,
        calls: ChainCalls,
        metrics: Any,
        seated: Mapping[str, Mode] | None = None,
    ) -> None:
        self.calls = calls
        self._metrics = metrics
        self._exchange = exchange
        self._engine = engine
        self._question = question
        self._mode = mode
        self._seated = seated
        self._answering = False
        self.result: Result | None = None

    def admit(self) -> None:
        """Raises Refusal where the mode's budget cannot hold this question."""
        self._engine.admit(self._question, self._mode, self.calls, seated=self._seated)

    def answering(self) -> None:
        """A piece of the answer goes out: from now on the run is worth its price, whoever leaves."""
        self._answering = True

    async def run(self, emit: Emit) -> Result:
        """The result; the exchange is charged for it. Raises RunFailed, and the charge is returned."""
        try:
            result = self.result = await self._engine.run(
                self._question, self._mode, self.calls, emit, seated=self._seated
            )
        except RunFailed:
            self.failed()
            raise
        finally:
            self.calls.hand_over()
        price = self._of(result)
        self._charge(self._share(price.usd), None if price.msat is None else self._share(price.msat))
        return result

    def failed(self) -> None:
        """There is no answer, or none that may go out: nothing is charged."""
        self._charge(ZERO, None if self._of(None).msat is None else 0)

    def close(self, reason: Finish) -> None:
        """Book what is still under way. Who leaves early pays what the calls had cost, at most the price."""
        self.calls.close(reason)
        exchange = self._exchange
        if exchange.refusal is not None and exchange.refusal.code == "internal_error":
            self.failed()  # A fault of ours behind the run: its answer was not given.
        if exchange.charge is None and reason is not Finish.CLIENT_GONE:
            self.failed()
        self._count()
        if exchange.charge is not None:
            return
        price = self._of(None)
        usd = price.usd if self._answering else min(price.usd, self.calls.cost)
        self._charge(usd, None if price.msat is None else _part(price.msat, usd, price.usd))

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
        exchange, result = self._exchange, self.result
        charged = exchange.charge or ZERO
        credits_milli = 0 if result is None else self._share(self._of(result).credits_milli)
        ask, tender, rails = exchange.ask, exchange.tender, exchange.generation.payments
        if ask is not None and tender is not None and rails is not None:
            if tender.proof is not None:  # Costs its price, whatever the answer was.
                return replace(meta, charged=ask.price.usd, credits_milli=ask.price.credits_milli or 0)
            charged = min(surcharged(charged, rails), ask.price.usd)
        return replace(meta, charged=charged, credits_milli=credits_milli)

    def _of(self, result: Result | None) -> Price:
        """The price of the mode that answered; of the dearest that may, where none did."""
        model = self._exchange.model
        if result is not None or model is None or model.panel is None:
            return self._engine.consensus.modes[self._mode if result is None else result.mode].price
        return model.panel.price

    def _charge(self, usd: int, msat: int | None) -> None:
        """In dollars, and in thousandths of a satoshi where the price is fixed in them."""
        self._exchange.charge, self._exchange.charge_msat = Nano(usd), msat

    def _share(self, amount: int) -> int:
        """Of an answer from fewer members than the quorum a part is charged, rounded up."""
        result = self.result
        if result is None or not result.degraded:
            return amount
        percent = self._engine.consensus.modes[result.mode].degraded_percent
        return _part(amount, percent, PERCENT)


def _part(amount: int, share: int, whole: int) -> int:
    """Rounded up."""
    return -(-amount * share // whole) if whole else 0
