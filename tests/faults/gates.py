"""Plugins that stop an exchange at one point of its life, so that a fault can strike exactly there.

An exchange is stopped, for ever, at the gate that its model is named after.
"""

from __future__ import annotations

import asyncio
from typing import Any

from proxy.exchange import Exchange, Response
from proxy.plugin import Next, Plugin, PluginSettings, Stage


async def _stopped() -> None:
    await asyncio.Event().wait()


class _Gate(Plugin[PluginSettings]):
    def stops(self, exchange: Exchange) -> bool:
        """Whether this exchange goes no further."""
        return exchange.model is not None and exchange.model.name == self.name

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        if self.stops(exchange):
            await _stopped()
        return await call_next(exchange)


class Priced(_Gate):
    """After the quote, before the hold."""

    name = "priced"
    stage = Stage.PRICE


class Held(_Gate):
    """After the hold is durable, before an upstream is chosen."""

    name = "held"
    stage = Stage.PAY


class Dispatched(_Gate):
    """After the attempt is durable, before the upstream is called."""

    name = "dispatched"
    stage = Stage.METER


class Answered(_Gate):
    """After the upstream's whole answer is here, before any of it goes out."""

    name = "answered"
    stage = Stage.METER

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        response = await call_next(exchange)
        if self.stops(exchange):
            await _stopped()
        return response


GATES: tuple[str, ...] = tuple(f"{__name__}:{gate.__name__}" for gate in (Priced, Held, Dispatched, Answered))


def with_gates(chain: list[str | dict[str, Any]]) -> list[str | dict[str, Any]]:
    """The chain with every gate behind the plugins of its stage."""
    return [*chain, *GATES]
