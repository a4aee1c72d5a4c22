"""The chain: order, facts, and what becomes of exceptions."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from proxy.chain import ChainError, check, compose, compose_observers, ordered
from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.plugin import Next, Plugin, PluginSettings, Stage
from tests.support.fakes import Log, exchange, origin

ALL = frozenset({"identity", "call", "model", "policy", "quote", "hold", "route", "usage"})


class RustPanic(BaseException):
    """As a library in Rust panics: not an Exception."""


def plugin(
    name: str,
    stage: Stage,
    *,
    provides: frozenset[str] = frozenset(),
    requires: frozenset[str] = frozenset(),
    observes: frozenset[str] = frozenset(),
    raises: BaseException | None = None,
) -> Plugin[PluginSettings]:
    """A link that adds its name to the answer's header `x-passed`."""
    facts = {"provides": provides, "requires": requires, "observes": observes}

    async def call(self: Any, seen: Exchange, call_next: Next) -> Response:
        if raises is not None:
            raise raises
        response = await call_next(seen)
        response.headers.add("x-passed", name)
        return response

    kind = type(name, (Plugin,), {"name": name, "stage": stage, "__call__": call, **facts})
    return kind(PluginSettings(), SimpleNamespace())  # type: ignore[no-any-return]


async def end(_: Exchange) -> Response:
    return Response.of(200, b"{}")


async def test_stage_orders_and_config_orders_within() -> None:
    """Outermost first by stage; the file's order among equals."""
    chain = [plugin("c", Stage.ROUTE), plugin("b", Stage.OBSERVE), plugin("a", Stage.OBSERVE)]
    assert [p.name for p in ordered(chain)] == ["b", "a", "c"]
    response = await compose(chain, end, Log())(exchange())
    assert response.headers.getall("x-passed") == ["c", "a", "b"]


async def test_refusal_becomes_an_answer_that_outer_links_still_dress() -> None:
    """CORS and the like are on every refusal."""
    chain = [plugin("outer", Stage.OBSERVE), plugin("no", Stage.GUARD, raises=Refusal("rate_limited", "Wait."))]
    seen = exchange()
    response = await compose(chain, end, Log())(seen)
    assert (response.status, response.headers["x-passed"]) == (429, "outer")
    assert seen.refusal is not None and seen.refusal.code == "rate_limited"


@pytest.mark.parametrize("fault", [ValueError("secret detail"), RustPanic("boom"), AssertionError()])
async def test_any_fault_is_500_with_the_request_id_and_nothing_further_in_runs(fault: BaseException) -> None:
    """Fail closed; the message holds the id and none of the detail."""
    called: list[Exchange] = []

    async def never(seen: Exchange) -> Response:
        called.append(seen)
        return Response.of(200, b"{}")

    log = Log()
    response = await compose([plugin("bad", Stage.GUARD, raises=fault)], never, log)(exchange())
    error = orjson.loads(response.body)["error"]
    assert (response.status, error["code"]) == (500, "internal_error")
    assert "req_test" in error["message"] and "secret" not in error["message"]
    assert (called, log.names()) == ([], ["exchange_failed"])


async def test_cancellation_passes_through() -> None:
    """A client that left is not answered."""
    chain = compose([plugin("gone", Stage.GUARD, raises=asyncio.CancelledError())], end, Log())
    with pytest.raises(asyncio.CancelledError):
        await chain(exchange())


async def test_observers_alone_see_what_was_refused_before_the_chain() -> None:
    """No other stage runs."""
    chain = [plugin("audit", Stage.OBSERVE), plugin("identity", Stage.IDENTIFY, raises=ValueError())]
    response = await compose_observers(chain, end, Log())(exchange())
    assert (response.status, response.headers.getall("x-passed")) == (200, ["audit"])


def test_complete_chain_is_accepted() -> None:
    """Every fact of a priced call is provided."""
    check([plugin("all", Stage.GUARD, provides=ALL)])


@pytest.mark.parametrize("fact", sorted(ALL))
def test_chain_that_leaves_a_priced_fact_to_nobody_does_not_start(fact: str) -> None:
    """Removing a plugin closes the priced path, never opens it."""
    with pytest.raises(ChainError, match=fact):
        check([plugin("some", Stage.GUARD, provides=ALL - {fact})])


def test_required_fact_must_come_from_before() -> None:
    """A provider further in is too late."""
    late = [plugin("early", Stage.GUARD, requires=ALL), plugin("late", Stage.PRICE, provides=ALL)]
    with pytest.raises(ChainError, match="early"):
        check(late)


def test_missing_fact_names_the_shipped_plugin_that_provides_it() -> None:
    """A configuration of an earlier version has no team_policy: its error says what to add."""
    with pytest.raises(ChainError, match="add 'team_policy' to the chain"):
        check([plugin("prices", Stage.PRICE, requires=frozenset({"policy"}))])
    with pytest.raises(ChainError, match="add 'team_policy' to the chain"):
        check([plugin("some", Stage.GUARD, provides=ALL - {"policy"})])


def test_same_plugin_twice_is_refused() -> None:
    """Two holds for one exchange would be one too many."""
    with pytest.raises(ChainError, match="twice"):
        check([plugin("all", Stage.GUARD, provides=ALL), plugin("all", Stage.GUARD)])


def test_plugin_that_must_see_what_others_leave_stands_before_them() -> None:
    """A webhook that stood behind concealment would name what it hides."""
    watching, hiding = plugin("webhooks", Stage.OBSERVE), plugin("conceal", Stage.OBSERVE)
    type(watching).precedes = frozenset({"conceal"})
    rest = plugin("all", Stage.GUARD, provides=ALL)
    check([watching, hiding, rest])
    with pytest.raises(ChainError, match="'webhooks' stands behind 'conceal'"):
        check([hiding, watching, rest])


async def test_note_to_the_operator_is_told_on_loopback_only() -> None:
    """How to mend what only the operator can mend: names of upstreams and variables reach no other caller."""
    refusal = Refusal("model_not_available", "Not here.", operator_note="To serve it: set SOME_API_KEY.")

    async def end(_: Exchange) -> Response:
        raise refusal

    told = {
        local: orjson.loads((await compose([], end, Log())(exchange(at=origin(loopback=local)))).body)["error"][
            "message"
        ]
        for local in (True, False)
    }
    assert told == {True: "Not here. To serve it: set SOME_API_KEY.", False: "Not here."}
