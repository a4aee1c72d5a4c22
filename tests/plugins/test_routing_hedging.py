"""A second candidate beside a silent one: who wins, who is charged, what is closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
import pytest

from plugins.metering.plugin import MeteringPlugin, MeteringSettings
from plugins.routing.hedging import SAVED_MAX, Budget
from plugins.routing.plugin import RoutingPlugin
from plugins.spend_caps.settlement import settlement_of
from proxy.catalogue import Candidate
from proxy.exchange import Exchange, Finish, Response
from proxy.headers import Headers
from proxy.ledger.api import Hold, HoldRequest
from proxy.plugin import Next
from proxy.pricing.money import Nano
from proxy.pricing.quote import Quote
from proxy.upstreams.breakers import CircuitState
from tests.plugins.test_routing import CONTENT, DONE, USAGE, build, held, sent
from tests.support.fakes import RATES, model

MODEL = "gpt-4o-upstream"
SECONDS_MAX = 10.0
HELD = Nano(1_000_000)
ANSWER = orjson.dumps(
    {
        "id": "c",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10},
    }
)
COST = RATES.input * 9 // 10**9 + RATES.output // 10**9


class Body:
    """A stream that waits for leave before each piece."""

    def __init__(self, leave: asyncio.Event, *pieces: bytes) -> None:
        self.leave, self.pieces = leave, pieces
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            await self.leave.wait()
            yield piece

    async def aclose(self) -> None:
        self.closed = True


class Upstreams:
    """The terminal: each upstream answers once it has leave; what came of every call is kept."""

    def __init__(self, *, stream: bool = False) -> None:
        self.stream = stream
        self.leave: dict[str, asyncio.Event] = {name: asyncio.Event() for name in "abc"}
        self.status: dict[str, int] = {}
        self.called: list[str] = []
        self.cancelled: list[str] = []
        self.bodies: dict[str, Body] = {}
        self.arrived = asyncio.Condition()

    async def __call__(self, seen: Exchange) -> Response:
        assert seen.route is not None
        tried = seen.route.current
        name = tried.candidate.upstream
        self.called.append(name)
        async with self.arrived:
            self.arrived.notify_all()
        status = self.status.get(name, 200)
        if self.stream:
            body = self.bodies[name] = Body(self.leave[name], CONTENT, USAGE, DONE)
            seen.streams.append(body)
            tried.outcome, tried.status = "served", 200
            return Response(200, Headers({"content-type": "text/event-stream"}), stream=body, sse=True)
        try:
            await self.leave[name].wait()
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        tried.outcome, tried.status = ("served" if status < 300 else "status"), status
        return Response(status, Headers({"content-type": "application/json"}), ANSWER)

    async def until(self, *called: str) -> None:
        """Until exactly these were called."""
        async with self.arrived:
            await asyncio.wait_for(self.arrived.wait_for(lambda: self.called == list(called)), SECONDS_MAX)


def rest(upstreams: Upstreams, plugin: RoutingPlugin) -> Next:
    """Metering around the upstreams, as in a real chain."""
    metering = MeteringPlugin(MeteringSettings(), plugin.services)

    async def metered(seen: Exchange) -> Response:
        return await metering(seen, upstreams)

    return metered


def hedging(*upstreams: str, stream: bool = False) -> Exchange:
    """An exchange whose model hedges, with a hold for two."""
    seen = held(*upstreams, stream=stream)
    candidates = tuple(Candidate(name, MODEL, model=f"member-{name}") for name in upstreams)
    seen.model = replace(model(), candidates=candidates, lane=True, hedge=True)
    seen.quote = Quote(50, 10, 1, HELD, Nano(2 * HELD), candidates=candidates)
    seen.hold = Hold(1, HoldRequest("x", "k", "u", "t", "o", "m", "chat", HELD, Nano(2 * HELD), (), 0))
    return seen


def ready(percent: int = 50, *, p95: float = 0.001) -> RoutingPlugin:
    """A plugin that knows how fast `a` is, with two hedges saved up."""
    plugin = build(hedge_percent_max=percent)
    state = plugin.services.states.candidate("a", MODEL)
    for _ in range(20):
        state.first_content(p95, stream=False)
        state.first_content(p95, stream=True)
    for _ in range(4):
        plugin._means.budget.bring()
    return plugin


def outcomes(seen: Exchange) -> list[tuple[str, str]]:
    assert seen.route is not None
    return [(tried.candidate.upstream, tried.outcome) for tried in seen.route.tries]


async def finished(seen: Exchange) -> Any:
    """As the driver ends it; returns the settlement."""
    for closing in seen.before_finish:
        await closing()
    assert seen.finish(Finish.SERVED) == []
    assert seen.hold is not None
    return settlement_of(seen, seen.hold, Finish.SERVED, 0)


async def test_second_answers_for_a_silent_first() -> None:
    """One charge, by the second's usage; the first is cancelled and counts at list as all that it may have done."""
    plugin, upstreams, seen = ready(), Upstreams(), hedging("a", "b")
    upstreams.leave["b"].set()
    response = await asyncio.wait_for(plugin(seen, rest(upstreams, plugin)), SECONDS_MAX)
    assert (response.status, response.headers["x-route-model"]) == (200, "member-b")
    assert (outcomes(seen), upstreams.cancelled) == ([("a", "hedge_lost"), ("b", "served")], ["a"])
    settlement = await finished(seen)
    assert seen.usage is not None and seen.usage.output_tokens == 1
    assert (settlement.charged, settlement.list) == (COST, COST + HELD)
    assert [one.list_cost for one in settlement.attempts] == [HELD, COST]
    assert plugin.services.metrics.hedges == ["won"]
    assert [state.in_flight for state in plugin.services.states.circuits_of("a")] == [0]
    assert len(plugin.services.ledger.attempts) == 2


