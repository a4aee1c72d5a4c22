"""A ledger that keeps everything in a list, for tests of plugins."""

from __future__ import annotations

from proxy.ledger.api import (
    Attempt,
    Basis,
    Cap,
    CapExceeded,
    CapState,
    Hold,
    HoldRequest,
    Purse,
    PurseExceeded,
    PurseState,
    Settlement,
)
from proxy.ledger.payment_api import StoredAnswer
from proxy.pricing.money import ZERO, Nano
from tests.support.paying import MemoryPayments


class MemoryLedger(MemoryPayments):
    """Caps and purses are checked as the real one does; `spent` presets what earlier holds have spent by scope."""

    def __init__(self, spent: dict[str, int] | None = None, granted: dict[Purse, int] | None = None) -> None:
        super().__init__()
        self.spent = spent or {}
        self.granted = granted or {}
        self.holds: list[Hold] = []
        self.attempts: list[Attempt] = []
        self.settled: list[tuple[Hold, Settlement]] = []
        self.released: list[tuple[Hold, str]] = []
        self.requests: list[HoldRequest] = []

    async def hold(self, request: HoldRequest) -> Hold:
        self.requests.append(request)
        short = []
        for cap in request.caps:
            amount = (request.list or ZERO) if cap.basis is Basis.LIST else request.charged
            stands = CapState(cap, Nano(self.spent.get(cap.scope, 0)), ZERO)
            if amount > stands.left:
                short.append(stands)
        if short:
            raise CapExceeded(tuple(sorted(short, key=lambda state: state.left)))
        if request.purse is not None:
            state = PurseState(request.purse, Nano(self.granted.get(request.purse, 0)), ZERO, ZERO)
            if request.charged > state.left:
                raise PurseExceeded(state)
        await self.check(request)
        hold = Hold(len(self.holds) + 1, request, self._soft(request.caps, request.charged))
        if request.tender is not None:
            self.take(hold, request.tender)
        self.holds.append(hold)
        return hold

    def _soft(self, caps: tuple[Cap, ...], charged: Nano) -> tuple[CapState, ...]:
        states = (CapState(cap, Nano(self.spent.get(cap.scope, 0)), charged) for cap in caps)
        return tuple(s for s in states if s.cap.soft_limit is not None and s.spent + s.held > s.cap.soft_limit)

    async def dispatch(
        self, hold: Hold, *, upstream: str, upstream_model: str, role: str = "answer", partner: str | None = None
    ) -> Attempt:
        attempt = Attempt(hold.id, len(self.attempts) + 1, upstream, upstream_model, role, partner)
        self.attempts.append(attempt)
        return attempt

    async def commit(self, hold: Hold, answer: StoredAnswer | None = None) -> None:
        if hold.request.tender is None:
            raise AssertionError("no proof stands behind this hold")
        self.burn(hold, answer)

    def settle(self, hold: Hold, settlement: Settlement) -> None:
        self.settled.append((hold, settlement))
        self.end(hold, settlement)

    def release(self, hold: Hold, *, reason: str, at_ms: int) -> None:
        self.released.append((hold, reason))
        self.end(hold, None)
