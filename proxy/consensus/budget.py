"""What a run may still spend: every call is admitted against its proven bound, so that the sum never exceeds it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from proxy.consensus.api import CallFailed, Calls, CallSpec
from proxy.pricing.money import ZERO, Nano

RUNNING: Final = "running"
BUDGET: Final = "budget"
"""Kind of a call that was not begun: there was no room for it."""
HEDGES_SAVED_MAX: Final = 10
"""Hedges that a quiet time may save up."""


class Budget:
    """The money of one run, at list. What a call took stays taken at its bound until it has ended, and at its real
    cost from then on; `reserved` is kept for the final answer and admitted to it alone."""

    def __init__(self, calls: Calls, limit: Nano) -> None:
        self._calls = calls
        self.limit = limit
        self.reserved = ZERO
        self._bounds: dict[int, Nano] = {}
        self._tickets = 0

    def spent(self) -> Nano:
        """What ended calls have cost and those under way can cost."""
        ended = sum(record.cost for record in self._calls.records if record.status != RUNNING)
        return Nano(ended + sum(self._bounds.values()))

    def room(self, *, final: bool = False) -> Nano:
        """What one more call may cost at most; `final`: the call that the reserve is for."""
        return Nano(self.limit - self.spent() - (ZERO if final else self.reserved))

    def take(self, spec: CallSpec, *, final: bool = False) -> int:
        """A ticket for the call, to be given back when it has ended. Raises CallFailed `budget` where its bound does
        not fit, and another kind where the seat cannot take the call at all."""
        bound = self._calls.cost_max(spec)
        if bound > self.room(final=final):
            raise CallFailed(BUDGET)
        self._tickets += 1
        self._bounds[self._tickets] = bound
        return self._tickets

    def give_back(self, ticket: int) -> None:
        """The call has ended: from now on its record counts."""
        self._bounds.pop(ticket, None)

    def bound(self, spec: CallSpec) -> Nano | None:
        """The most that the call can cost; None where its seat cannot take it."""
        try:
            return self._calls.cost_max(spec)
        except CallFailed:
            return None

    def bounds(self, specs: Iterable[CallSpec]) -> Nano:
        """The most that those of them which can be called can cost together."""
        return Nano(sum(self.bound(spec) or ZERO for spec in specs))


class HedgeBudget:
    """At most `percent` of runs call a spare for a silent member: each brings its share in, a hedge takes a whole one.
    It begins empty, so that the share holds from the first run on."""

    __slots__ = ("_percent", "_saved")

    def __init__(self, percent: int) -> None:
        self._percent = percent
        self._saved = 0

    def bring(self) -> None:
        """One more run."""
        self._saved = min(self._saved + self._percent, 100 * HEDGES_SAVED_MAX)

    def take(self) -> bool:
        """Pay for one hedge. False where there is nothing left."""
        if self._saved < 100:
            return False
        self._saved -= 100
        return True
