"""A second candidate beside one that is silent for longer than usual: first content wins, the other is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from plugins.routing.attempts import Admitted, Attempts
from plugins.routing.verdicts import HEDGE_LOST, Again
from proxy.exchange import Exchange, Finish, Response
from proxy.plugin import Next
from proxy.routes import Route, Try

SAVED_MAX: Final = 10
"""Hedges that a quiet time may save up."""


class Budget:
    """At most `percent` of the exchanges that may hedge do: each brings its share in, a hedge takes a whole one."""

    __slots__ = ("_percent", "_saved")

    def __init__(self, percent: int) -> None:
        self._percent = percent
        self._saved = 0

    def bring(self) -> bool:
        """One more exchange. Returns whether a hedge could be paid for now."""
        self._saved = min(self._saved + self._percent, 100 * SAVED_MAX)
        return self._saved >= 100

    def take(self) -> bool:
        """Pay for one hedge. False where others were faster."""
        if self._saved < 100:
            return False
        self._saved -= 100
        return True


@dataclass(slots=True, eq=False)
class Leg:
    """One of the two, on a branch of the exchange."""

    admitted: Admitted
    branch: Exchange
    tried: Try
    task: asyncio.Task[Response]


class Race:
    """One exchange's first attempt, and the second beside it."""

    def __init__(self, attempts: Attempts, exchange: Exchange, call_next: Next, log: Any) -> None:
        self._attempts = attempts
        self._exchange = exchange
        self._call_next = call_next
        self._log = log
        self._legs: list[Leg] = []

    async def run(
        self,
        first: Admitted,
        after_seconds: float,
        second: Callable[[], Admitted | None],
        again: Callable[[Try, Response], Again],
    ) -> Response:
        """The answer to go on with; its attempt is the route's current one, and everything of the other is closed.

        `second` is asked once the first was silent for `after_seconds`, None: no other may be called. An answer
        that leaves nothing to gain ends the race; where both fail, the last failure is what is returned.
        """
        won: Leg | None = None
        try:
            await self._start(first)
            await asyncio.wait({self._legs[0].task}, timeout=after_seconds)
            if not self._legs[0].task.done() and not self._exchange.client_gone and (other := second()) is not None:
                await self._start(other, again)
            won = await self._winner(again)
            return won.task.result()
        finally:
            await self._end(won)

    async def _start(self, admitted: Admitted, again: Callable[[Try, Response], Again] | None = None) -> None:
        """Note it in the ledger, then call. With `again` it is the second, left uncalled if the first is enough."""
        tried: Try | None = None
        try:
            tried = await self._attempts.dispatch(self._exchange, admitted.candidate, hedge=again is not None)
        finally:
            if tried is None:
                self._attempts.abandon(admitted)
        if again is not None and self._decided(again):
            tried.outcome = "unsent"  # The first one answered while the ledger wrote, and stays the current one.
            if self._exchange.route is not None:
                self._exchange.route.tries.insert(0, self._exchange.route.tries.pop())
            self._attempts.abandon(admitted)
            return
        branch = self._exchange.branch(Route([tried]))
        call = self._attempts.call(branch, tried, admitted, self._call_next)
        task = asyncio.get_running_loop().create_task(call, name="attempt")
        self._legs.append(Leg(admitted, branch, tried, task))

    def _decided(self, again: Callable[[Try, Response], Again]) -> bool:
        first = self._legs[0]
        return first.task.done() and again(first.tried, first.task.result()) is Again.NO

    async def _winner(self, again: Callable[[Try, Response], Again]) -> Leg:
        left = list(self._legs)
        while True:
            await asyncio.wait({leg.task for leg in left}, return_when=asyncio.FIRST_COMPLETED)
            for leg in [leg for leg in left if leg.task.done()]:
                left.remove(leg)
                if not left or again(leg.tried, leg.task.result()) is Again.NO:
                    return leg

    async def _end(self, won: Leg | None) -> None:
        """Cancel and close what is not taken. Without a winner the exchange itself is ending, and ends them both."""
        exchange = self._exchange
        others = [leg for leg in self._legs if leg is not won]
        for leg in others:
            if won is not None and leg.tried.outcome in ("running", "served"):
                leg.tried.outcome = HEDGE_LOST
            leg.task.cancel()
        if won is not None:
            exchange.adopt(won.branch)
            if exchange.route is not None:
                exchange.route.tries.remove(won.tried)
                exchange.route.tries.append(won.tried)
        for leg in others:
            await self._close(leg, ending=won is None)

    async def _close(self, leg: Leg, *, ending: bool) -> None:
        exchange = self._exchange
        if ending:
            exchange.adopt(leg.branch)
        else:
            exchange.streams.extend(leg.branch.streams)
        await asyncio.wait({leg.task})
        self._attempts.abandon(leg.admitted)
        for stream in leg.branch.streams:
            await stream.aclose()
        if not ending:
            for raised in leg.branch.finish(Finish.UPSTREAM_FAILED):
                self._log.error("finish_failed", request_id=exchange.request_id, exc_info=raised)