async def test_first_may_still_win() -> None:
    """Then the second is the one that is cancelled; the winner stands last in the route."""
    plugin, upstreams, seen = ready(), Upstreams(), hedging("a", "b")
    task = asyncio.create_task(plugin(seen, rest(upstreams, plugin)))
    await upstreams.until("a", "b")
    upstreams.leave["a"].set()
    response = await asyncio.wait_for(task, SECONDS_MAX)
    assert response.headers["x-route-model"] == "member-a"
    assert (outcomes(seen), upstreams.cancelled) == ([("b", "hedge_lost"), ("a", "served")], ["b"])
    assert (await finished(seen)).charged == COST
    assert plugin.services.metrics.hedges == ["lost"]


async def test_losing_stream_is_closed_and_the_winning_one_metered() -> None:
    """First content decides, not the head."""
    plugin, upstreams, seen = ready(), Upstreams(stream=True), hedging("a", "b", stream=True)
    upstreams.leave["b"].set()
    response = await asyncio.wait_for(plugin(seen, rest(upstreams, plugin)), SECONDS_MAX)
    assert (upstreams.bodies["a"].closed, upstreams.bodies["b"].closed) == (True, False)
    assert upstreams.bodies["b"] in seen.streams
    assert await sent(response) == CONTENT + DONE
    settlement = await finished(seen)
    assert seen.usage is not None and (seen.usage.input_tokens, seen.usage.output_tokens) == (9, 1)
    assert (settlement.charged, outcomes(seen)) == (COST, [("a", "hedge_lost"), ("b", "served")])


async def test_answer_within_the_usual_time_calls_nobody_else() -> None:
    """One attempt, as without a hedge."""
    plugin, upstreams, seen = ready(p95=30.0), Upstreams(), hedging("a", "b")
    upstreams.leave["a"].set()
    await asyncio.wait_for(plugin(seen, rest(upstreams, plugin)), SECONDS_MAX)
    assert (upstreams.called, plugin.services.metrics.hedges) == (["a"], [])
    assert (await finished(seen)).charged == COST


