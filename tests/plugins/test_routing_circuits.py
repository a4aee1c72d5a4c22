"""Routing past what is down: circuits, places of attempts, stickiness, what a caller reads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from plugins.routing.plugin import RoutingPlugin
from proxy.catalogue import Candidate, Strategy
from proxy.errors import Refusal
from proxy.exchange import Exchange, Finish, Response
from proxy.upstreams.breakers import BreakerSettings, CircuitState
from tests.plugins.test_routing import CONTENT, DONE, Upstreams, build, held, stream, whole
from tests.support.fakes import generation, model

MODEL = "gpt-4o-upstream"


class Scripted:
    """Upstreams by name: each answers as it is told to, again and again."""

    def __init__(self, **outcomes: Any) -> None:
        self.outcomes = outcomes
        self.called: list[str] = []

    async def __call__(self, seen: Exchange) -> Response:
        assert seen.route is not None
        tried = seen.route.current
        name = tried.candidate.upstream
        self.called.append(name)
        outcome = self.outcomes.get(name, 200)
        if isinstance(outcome, str):
            tried.outcome = outcome
            return whole(502)
        response = outcome if isinstance(outcome, Response) else whole(outcome)
        tried.status = response.status
        tried.outcome = "served" if response.status < 300 else "status"
        return response

    def calls(self) -> list[str]:
        """Since last asked."""
        called, self.called = self.called, []
        return called


def state(plugin: RoutingPlugin, upstream: str) -> CircuitState:
    return plugin.services.states.candidate(upstream, MODEL).breaker.state


async def failed(plugin: RoutingPlugin, seen: Exchange, upstreams: Scripted) -> Refusal:
    with pytest.raises(Refusal) as refused:
        await plugin(seen, upstreams)
    return refused.value


async def test_dead_candidate_is_passed_over_once_its_circuit_is_open() -> None:
    """Until then the other one serves after it; no request fails."""
    plugin, upstreams = build(), Scripted(a="connect_failed")
    for _ in range(3):
        assert (await plugin(held("a", "b"), upstreams)).status == 200
    assert upstreams.calls() == ["a", "a", "b", "a", "a", "b", "a", "b"]
    assert state(plugin, "a") is CircuitState.OPEN
    await plugin(held("a", "b"), upstreams)
    assert upstreams.calls() == ["b"]
    assert plugin.services.metrics.circuits == [("a", "failing")]
    assert "circuit_opened" in plugin.services.log.names()


async def test_one_trial_brings_it_back() -> None:
    """After its time one request tries it; until then, and while that is under way, others go elsewhere."""
    plugin, upstreams = build(), Scripted(a="broken")
    for _ in range(3):
        await plugin(held("a", "b"), upstreams)
    plugin.services.clock.advance(60)
    await plugin(held("a", "b"), upstreams)
    assert upstreams.calls()[-2:] == ["a", "b"]
    assert state(plugin, "a") is CircuitState.OPEN
    plugin.services.clock.advance(60)
    upstreams.outcomes.clear()
    await plugin(held("a", "b"), upstreams)
    assert (upstreams.calls(), state(plugin, "a")) == (["a"], CircuitState.CLOSED)
    assert plugin.services.metrics.circuits == [("a", "failing"), ("a", "failing again"), ("a", "closed")]


async def test_every_circuit_open_is_503_with_the_soonest_trial() -> None:
    """In the public words, with the upstream's name in none of them."""
    plugin, upstreams = build(), Scripted(a="connect_failed", b="connect_failed")
    first = await failed(plugin, held("a", "b"), upstreams)
    assert first.code == "upstream_unavailable"
    for _ in range(6):
        last = await failed(plugin, held("a", "b"), upstreams)
    assert (last.code, last.status, last.wire_headers()["retry-after"]) == ("upstream_circuit_open", 503, "60")
    assert "a" not in last.message.split()
    upstreams.calls()
    plugin.services.clock.advance(50.5)
    refused = await failed(plugin, held("a", "b"), upstreams)
    assert (refused.wire_headers()["retry-after"], upstreams.calls()) == ("10", [])


async def test_lane_is_named_to_whoever_has_nothing_left() -> None:
    """A smart route picks a different upstream."""
    plugin, upstreams = build(circuit_failures=1), Scripted(a=500)
    seen = held("a")
    await failed(plugin, seen, upstreams)
    models = {"gpt-4o": seen.model, "smart-route": replace(model("smart-route"), lane=True)}
    seen = held("a")
    seen.generation = generation(models=models)  # type: ignore[arg-type]
    assert "'smart-route'" in (await failed(plugin, seen, upstreams)).message


