"""The plugins in order, as one callable; the only place where any exception is caught.

Fail closed: whatever a link raises becomes an answer at that link, and nothing further in runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from proxy import discovery
from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.plugin import Next, Plugin, Stage

PRICED_FACTS = ("identity", "call", "model", "policy", "quote", "hold", "route")
"""What must be known before a provider is called on our account. Usage is checked for at start only."""


class ChainError(Exception):
    """The configured chain cannot be built; the message says which plugin is missing or misplaced."""


def ordered(plugins: Sequence[Plugin[Any]]) -> list[Plugin[Any]]:
    """The plugins in stage order, config.yaml's order within a stage."""
    return sorted(plugins, key=lambda plugin: plugin.stage)


def check(plugins: Sequence[Plugin[Any]]) -> None:
    """Refuse a chain in which a required fact is provided by nobody before it. Raises ChainError."""
    known: set[str] = set()
    names: set[str] = set()
    for plugin in ordered(plugins):
        if plugin.name in names:
            raise ChainError(f"plugin '{plugin.name}' stands in the chain twice: remove one")
        names.add(plugin.name)
        if missing := set(plugin.requires - known):
            raise ChainError(
                f"plugin '{plugin.name}' needs {_listed(missing)}, which no plugin before it provides{_remedy(missing)}"
            )
        known |= plugin.provides
    _check_order(ordered(plugins))
    for plugin in plugins:
        if missing := set(plugin.observes - known):
            raise ChainError(f"plugin '{plugin.name}' reads {_listed(missing)}, which no plugin provides")
    if missing := {*PRICED_FACTS, "usage"} - known:
        raise ChainError(f"priced operations need {_listed(missing)}, which no plugin provides{_remedy(missing)}")


def _check_order(plugins: Sequence[Plugin[Any]]) -> None:
    before: set[str] = set()
    for plugin in plugins:
        if early := plugin.precedes & before:
            raise ChainError(f"plugin '{plugin.name}' stands behind {_listed(early)}: put it before in the chain")
        before.add(plugin.name)


def _remedy(facts: set[str]) -> str:
    """Which of the plugins that ship provide it."""
    able = [name for name in discovery.built_in() if discovery.find(name).provides & facts]
    return f": add {_listed(able)} to the chain (the shipped config.yaml shows where)" if able else ""


def _listed(facts: Iterable[str]) -> str:
    return ", ".join(f"'{fact}'" for fact in sorted(facts))


def compose(plugins: Sequence[Plugin[Any]], end: Next, log: Any) -> Next:
    """One callable for the whole chain. `end` is what stands behind the last plugin."""
    rest = _guarded(end, log)
    for plugin in reversed(ordered(plugins)):
        rest = _guarded(_link(plugin, rest), log)
    return rest


def compose_observers(plugins: Sequence[Plugin[Any]], end: Next, log: Any) -> Next:
    """The OBSERVE stage alone, for exchanges refused before the chain."""
    return compose([plugin for plugin in plugins if plugin.stage is Stage.OBSERVE], end, log)


def _link(plugin: Plugin[Any], rest: Next) -> Next:
    async def link(exchange: Exchange) -> Response:
        return await plugin(exchange, rest)

    return link


def _guarded(link: Next, log: Any) -> Next:
    async def guarded(exchange: Exchange) -> Response:
        try:
            return await link(exchange)
        except Refusal as refusal:
            exchange.refusal = refusal
            dialect, local = exchange.operation.dialect, exchange.origin.loopback
            return Response.refused(refusal, dialect=dialect, for_operator=local)
        except (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            log.error("exchange_failed", request_id=exchange.request_id, exc_info=error)
            fault = internal_error(exchange.request_id)
            exchange.refusal = fault
            return Response.refused(fault, dialect=exchange.operation.dialect)

    return guarded


def internal_error(request_id: str) -> Refusal:
    """The answer to a fault of ours: says nothing but the id under which the log holds it."""
    return Refusal(
        "internal_error",
        f"Tollway failed on this request and forwarded nothing further. Report request id {request_id}.",
    )