async def test_first_that_fails_ends_no_race() -> None:
    """The second goes on, and its answer counts."""
    plugin, upstreams, seen = ready(), Upstreams(), hedging("a", "b")
    upstreams.status["a"] = 500
    task = asyncio.create_task(plugin(seen, rest(upstreams, plugin)))
    await upstreams.until("a", "b")
    upstreams.leave["a"].set()
    await asyncio.sleep(0)
    upstreams.leave["b"].set()
    assert (await asyncio.wait_for(task, SECONDS_MAX)).status == 200
    assert outcomes(seen) == [("a", "status"), ("b", "served")]
    settlement = await finished(seen)
    assert (settlement.charged, settlement.list) == (COST, COST)


@pytest.mark.parametrize(("status", "called"), [(500, ["a", "b"]), (200, ["a"]), (400, ["a"])])
async def test_first_that_ends_while_the_second_is_noted(status: int, called: list[str]) -> None:
    """An answer leaves the second uncalled, and costing nothing; a failure does not use it up."""
    plugin, upstreams, seen = ready(), Upstreams(), hedging("a", "b")
    upstreams.status["a"] = status
    upstreams.leave["b"].set()
    ledger = plugin.services.ledger
    dispatch = ledger.dispatch

    async def slowly(hold: Hold, **fields: Any) -> Any:
        if ledger.attempts:
            upstreams.leave["a"].set()
            for _ in range(5):
                await asyncio.sleep(0)
        return await dispatch(hold, **fields)

    ledger.dispatch = slowly
    response = await asyncio.wait_for(plugin(seen, rest(upstreams, plugin)), SECONDS_MAX)
    assert (response.status, upstreams.called) == (400 if status == 400 else 200, called)
    settlement = await finished(seen)
    assert (settlement.charged, settlement.list) == ((0, 0) if status == 400 else (COST, COST))
    assert [state.in_flight for name in "ab" for state in plugin.services.states.circuits_of(name)] == [0, 0]


async def test_client_that_leaves_is_no_reason_to_give_up_the_other() -> None:
    """One fails, the other's answer is read on for its usage: leaving is no discount."""
    plugin, upstreams, seen = ready(), Upstreams(), hedging("a", "b")
    upstreams.status["a"] = 500
    task = asyncio.create_task(plugin(seen, rest(upstreams, plugin)))
    await upstreams.until("a", "b")
    seen.client_gone = True
    upstreams.leave["a"].set()
    await asyncio.wait({task}, timeout=0.02)
    upstreams.leave["b"].set()
    await asyncio.wait_for(task, SECONDS_MAX)
    assert (await finished(seen)).charged == COST


async def test_where_both_fail_a_third_is_tried() -> None:
    """A race takes two of the places."""
    plugin, upstreams, seen = ready(), Upstreams(), hedging("a", "b", "c")
    upstreams.status = {"a": 500, "b": 500}
    for leave in upstreams.leave.values():
        leave.set()
    upstreams.leave["a"].clear()
    task = asyncio.create_task(plugin(seen, rest(upstreams, plugin)))
    await upstreams.until("a", "b")
    upstreams.leave["a"].set()
    assert (await asyncio.wait_for(task, SECONDS_MAX)).status == 200
    assert sorted(outcomes(seen)[:2]) == [("a", "status"), ("b", "status")]
    assert outcomes(seen)[2] == ("c", "served")


async def test_callers_own_fault_is_answered_by_whoever_says_it_first() -> None:
    """The other would say the same."""
    plugin, upstreams, seen = ready(), Upstreams(), hedging("a", "b")
    upstreams.status["b"] = 400
    upstreams.leave["b"].set()
    assert (await asyncio.wait_for(plugin(seen, rest(upstreams, plugin)), SECONDS_MAX)).status == 400
    assert outcomes(seen) == [("a", "hedge_lost"), ("b", "status")]
    assert (await finished(seen)).charged == 0