@pytest.mark.parametrize("status", [400, 413, 422, 404, 403, 402, 409])
async def test_callers_faults_open_nothing(status: int) -> None:
    """However often: one caller cannot close an upstream to the others."""
    plugin, upstreams = build(attempts_max=1), Scripted(a=status)
    for _ in range(80):
        try:
            await plugin(held("a"), upstreams)
        except Refusal as refusal:
            assert refusal.code == "upstream_error"
    assert state(plugin, "a") is CircuitState.CLOSED


@pytest.mark.parametrize("status", [401, 402, 403, 404, 307])
async def test_what_our_account_lacks_at_one_may_be_had_at_the_next(status: int) -> None:
    """Once there, and then elsewhere: the same one would say the same."""
    plugin, upstreams = build(), Scripted(a=status)
    assert (await plugin(held("a", "b"), upstreams)).status == 200
    assert upstreams.calls() == ["a", "b"]


async def test_429_with_a_time_closes_it_off_at_once_and_says_429() -> None:
    """The upstream's cap surfaces as ours does."""
    plugin, upstreams = build(), Scripted(a=whole(429, b"", **{"retry-after": "30"}))
    assert (await failed(plugin, held("a"), upstreams)).code == "rate_limited"
    assert upstreams.calls() == ["a"]
    plugin.services.clock.advance(10)
    refused = await failed(plugin, held("a"), upstreams)
    assert (refused.code, refused.wire_headers()["retry-after"], upstreams.calls()) == ("rate_limited", "20", [])
    plugin.services.clock.advance(20)
    upstreams.outcomes.clear()
    assert (await plugin(held("a"), upstreams)).status == 200


async def test_candidate_passed_over_takes_no_place_of_another() -> None:
    """Two that ask for a long wait leave the third its attempt."""
    limited = {"retry-after": "30"}
    upstreams = Scripted(a=whole(429, b"", **limited), b=whole(429, b"", **limited))
    plugin = build(attempts_max=3, circuit_retry_after_seconds_max=0)
    assert (await plugin(held("a", "b", "c"), upstreams)).status == 200
    assert upstreams.calls() == ["a", "b", "c"]


async def test_every_candidate_is_tried_before_one_is_tried_twice_too_often() -> None:
    """Two of three are down: the third serves within three calls."""
    upstreams = Scripted(a="broken", b=500)
    assert (await build()(held("a", "b", "c"), upstreams)).status == 200
    assert upstreams.calls() == ["a", "b", "c"]


async def test_silent_to_its_deadline_is_not_asked_again_while_there_is_another() -> None:
    """One deadline is enough to wait for."""
    upstreams = Scripted(a="first_byte_timeout")
    assert (await build()(held("a", "b"), upstreams)).status == 200
    assert upstreams.calls() == ["a", "b"]


async def test_own_provider_key_neither_asks_nor_feeds_circuits() -> None:
    """Its limits are its own."""
    plugin, upstreams = build(), Scripted(a=whole(429, b"", **{"retry-after": "30"}))
    for _ in range(9):
        assert (await plugin(held("a", own=True), upstreams)).status == 429
    assert state(plugin, "a") is CircuitState.CLOSED


async def test_calls_under_way_are_counted_to_the_end_of_a_stream() -> None:
    """A whole answer ends with its call, a stream with its exchange."""
    plugin = build()
    under_way = plugin.services.states.candidate("a", MODEL)
    await plugin(held("a"), Scripted())
    assert under_way.in_flight == 0
    seen = held("a", stream=True)
    await plugin(seen, Upstreams(("served", stream(CONTENT, DONE))))
    assert under_way.in_flight == 1
    assert seen.finish(Finish.SERVED) == []
    assert under_way.in_flight == 0


async def test_streams_that_break_in_the_middle_open_it() -> None:
    """Nothing of them is retried; but half of all outcomes are failures then. Clients that leave are none."""
    plugin = build()
    for reason in (Finish.CLIENT_GONE, Finish.SERVED, Finish.DRAINED, Finish.UPSTREAM_FAILED):
        assert state(plugin, "a") is CircuitState.CLOSED
        for _ in range(20):
            if plugin.services.states.candidate("a", MODEL).breaker.ready(plugin.services.clock.monotonic()):
                seen = held("a", stream=True)
                await plugin(seen, Upstreams(("served", stream(CONTENT, DONE))))
                seen.finish(reason)
        plugin.services.clock.advance(BreakerSettings().window_seconds + 1)
    assert plugin.services.states.candidate("a", MODEL).breaker.openings == 1
    assert plugin.services.metrics.circuits == [("a", "failing")]
    assert plugin.services.states.candidate("a", MODEL).in_flight == 0


