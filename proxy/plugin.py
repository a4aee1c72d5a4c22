"""All that the author of a plugin needs: `Plugin`, `PluginSettings`, `Stage`, `Next`, `Services`.

A plugin is one link of the chain: an async callable `(exchange, call_next) -> Response`. It may answer
at once, change the request, or shape the response that `call_next` returned.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from proxy.exchange import Exchange, Response

if TYPE_CHECKING:
    from fastapi import APIRouter

    from proxy.config.schema import Generation

Next = Callable[[Exchange], Awaitable[Response]]


class Stage(IntEnum):
    """Where a plugin stands, outermost first. Within a stage config.yaml decides."""

    OBSERVE = 0
    """Sees every exchange, refusals before the chain included: log, metrics, CORS."""
    GUARD = 1
    """Before anyone is known: limits by IP."""
    IDENTIFY = 2
    RESOLVE = 3
    """Which call and which model."""
    LIMIT = 4
    """Limits by key, user, team."""
    PRICE = 5
    PAY = 6
    """A hold on the way in, settled on the way out."""
    ROUTE = 7
    """Chooses candidates and calls the rest once per attempt."""
    METER = 8
    """Around each single upstream attempt."""


class PluginSettings(BaseModel):
    """Base of a plugin's settings in config.yaml. Unknown keys are errors; values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Services(Protocol):
    """What the gateway hands to a plugin's constructor. A plugin reads only what it needs."""

    @property
    def clock(self) -> Any: ...
    @property
    def metrics(self) -> Any: ...
    @property
    def log(self) -> Any: ...
    @property
    def ledger(self) -> Any: ...
    @property
    def keys(self) -> Any: ...
    @property
    def counters(self) -> Any: ...
    @property
    def upstreams(self) -> Any: ...
    @property
    def states(self) -> Any: ...
    @property
    def byo(self) -> Any: ...
    @property
    def inward(self) -> Any:
        """`proxy.inward.Inward`: exchanges of our own, for the holder of a key."""
        ...

    @property
    def webhooks(self) -> Any:
        """`proxy.webhooks.service.Webhooks`: tell the holder of a key of what happened."""
        ...

    @property
    def once(self) -> Any:
        """`proxy.idempotency.service.Once`: answers that are given again under the same Idempotency-Key."""
        ...

    @property
    def conversations(self) -> Any:
        """`proxy.conversations.service.Conversations`: what a caller and a panel said to each other."""
        ...

    @property
    def rails(self) -> Any:
        """`proxy.payments.rails.Rails`; None where nobody is asked to pay."""
        ...

    @property
    def generation(self) -> Any: ...


class Plugin[S: PluginSettings](ABC):
    """One link of the chain.

    `provides` and `requires` name facts of the exchange on the way in, checked at start in stage order;
    `observes` names facts it reads only after `call_next` or when the exchange ends.
    """

    name: ClassVar[str]
    stage: ClassVar[Stage]
    Settings: ClassVar[type[PluginSettings]] = PluginSettings
    provides: ClassVar[frozenset[str]] = frozenset()
    requires: ClassVar[frozenset[str]] = frozenset()
    observes: ClassVar[frozenset[str]] = frozenset()
    precedes: ClassVar[frozenset[str]] = frozenset()
    """Plugins, by name, that must not stand before it: it is to see what they leave of an answer."""
    enforces: ClassVar[frozenset[str]] = frozenset()
    """Kinds of rules of teams.yaml that nobody else sees to: `content`. Where one stands, the chain must have it."""

    def __init__(self, settings: S, services: Services) -> None:
        self.settings = settings
        self.services = services

    @abstractmethod
    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        """Serve the exchange. `call_next` is the rest of the chain; not calling it forwards nothing."""

    async def start(self) -> None:
        """Called once before the first exchange, on the event loop."""

    async def stop(self) -> None:
        """Called once after the last exchange."""

    def follow(self, generation: Generation) -> None:
        """Called after a reload, on the event loop, before the first exchange of the new configuration.

        Only for what a plugin keeps between exchanges: each exchange carries its own `exchange.generation`.
        """

    def router(self) -> APIRouter | None:
        """Endpoints of its own, mounted beside the built-in ones."""
        return None