async def test_cancellation_ends_both_and_counts_them_in_full() -> None:
    """The driver gave up: nobody knows what either did."""
    plugin, upstreams, seen = ready(), Upstreams(), hedging("a", "b")
    task = asyncio.create_task(plugin(seen, rest(upstreams, plugin)))
    await upstreams.until("a", "b")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(upstreams.cancelled) == ["a", "b"]
    assert seen.finish(Finish.CLIENT_GONE) == []
    assert seen.hold is not None
    settlement = settlement_of(seen, seen.hold, Finish.CLIENT_GONE, 0)
    assert (settlement.charged, settlement.list) == (HELD, 2 * HELD)
    assert [state.in_flight for name in "ab" for state in plugin.services.states.circuits_of(name)] == [0, 0]


async def test_callbacks_of_either_attempt_run_exactly_once() -> None:
    """A plugin within an attempt may rely on `on_finish`, whoever wins."""
    plugin, upstreams, seen = ready(), Upstreams(), hedging("a", "b")
    ended: list[tuple[str, Finish]] = []

    async def counted(one: Exchange) -> Response:
        assert one.route is not None
        name = one.route.current.candidate.upstream
        one.on_finish(lambda reason: ended.append((name, reason)))
        return await upstreams(one)

    upstreams.leave["b"].set()
    await asyncio.wait_for(plugin(seen, counted), SECONDS_MAX)
    assert ended == [("a", Finish.UPSTREAM_FAILED)]
    seen.finish(Finish.SERVED)
    seen.finish(Finish.SERVED)
    assert ended == [("a", Finish.UPSTREAM_FAILED), ("b", Finish.SERVED)]


async def test_trial_that_loses_its_hedge_is_no_recovery() -> None:
    """Or each request in turn would wait for it."""
    plugin, upstreams, seen = ready(), Upstreams(), hedging("a", "b")
    breaker = plugin.services.states.candidate("a", MODEL).breaker
    now = plugin.services.clock.monotonic()
    for _ in range(5):
        breaker.failed(breaker.admit(now), now)
    plugin.services.clock.advance(60)
    upstreams.leave["b"].set()
    await asyncio.wait_for(plugin(seen, rest(upstreams, plugin)), SECONDS_MAX)
    assert outcomes(seen) == [("a", "hedge_lost"), ("b", "served")]
    assert (breaker.state, breaker.openings) == (CircuitState.OPEN, 2)


@pytest.mark.parametrize("lacking", ["samples", "budget", "other", "setting"])
async def test_without_samples_budget_or_another_candidate_there_is_no_hedge(lacking: str) -> None:
    """One call, waited for."""
    plugin, upstreams = ready(percent=0 if lacking == "setting" else 50), Upstreams()
    seen = hedging("a") if lacking == "other" else hedging("a", "b")
    if lacking == "samples":
        plugin.services.states._candidates.clear()
    while lacking == "budget" and plugin._means.budget.take():
        continue
    if lacking == "budget":
        plugin._means.budget = Budget(1)
    task = asyncio.create_task(plugin(seen, rest(upstreams, plugin)))
    await upstreams.until("a")
    await asyncio.wait({task}, timeout=0.02)
    assert upstreams.called == ["a"]
    upstreams.leave["a"].set()
    assert (await asyncio.wait_for(task, SECONDS_MAX)).status == 200


def test_budget_is_a_share_of_the_traffic() -> None:
    """Never more than its percentage, from the first request on; quiet times save up a few."""
    budget, hedges = Budget(5), 0
    for number in range(1, 1001):
        if budget.bring() and budget.take():
            hedges += 1
        assert hedges * 100 <= 5 * number
    assert hedges == 50
    for _ in range(10_000):
        budget.bring()
    assert sum(budget.take() for _ in range(100)) == SAVED_MAX
