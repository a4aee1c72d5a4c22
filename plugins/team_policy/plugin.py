"""What the operator lets this caller do, merged from organisation, team, user and key; see policies/teams.yaml."""

from __future__ import annotations

import asyncio
from typing import Final

from proxy.catalogue import Model
from proxy.dialects.base import Call
from proxy.exchange import Exchange, Response
from proxy.operations import Target
from proxy.plugin import Next, Plugin, PluginSettings, Stage
from proxy.policy.amendments import amended
from proxy.policy.callers import resolve
from proxy.policy.known_as import meant_names, provider_names
from proxy.policy.rules import Policy
from proxy.policy.verdicts import denied_address, denied_call, denied_path, denied_time, denied_unread

AMEND_ON_LOOP_BYTES_MAX: Final = 256 << 10
"""Larger bodies are changed and parsed again in a thread, off the event loop."""

_EXACT: Final = frozenset({Target.UPSTREAM, Target.LOCAL})
"""What the operation table took for exactly one path."""
_SAFE: Final = ("GET", "HEAD", "OPTIONS")


class TeamPolicyPlugin(Plugin[PluginSettings]):
    """Establishes `policy` and enforces it: hours, addresses, paths, models; then amends the call.

    Content rules are left to `content_rules`. Anonymous callers have no rules: only open models are theirs.
    """

    name = "team_policy"
    stage = Stage.RESOLVE
    provides = frozenset({"policy"})
    requires = frozenset({"identity", "call", "model"})

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
            if denial is None and _is_unread(exchange):
                denial = denied_unread(policy, path)
        if denial is None and exchange.model is not None and policy.restricts_models:
            denial = denied_call(policy, exchange.model, *_names(exchange, exchange.model))
        if denial is not None:
            raise denial.refusal()


def _is_unread(exchange: Exchange) -> bool:
    """Something is sent to a provider that nobody here looks into."""
    target = exchange.operation.target
    return target is Target.WEBSOCKET or (target is Target.UNMETERED and exchange.request.method not in _SAFE)


def _names(exchange: Exchange, model: Model) -> tuple[tuple[str, ...], set[str]]:
    """All that the model is known by, and all that it may be denied as.

    With the client's own key it is the provider's name: ours for it, too.
    """
    if exchange.captured is None or exchange.identity is None or not exchange.identity.provider_credential:
        return (model.name,), meant_names(exchange.generation, model)
    names, upstream = provider_names(exchange.generation), exchange.captured.upstream
    return (model.name, *names.of(upstream, model.name)), names.meant(model.name, upstream)


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
