"""Candidates in the model's order, healthy ones only, until the first byte; nothing is retried after it."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import ClassVar, Final

from plugins.routing.answers import RETRY_AFTER_SECONDS, exhausted, withhold_usage
from plugins.routing.attempts import Admitted
from plugins.routing.conversations import Conversations, conversation_of
from plugins.routing.refusals import all_closed_off, no_machine, own_key_refused
from plugins.routing.search import Means, Search
from plugins.routing.selection import preferred, ranked
from plugins.routing.settings import RoutingSettings
from plugins.routing.verdicts import CALLERS_FAULT, OURS
from proxy.catalogue import Candidate, Model
from proxy.clock import Clock
from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.model_refusals import of_consortium
from proxy.plugin import Next, Plugin, PluginSettings, Services, Stage
from proxy.routes import Route
from proxy.upstreams.breakers import REFUSED
from proxy.upstreams.health import CandidateState, UpstreamStates

ROUTE_MODEL: Final = "x-route-model"
"""Header that names what of a lane served."""


class RoutingPlugin(Plugin[RoutingSettings]):
    """Establishes `route`. Each attempt is a row of the ledger, durable before the call is made.

    The client's own provider key is used once, on its own provider, whatever its circuit: its SDK retries itself.
    """

    name = "routing"
    stage = Stage.ROUTE
    Settings: ClassVar[type[PluginSettings]] = RoutingSettings
    provides = frozenset({"route"})
    requires = frozenset({"identity", "call", "model", "hold"})

    def __init__(self, settings: RoutingSettings, services: Services) -> None:
        super().__init__(settings, services)
        self._clock: Clock = services.clock
        self._states: UpstreamStates = services.states
        self._states.use(settings.breaker())
        self._means = Means(services, settings, self._state_of)
        self._conversations = Conversations(seconds=settings.sticky_seconds, entries_max=settings.sticky_entries_max)
        self._draw = Random()  # noqa: S311 - it spreads load and guards nothing.

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        model = exchange.model
        if model is None or exchange.hold is None:
            return await call_next(exchange)
        exchange.route = Route()
        quote, identity = exchange.quote, exchange.identity
        candidates = model.candidates if quote is None or not quote.candidates else quote.candidates
        if not candidates:
            raise Refusal("model_not_available", f"No upstream for '{model.name}' is configured.", param="model")
        if identity is not None and identity.provider_credential:
            only = Admitted(model.candidates[0], None, REFUSED)
            return self._final(exchange, model, await self._means.attempts.make(exchange, only, call_next))
        conversation: bytes | None = None
        order: Sequence[Candidate] = candidates
        if len(candidates) > 1:
            conversation, order = self._order(exchange, model, candidates)
        response = await Search(self._means, exchange, model, order).run(call_next)
        if response is None:
            states = [self._state_of(candidate) for candidate in candidates]
            raise all_closed_off(exchange, model, candidates, states, self._clock.monotonic())
        answer = self._final(exchange, model, response)
        if conversation is not None and exchange.route.current.outcome == "served":
            served = exchange.route.current.candidate
            self._conversations.note(conversation, served.upstream, served.upstream_model, self._clock.monotonic())
        return answer

    def _state_of(self, candidate: Candidate) -> CandidateState:
        """Circuit, speed and load of one."""
        return self._states.candidate(candidate.upstream, candidate.upstream_model)

    def _order(
        self, exchange: Exchange, model: Model, candidates: Sequence[Candidate]
    ) -> tuple[bytes | None, Sequence[Candidate]]:
        """The conversation where it matters, and the candidates in the order in which they are tried."""
        now = self._clock.monotonic()
        order = ranked(model, candidates, exchange.quote, state_of=self._state_of, now=now, draw=self._draw)
        call, identity = exchange.call, exchange.identity
        if not model.sticky or call is None or identity is None:
            return None, order
        conversation = conversation_of(
            identity.key_id, model.name, exchange.request.headers, self.settings.session_headers, call.document
        )
        if conversation is None or (known := self._conversations.served_by(conversation, now)) is None:
            return conversation, order
        return conversation, preferred(order, *known)

    def _final(self, exchange: Exchange, model: Model, response: Response) -> Response:
        """What the caller gets of the last attempt. Raises Refusal for a failure that is not the caller's own."""
        route, call = exchange.route, exchange.call
        if route is None or call is None:
            return response
        tried = route.current
        if tried.outcome in OURS:
            return response
        own = exchange.identity is not None and exchange.identity.provider_credential
        if tried.outcome == "served":
            if response.stream is not None and call.stream and not call.wants_usage:
                withhold_usage(response, call.dialect)
            if model.lane and not own:
                response.headers[ROUTE_MODEL] = model.served_as(tried.candidate)
            return response
        if tried.outcome == "status" and (own or response.status in CALLERS_FAULT):
            return response
        if tried.outcome == "garbage" and own and response.status < 300:
            return response  # An error with 200, or whatever else its own provider says to it.
        if model.byo and tried.outcome == "status":
            refused = own_key_refused(model, tried.candidate, response.status)
            if refused is not None:
                raise refused
        if of_consortium(model, model.candidates) and (tried.outcome != "status" or response.status >= 500):
            raise no_machine(exchange, model, model.candidates, RETRY_AFTER_SECONDS)
        raise exhausted(exchange, response, tried)


PLUGIN = RoutingPlugin
