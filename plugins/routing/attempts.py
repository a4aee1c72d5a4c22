"""One upstream attempt: noted in the ledger before the call, called, and told to the circuit whatever ends it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from plugins.routing.answers import asked_seconds, first_content
from plugins.routing.verdicts import HEDGE_LOST, OURS, verdict
from proxy.catalogue import Candidate
from proxy.clock import Clock
from proxy.errors import Refusal
from proxy.exchange import Exchange, Finish, Response
from proxy.plugin import Next, Services
from proxy.routes import Try
from proxy.upstreams.breakers import CircuitState
from proxy.upstreams.health import CandidateState, UpstreamStates, Verdict


@dataclass(frozen=True, slots=True)
class Admitted:
    """A candidate with leave to be called. `state` is None for a caller's own key: its troubles are its own."""

    candidate: Candidate
    state: CandidateState | None
    permit: int


class Attempts:
    """Makes attempts, one at a time for each `Try`."""

    def __init__(self, services: Services, peek_bytes_max: int) -> None:
        self._clock: Clock = services.clock
        self._ledger: Any = services.ledger
        self._states: UpstreamStates = services.states
        self._metrics: Any = services.metrics
        self._log: Any = services.log
        self._peek_bytes_max = peek_bytes_max

    async def dispatch(self, exchange: Exchange, candidate: Candidate, *, hedge: bool = False) -> Try:
        """The attempt's row in the ledger, durable; it is the route's current one from now on."""
        route, hold = exchange.route, exchange.hold
        if route is None or hold is None:
            raise Refusal("internal_error", "This priced path is closed: no hold was made.")
        row = await self._ledger.dispatch(
            hold,
            upstream=candidate.upstream,
            upstream_model=candidate.upstream_model,
            role=exchange.role,
            partner=candidate.partner,
        )
        exchange.dispatched = True
        tried = Try(candidate, row, hedge=hedge)
        route.tries.append(tried)
        return tried

    async def make(self, exchange: Exchange, admitted: Admitted, call_next: Next) -> Response:
        """Dispatch and call. The permit is brought back even where the ledger refuses."""
        tried: Try | None = None
        try:
            tried = await self.dispatch(exchange, admitted.candidate)
        finally:
            if tried is None:
                self.abandon(admitted)
        return await self.call(exchange, tried, admitted, call_next)

    def abandon(self, admitted: Admitted) -> None:
        """No call is made with this permit."""
        if admitted.state is not None:
            admitted.state.breaker.give_back(admitted.permit)

    async def call(self, exchange: Exchange, tried: Try, admitted: Admitted, call_next: Next) -> Response:
        """The call up to its first content, or to whatever came in its place."""
        state = admitted.state
        started = self._clock.monotonic()
        if state is not None:
            state.in_flight += 1
        answered: Response | None = None
        try:
            response = await call_next(exchange)
            if response.stream is not None and tried.outcome == "served":
                response = await first_content(exchange, response, tried, self._peek_bytes_max)
            answered = response
        finally:
            if state is not None:
                self._conclude(exchange, tried, admitted.permit, state, answered, started)
        self._note(exchange, tried, self._clock.monotonic() - started)
        return answered

    def _conclude(
        self,
        exchange: Exchange,
        tried: Try,
        permit: int,
        state: CandidateState,
        answered: Response | None,
        started: float,
    ) -> None:
        """Tell the circuit. A stream that goes on stays work under way until the exchange ends."""
        now = self._clock.monotonic()
        took = now - started
        judged, asked, streams = Verdict.SILENT, None, False
        if answered is None:
            if tried.outcome == HEDGE_LOST:
                judged = self._lost(exchange, state, now, took)
        else:
            judged = verdict(tried, answered)
            if tried.outcome == "served":
                streams = answered.stream is not None
                state.first_content(took, stream=streams)
            elif tried.outcome == "status":
                asked = asked_seconds(answered)
        if streams:
            exchange.on_finish(partial(self._stream_ended, exchange, tried, state))
        else:
            state.in_flight -= 1
        left = state.conclude(permit, judged, now=now, took=took, retry_after=asked)
        if left is not None:
            self._circuit_changed(exchange, state, left)

    def _stream_ended(self, exchange: Exchange, tried: Try, state: CandidateState, reason: Finish) -> None:
        """A stream that breaks after its first content cannot be retried, but it is a failure like any other."""
        state.in_flight -= 1
        breaker = state.breaker
        broke = reason is Finish.UPSTREAM_FAILED and tried.outcome == "served"
        if broke and breaker.state is CircuitState.CLOSED:
            now, openings = self._clock.monotonic(), breaker.openings
            breaker.failed(breaker.admit(now), now)
            if breaker.openings > openings:
                self._circuit_changed(exchange, state, CircuitState.CLOSED)

    @staticmethod
    def _lost(exchange: Exchange, state: CandidateState, now: float, took: float) -> Verdict:
        """Another was faster: this one would have taken longer still, and a trial that lost shows no recovery."""
        state.first_content(took, stream=exchange.call is not None and exchange.call.stream)
        state.peak.observe(took, now)
        return Verdict.FAILED if state.breaker.state is CircuitState.HALF_OPEN else Verdict.SILENT

    def _circuit_changed(self, exchange: Exchange, state: CandidateState, left: CircuitState) -> None:
        breaker = state.breaker
        fields = {"request_id": exchange.request_id, "upstream": state.upstream, "model": state.upstream_model}
        if breaker.state is CircuitState.CLOSED:
            self._metrics.circuit_closed(state.upstream)
            self._log.info("circuit_closed", **fields)
            return
        reason = "limited" if breaker.limited else "failing"
        self._metrics.circuit_opened(state.upstream, reason, again=left is not CircuitState.CLOSED)
        seconds = round(breaker.seconds_left(self._clock.monotonic()), 1)
        self._log.warning("circuit_opened", reason=reason, seconds=seconds, **fields)

    def _note(self, exchange: Exchange, tried: Try, took: float) -> None:
        if tried.outcome in OURS:
            return
        upstream = tried.candidate.upstream
        self._states.record(upstream, tried.outcome, took)
        if tried.status:
            self._metrics.upstream_answered(upstream, took)
        if tried.outcome not in ("served", "status"):
            self._log.warning(
                "upstream_failed",
                request_id=exchange.request_id,
                upstream=upstream,
                outcome=tried.outcome,
                detail=tried.detail,
            )