# -- lanes, consortium, stickiness


def laned(*upstreams: str, **changes: Any) -> Exchange:
    """An exchange of a lane whose members are named after their upstreams."""
    seen = held(*upstreams)
    candidates = tuple(Candidate(name, MODEL, model=f"member-{name}") for name in upstreams)
    seen.model = replace(model(), **{"candidates": candidates, "lane": True, **changes})
    return seen


async def test_lane_says_which_model_served() -> None:
    """The member, not its upstream; a plain model says nothing."""
    plugin, upstreams = build(), Scripted(a=500)
    response = await plugin(laned("a", "b"), upstreams)
    assert response.headers["x-route-model"] == "member-b"
    assert "x-route-model" not in (await plugin(held("b"), upstreams)).headers


async def test_consortium_without_a_healthy_machine_is_its_own_503() -> None:
    """From the first failure on; the catalogue's own model of that name is what to call instead."""
    plugin, upstreams = build(circuit_failures=1), Scripted(p="connect_failed")
    for _ in range(2):
        seen = held("p")
        seen.generation = generation(models={"gpt-4o": model(), MODEL: model(MODEL)})
        seen.model = replace(model(upstreams=("p",)), name="consortium-x", consortium=True)
        refused = await failed(plugin, seen, upstreams)
        assert (refused.code, refused.status) == ("no_consortium_machine_available", 503)
        assert f"'{MODEL}'" in refused.message
        assert refused.retry_after_seconds is not None
    assert upstreams.calls() == ["p"]


async def test_lane_of_partners_alone_is_a_consortium() -> None:
    """Marked by its candidates."""
    plugin, upstreams = build(circuit_failures=1), Scripted(p=500)
    for _ in range(2):
        seen = held("p")
        candidates = (Candidate("p", MODEL, partner="partner-p"),)
        seen.model = replace(model(), candidates=candidates, lane=True)
        assert (await failed(plugin, seen, upstreams)).code == "no_consortium_machine_available"


async def test_conversation_stays_with_who_served_it_and_moves_on_with_health() -> None:
    """Though another is first in the file; a new conversation begins there."""
    plugin, upstreams = build(circuit_failures=1), Scripted(a=500)
    sticky: dict[str, Any] = {"sticky": True, "strategy": Strategy.PRIORITY}
    await plugin(laned("a", "b", **sticky), upstreams)
    upstreams.outcomes.clear()
    plugin.services.clock.advance(60)
    upstreams.calls()
    await plugin(laned("a", "b", **sticky), upstreams)
    assert upstreams.calls() == ["b"]
    other = laned("a", "b", **sticky)
    other.request.headers["x-session-id"] = "another"
    await plugin(other, upstreams)
    assert upstreams.calls() == ["a"]
    upstreams.outcomes["b"] = "broken"
    await plugin(laned("a", "b", **sticky), upstreams)
    upstreams.outcomes.clear()
    upstreams.calls()
    await plugin(laned("a", "b", **sticky), upstreams)
    assert upstreams.calls() == ["a"]


async def test_admissible_candidates_of_the_quote_are_the_only_ones() -> None:
    """What cannot serve the call is no candidate, however healthy."""
    from proxy.pricing.money import ZERO
    from proxy.pricing.quote import Quote

    upstreams, seen = Scripted(), held("a", "b")
    assert seen.model is not None
    seen.quote = Quote(1, 1, 1, ZERO, ZERO, candidates=seen.model.candidates[1:])
    await build()(seen, upstreams)
    assert upstreams.calls() == ["b"]


async def test_partner_is_noted_with_the_attempt() -> None:
    """Durable before its machine is called, whatever a reload makes of the upstream."""
    plugin, seen = build(), laned("p")
    assert seen.model is not None
    seen.model = replace(seen.model, candidates=(Candidate("p", MODEL, partner="partner-p"),))
    await plugin(seen, Scripted())
    assert [attempt.partner for attempt in plugin.services.ledger.attempts] == ["partner-p"]


async def test_crowd_at_our_own_limit_of_connections_opens_nothing() -> None:
    """It goes elsewhere, or is told to come back in a moment; what is served meanwhile is not closed off."""
    plugin, upstreams = build(), Scripted(a="busy")
    for _ in range(30):
        refused = await failed(plugin, held("a"), upstreams)
        assert (refused.code, refused.retry_after_seconds) == ("upstream_unavailable", 1)
    assert state(plugin, "a") is CircuitState.CLOSED
    upstreams.calls()
    await plugin(held("a", "b"), upstreams)
    assert upstreams.calls() == ["a", "b"]
