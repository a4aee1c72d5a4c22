"""What the operator lets this caller do, merged from organisation, team, user and key."""

from __future__ import annotations

from proxy.exchange import Exchange, Response
from proxy.plugin import Next, Plugin, PluginSettings, Stage
from proxy.policy import NO_RULES


class TeamPolicyPlugin(Plugin[PluginSettings]):
    """Establishes `policy`."""

    name = "team_policy"
    stage = Stage.RESOLVE
    provides = frozenset({"policy"})
    requires = frozenset({"identity", "call", "model"})

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        exchange.policy = NO_RULES
        return await call_next(exchange)


PLUGIN = TeamPolicyPlugin
