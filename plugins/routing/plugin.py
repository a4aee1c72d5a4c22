"""Candidates in order, retried until the first byte of an answer; nothing is retried after it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import ClassVar, Final

from pydantic import Field

from plugins.routing.answers import asked_seconds, exhausted, first_content, withhold_usage
from proxy.catalogue import Candidate, Model
from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.plugin import Next, Plugin, PluginSettings, Stage
from proxy.routes import Route, Try

_OURS: Final = ("unsent", "running")
"""Outcomes of an attempt that ended on our side, refused or failed: another one would end the same way."""


class RoutingSettings(PluginSettings):
    """How often and on what another attempt is made."""

    attempts_max: int = Field(default=3, ge=1, le=10, description="Upstream calls per exchange, over all candidates.")
    attempts_per_candidate: int = Field(default=2, ge=1, le=5, description="Calls to one candidate before the next.")
    retry_statuses: frozenset[int] = Field(
        default=frozenset({408, 409, 429, 500, 502, 503, 504, 529}),
        description="Upstream statuses on which another attempt is made.",
    )
    backoff_milliseconds: int = Field(
        default=100, ge=0, description="Pause before the same candidate is called again; doubled each time."
    )
    retry_after_seconds_max: float = Field(
        default=2.0, ge=0, description="An upstream's Retry-After up to this is waited for; past it the next is tried."
    )
    peek_bytes_max: int = Field(
        default=1 << 20, ge=1024, description="How much of a stream may pass before its first content event."
    )


class RoutingPlugin(Plugin[RoutingSettings]):
    """Establishes `route`. Each attempt is a row of the ledger, durable before the call is made.

    The client's own provider key is used once, on its own provider: its SDK retries itself.
    """

    name = "routing"
    stage = Stage.ROUTE
    Settings: ClassVar[type[PluginSettings]] = RoutingSettings
    provides = frozenset({"route"})
    requires = frozenset({"identity", "call", "model", "hold"})

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        if exchange.model is None or exchange.hold is None:
            return await call_next(exchange)
        exchange.route = Route()
        response: Response | None = None
        for candidate in self._plan(exchange, exchange.model):
            if response is not None:
                if not self._again(exchange, response):
                    break
                pause = self._pause(exchange, candidate, response)
                if pause is None:
                    continue
                await asyncio.sleep(pause)
                if exchange.client_gone:
                    break
            response = await self._attempt(exchange, candidate, call_next)
        if response is None:
            raise Refusal(
                "model_not_available", f"No upstream for '{exchange.model.name}' is configured.", param="model"
            )
        return self._final(exchange, response)

    def _plan(self, exchange: Exchange, model: Model) -> Iterator[Candidate]:
        own = exchange.identity is not None and exchange.identity.provider_credential
        if own:
            yield model.candidates[0]
            return
        left = self.settings.attempts_max
        for candidate in model.candidates:
            for _ in range(min(self.settings.attempts_per_candidate, left)):
                yield candidate
                left -= 1

    async def _attempt(self, exchange: Exchange, candidate: Candidate, call_next: Next) -> Response:
        route, hold = exchange.route, exchange.hold
        if route is None or hold is None:
            raise Refusal("internal_error", "This priced path is closed: no hold was made.")
        attempt = await self.services.ledger.dispatch(
            hold, upstream=candidate.upstream, upstream_model=candidate.upstream_model
        )
        exchange.dispatched = True
        tried = Try(candidate, attempt)
        route.tries.append(tried)
        started = self.services.clock.monotonic()
        response = await call_next(exchange)
        if tried.outcome in _OURS:
            return response
        if response.stream is not None and tried.outcome == "served":
            response = await first_content(exchange, response, tried, self.settings.peek_bytes_max)
        took = self.services.clock.monotonic() - started
        self.services.states.record(candidate.upstream, tried.outcome, took)
        if tried.status:
            self.services.metrics.upstream_answered(candidate.upstream, took)
        if tried.outcome not in ("served", "status"):
            self.services.log.warning(
                "upstream_failed",
                request_id=exchange.request_id,
                upstream=candidate.upstream,
                outcome=tried.outcome,
                detail=tried.detail,
            )
        return response

    def _again(self, exchange: Exchange, response: Response) -> bool:
        """Whether the last attempt left anything to gain from another."""
        tried = exchange.route.current if exchange.route is not None else None
        if tried is None or tried.outcome in ("served", "too_large", *_OURS) or exchange.client_gone:
            return False
        if tried.outcome == "status":
            return response.status in self.settings.retry_statuses
        return True

    def _pause(self, exchange: Exchange, candidate: Candidate, response: Response) -> float | None:
        """Seconds before `candidate` is called; None where it asked for more than is waited for."""
        route = exchange.route
        if route is None or route.current.candidate != candidate:
            return 0
        same = sum(1 for tried in route.tries if tried.candidate == candidate)
        pause: float = self.settings.backoff_milliseconds / 1000 * 2 ** (same - 1)
        asked = asked_seconds(response) if route.current.outcome == "status" else None
        if asked is None:
            return pause
        return None if asked > self.settings.retry_after_seconds_max else max(pause, asked)

    def _final(self, exchange: Exchange, response: Response) -> Response:
        route = exchange.route
        if route is None or exchange.call is None:
            return response
        tried = route.current
        own = exchange.identity is not None and exchange.identity.provider_credential
        if tried.outcome in _OURS:
            return response
        if tried.outcome == "served":
            if response.stream is not None and exchange.call.stream and not exchange.call.wants_usage:
                withhold_usage(response, exchange.call.dialect)
            return response
        if tried.outcome == "status" and (own or response.status in (400, 413, 422)):
            return response
        raise exhausted(exchange, response, tried)


PLUGIN = RoutingPlugin
