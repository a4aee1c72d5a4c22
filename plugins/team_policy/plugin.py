"""What the operator lets this caller do, merged from organisation, team, user and key; see policies/teams.yaml."""

from __future__ import annotations

import asyncio
from typing import Final

from proxy.catalogue import Model
from proxy.config.schema import Generation
from proxy.dialects.base import Call
from proxy.exchange import Exchange, Response
from proxy.operations import Target
from proxy.plugin import Next, Plugin, PluginSettings, Services, Stage
from proxy.policy.amendments import amended
from proxy.policy.callers import resolve
from proxy.policy.rules import Policy
from proxy.policy.verdicts import denied_address, denied_call, denied_path, denied_time

AMEND_ON_LOOP_BYTES_MAX: Final = 256 << 10
"""Larger bodies are changed and parsed again in a thread, off the event loop."""

_EXACT: Final = frozenset({Target.UPSTREAM, Target.LOCAL})
"""What the operation table took for exactly one path."""


class TeamPolicyPlugin(Plugin[PluginSettings]):
    """Establishes `policy` and enforces it: hours, addresses, paths, models; then amends the call.

    Content rules are left to `content_rules`. Anonymous callers have no rules: only open models are theirs.
    """

    name = "team_policy"
    stage = Stage.RESOLVE
    provides = frozenset({"policy"})
    requires = frozenset({"identity", "call", "model"})

    def __init__(self, settings: PluginSettings, services: Services) -> None:
        super().__init__(settings, services)
        self._provider_names = ProviderNames(services.generation)

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        if exchange.identity is None:
            return await call_next(exchange)
        policy = exchange.policy = resolve(exchange.generation, exchange.identity)
        if policy.scopes:
            self._check(exchange, policy)
            if exchange.call is not None and exchange.model is not None:
                exchange.call = await _amended(exchange, policy, exchange.call, exchange.model)
        return await call_next(exchange)

    def _check(self, exchange: Exchange, policy: Policy) -> None:
        target = exchange.operation.target
        denial = denied_time(policy, self.services.clock.now_ms()) or denied_address(policy, exchange.client_address)
        if denial is None and target is not Target.PLAIN:
            path, model = exchange.request.path, exchange.path_model
            denial = denied_path(policy, path, path_model=model, known=target in _EXACT)
        if denial is None and exchange.model is not None:
            denial = denied_call(policy, exchange.model, self._names(exchange, exchange.model))
        if denial is not None:
            raise denial.refusal()

    def _names(self, exchange: Exchange, model: Model) -> tuple[str, ...]:
        """All that the model is known by. With the client's own key it is the provider's name: ours for it, too."""
        if exchange.captured is None or exchange.identity is None or not exchange.identity.provider_credential:
            return (model.name,)
        if self._provider_names.generation is not exchange.generation:
            self._provider_names = ProviderNames(exchange.generation)
        return (model.name, *self._provider_names.of(exchange.captured.upstream, model.name))


class ProviderNames:
    """From an upstream and its own name for a model to the names of our catalogue. Made once a configuration."""

    def __init__(self, generation: Generation) -> None:
        self.generation = generation
        self._names: dict[tuple[str, str], set[str]] = {}
        for model in generation.catalogue.values():
            for candidate in () if model.lane else model.candidates:
                known = (candidate.upstream, candidate.upstream_model.casefold())
                self._names.setdefault(known, set()).add(model.name)

    def of(self, upstream: str, name: str) -> set[str]:
        """Ours for a model of this upstream, whatever its case."""
        return self._names.get((upstream, name.casefold()), set())


async def _amended(exchange: Exchange, policy: Policy, call: Call, model: Model) -> Call:
    own = exchange.identity is not None and exchange.identity.provider_credential
    field = None
    if own and exchange.captured is not None:
        upstream = exchange.generation.upstream(exchange.captured.upstream)
        field = None if upstream is None else upstream.output_field
    # A call on the client's own account may go out without any limit of ours.
    default = None if own else model.output_tokens_default
    if len(call.body) > AMEND_ON_LOOP_BYTES_MAX:
        return await asyncio.to_thread(amended, policy, call, limit_field=field, output_default=default)
    return amended(policy, call, limit_field=field, output_default=default)


PLUGIN = TeamPolicyPlugin
