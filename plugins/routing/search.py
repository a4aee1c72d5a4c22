"""One exchange's way along its candidates: who may be called, how often, after which pause, and beside whom."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from plugins.routing.answers import asked_seconds
from plugins.routing.attempts import Admitted, Attempts
from plugins.routing.hedging import Budget, Race
from plugins.routing.settings import RoutingSettings
from plugins.routing.verdicts import Again, again
from proxy.catalogue import Candidate, Model
from proxy.clock import Clock
from proxy.exchange import Exchange, Response
from proxy.plugin import Next, Services
from proxy.routes import Try
from proxy.upstreams.breakers import REFUSED
from proxy.upstreams.health import CandidateState

EARLY_SECONDS: Final = 0.005
"""A timer may ring this much too early, and a circuit's time must be over when its trial asks."""


class Means:
    """What every search of one plugin shares."""

    __slots__ = ("attempts", "budget", "clock", "log", "metrics", "settings", "state_of")

    def __init__(
        self, services: Services, settings: RoutingSettings, state_of: Callable[[Candidate], CandidateState]
    ) -> None:
        self.attempts = Attempts(services, settings.peek_bytes_max)
        self.budget = Budget(settings.hedge_percent_max)
        self.clock: Clock = services.clock
        self.log: Any = services.log
        self.metrics: Any = services.metrics
        self.settings = settings
        self.state_of = state_of


class Search:
    """At most `attempts_max` calls; a candidate whose circuit is open takes up none of them."""

    __slots__ = ("_again", "_calls_left", "_exchange", "_means", "_model", "_waiting")

    def __init__(self, means: Means, exchange: Exchange, model: Model, order: Sequence[Candidate]) -> None:
        self._means = means
        self._exchange = exchange
        self._model = model
        self._waiting = deque(order)
        self._calls_left = means.settings.attempts_max
        self._again = Again.ANYWHERE
        """What the last attempt left to gain from another."""

    async def run(self, call_next: Next) -> Response | None:
        """The last attempt's answer, whatever it is; None where no candidate may be called."""
        response: Response | None = None
        while self._calls_left and self._again is not Again.NO and (admitted := self._next()) is not None:
            response = await self._at(admitted, call_next)
        return response

    def _next(self) -> Admitted | None:
        """The first of those still waiting who may be called."""
        now = self._means.clock.monotonic()
        while self._waiting:
            candidate = self._waiting.popleft()
            state = self._means.state_of(candidate)
            permit = state.breaker.admit(now)
            if permit != REFUSED:
                return Admitted(candidate, state, permit)
        return None

    async def _at(self, admitted: Admitted, call_next: Next) -> Response:
        """One candidate, up to `attempts_per_candidate` times."""
        means, state = self._means, admitted.state
        response = await self._first(admitted, call_next)
        self._judge(response)
        for retries in range(1, means.settings.attempts_per_candidate):
            pause = None if self._again is Again.NO else self._pause(admitted.candidate, response, retries)
            if pause is None or state is None:
                break
            await asyncio.sleep(pause)
            if self._exchange.client_gone:
                self._again = Again.NO
                break
            permit = state.breaker.admit(means.clock.monotonic())
            if permit == REFUSED:
                break
            self._calls_left -= 1
            response = await means.attempts.make(self._exchange, Admitted(admitted.candidate, state, permit), call_next)
            self._judge(response)
        return response

    async def _first(self, admitted: Admitted, call_next: Next) -> Response:
        """The first call to a candidate, with a second one beside it where the model hedges."""
        means, exchange = self._means, self._exchange
        silence = self._hedge_after(admitted) if self._model.hedge and self._waiting else None
        self._calls_left -= 1
        if silence is None:
            return await means.attempts.make(exchange, admitted, call_next)
        race = Race(means.attempts, exchange, call_next, means.log)
        response = await race.run(admitted, silence, self._second, self._gain)
        route = exchange.route
        if route is not None and any(tried.hedge for tried in route.tries):
            means.metrics.hedged(self._model.name, "won" if route.current.hedge else "lost")
        return response

    def _hedge_after(self, admitted: Admitted) -> float | None:
        """Seconds of silence that are more than the candidate's own 95th percentile; None: no hedge for this call."""
        means, call = self._means, self._exchange.call
        first = self._exchange.route is not None and not self._exchange.route.tries
        if not first or self._calls_left < 2 or call is None or admitted.state is None or not means.budget.bring():
            return None
        recent = admitted.state.streamed if call.stream else admitted.state.whole
        return recent.p95(means.settings.hedge_samples_min)

    def _second(self) -> Admitted | None:
        """The one to call beside a silent first, paid for from the budget."""
        admitted = self._next()
        if admitted is None:
            return None
        if not self._means.budget.take():
            self._means.attempts.abandon(admitted)
            self._waiting.appendleft(admitted.candidate)
            return None
        self._calls_left -= 1
        return admitted

    def _gain(self, tried: Try, response: Response) -> Again:
        return again(tried, response, self._means.settings.retry_statuses)

    def _judge(self, response: Response) -> None:
        route = self._exchange.route
        over = route is None or not route.tries or self._exchange.client_gone
        self._again = Again.NO if route is None or over else self._gain(route.current, response)

    def _pause(self, candidate: Candidate, response: Response, retries: int) -> float | None:
        """Seconds before `candidate` is called again; None where it is not.

        Each other candidate that may be called keeps a place; and one that was silent to its deadline, or asks for
        more time than is waited for, is not called again at all while there is another.
        """
        settings, route = self._means.settings, self._exchange.route
        if route is None or route.current.candidate is not candidate or self._again is Again.ONLY_ELSEWHERE:
            return None
        others = self._others()
        if self._calls_left <= others or (self._again is Again.ELSEWHERE and others):
            return None
        pause: float = settings.backoff_milliseconds / 1000 * 2 ** (retries - 1)
        asked = asked_seconds(response) if route.current.outcome == "status" else None
        if not asked:
            return pause
        return None if asked > settings.retry_after_seconds_max else max(pause, asked + EARLY_SECONDS)

    def _others(self) -> int:
        """Candidates still waiting that may be called now."""
        now = self._means.clock.monotonic()
        return sum(self._means.state_of(candidate).breaker.ready(now) for candidate in self._waiting)
