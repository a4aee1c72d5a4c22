"""Calls of a run go through the rest of the chain, and every one of them is booked."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest

from plugins.consensus.calls import ChainCalls
from proxy.consensus.api import CallFailed, CallSpec, Delta, Role
from proxy.consensus.settings import Seat
from proxy.dialects import DIALECTS
from proxy.exchange import Exchange, Finish, Response
from proxy.forwarding import PANEL_DEPTH
from proxy.headers import Headers
from proxy.ledger.api import Hold, HoldRequest
from proxy.pricing.money import ZERO
from proxy.routes import Route, Try
from proxy.usage import Usage
from tests.support.fakes import CHAT_BODY, Chunks, exchange, generation, identity, model
from tests.support.ledger import MemoryLedger

SEAT = Seat("gpt-4o#2", "gpt-4o", "openai", "gpt-4o")


def spec(**changes: Any) -> CallSpec:
    fields: dict[str, Any] = {
        "seat": SEAT,
        "role": Role.JUDGE,
        "round": 1,
        "messages": ({"role": "user", "content": "Which?"},),
        "output_tokens": 50,
    }
    return CallSpec(**{**fields, **changes})


def said(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: " + orjson.dumps({"choices": [choice]}) + b"\n\n"


class Rest:
    """The chain behind the plugin: one attempt, its answer in the given pieces, a usage at the end."""

    def __init__(self, *pieces: bytes | Exception, status: int = 200) -> None:
        self.pieces, self.status = pieces, status
        self.seen: list[Exchange] = []
        self.ledger = MemoryLedger()
        self.hang = asyncio.Event()
        self.hang.set()
        self.finished: list[Finish] = []

    async def __call__(self, branch: Exchange) -> Response:
        self.seen.append(branch)
        assert branch.hold is not None and branch.model is not None
        candidate = branch.model.candidates[0]
        row = await self.ledger.dispatch(branch.hold, upstream=candidate.upstream, upstream_model="m", role=branch.role)
        tried = Try(candidate, row)
        branch.route = Route([tried])
        branch.on_finish(self.finished.append)
        await self.hang.wait()
        tried.status = self.status
        if self.status >= 300:
            tried.outcome = "status"
            return Response(self.status, Headers(), b"{}")
        tried.outcome = "served"

        async def closing() -> None:
            if not tried.cut:
                tried.usage = Usage(10, 5)

        branch.before_finish.append(closing)
        stream = Chunks(*self.pieces)
        branch.streams.append(stream)
        return Response(200, Headers(), stream=stream, sse=True)


def asked() -> Exchange:
    seen = exchange(under=generation(models={"gpt-4o": model()}))
    seen.request.headers["idempotency-key"] = "the client's own"
    seen.identity = identity()
    seen.call = DIALECTS["openai.chat"].parse(orjson.dumps(CHAT_BODY))
    candidate = seen.generation.models["gpt-4o"].candidates[0]
    seen.model = model("consensus-fast", rates=None, candidates=(replace(candidate, model="gpt-4o"),))
    seen.hold = Hold(1, HoldRequest("x", "k", "u", "t", "o", "m", "chat", ZERO, ZERO, (), 0))
    return seen


async def test_a_call_is_a_chat_completion_of_our_own() -> None:
    """None of the client's headers, the role in the ledger, the limit in the quote, and the depth said."""
    seen, rest = asked(), Rest(said("B"), said(" it is", "stop"))
    calls = ChainCalls(seen, rest)
    heard: list[Delta] = []

    async def hear(delta: Delta) -> None:
        heard.append(delta)

    answer = await calls.call(spec(), hear)
    assert (answer.text, answer.finish_reason, [d.text for d in heard]) == ("B it is", "stop", ["B", " it is"])
    (branch,) = rest.seen
    assert dict(branch.request.headers.items()) == {"content-type": "application/json", PANEL_DEPTH: "1"}
    assert branch.quote is not None and (branch.quote.output_tokens, branch.quote.enforced) == (50, True)
    assert branch.call is not None and branch.call.document["stream"] is True
    assert [attempt.role for attempt in rest.ledger.attempts] == ["judge/1/gpt-4o#2"]


async def test_what_it_cost_is_in_its_record_and_the_exchanges_route() -> None:
    """By the usage that the upstream reported; before that the most that it can cost."""
    seen, rest = asked(), Rest(said("B", "stop"))
    calls = ChainCalls(seen, rest)
    most = calls.cost_max(spec())
    await calls.call(spec())
    (record,) = calls.records
    assert (record.status, record.input_tokens, record.output_tokens, record.estimated) == ("served", 10, 5, False)
    assert 0 < record.cost == 10 * 2_500 + 5 * 10_000 < most
    calls.hand_over()
    assert seen.route is not None and seen.usage == Usage(10, 5) and seen.dispatched
    (tried,) = seen.route.tries
    assert tried.model is not None and (tried.model.name, tried.most) == ("gpt-4o", most)
    assert rest.finished == [Finish.SERVED]


async def test_a_cancelled_call_is_closed_and_counted() -> None:
    """The stream is closed; what had come is counted by ourselves, and said to be an estimate."""
    seen, rest = asked(), Rest(said("one two three"), said("four", "stop"))
    calls = ChainCalls(seen, rest)
    stopped = asyncio.Event()

    async def wait(delta: Delta) -> None:
        stopped.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(calls.call(spec(), wait))
    await stopped.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (record,) = calls.records
    assert (record.status, record.estimated) == ("cancelled", True)
    assert record.output_tokens == 3 and record.input_tokens > 0
    assert all(getattr(stream, "closed", False) for stream in rest.seen[0].streams)
    assert rest.finished == [Finish.CLIENT_GONE]


async def test_silence_before_the_cut_counts_as_reasoning() -> None:
    """A provider charges what its model thought without saying it: leaving early is not free."""
    seen, rest = asked(), Rest(said("B", "stop"))
    rest.hang.clear()
    calls = ChainCalls(seen, rest)
    task = asyncio.create_task(calls.call(spec()))
    while not rest.seen or rest.seen[0].route is None:
        await asyncio.sleep(0)
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (record,) = calls.records
    assert record.estimated and 20 <= record.output_tokens <= 50


async def test_an_exchange_that_ends_books_what_is_under_way() -> None:
    """Synchronously, before it is settled: nobody knows what it will have cost, so the most."""
    seen, rest = asked(), Rest(said("B", "stop"))
    rest.hang.clear()
    calls = ChainCalls(seen, rest)
    most = calls.cost_max(spec())
    task = asyncio.create_task(calls.call(spec()))
    while not rest.seen or rest.seen[0].route is None:
        await asyncio.sleep(0)
    calls.close(Finish.CLIENT_GONE)
    assert calls.cost == most
    assert seen.route is not None and len(seen.route.tries) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert calls.cost == most and len(seen.route.tries) == 1


@pytest.mark.parametrize(("status", "kind"), [(429, "rate_limited"), (400, "refused"), (500, "unavailable")])
async def test_a_provider_that_refuses_is_a_failed_call(status: int, kind: str) -> None:
    """It cost nothing."""
    calls = ChainCalls(asked(), Rest(status=status))
    with pytest.raises(CallFailed) as failed:
        await calls.call(spec())
    assert (failed.value.kind, calls.cost, calls.records[0].status) == (kind, 0, kind)


async def test_a_stream_that_ends_early_is_broken() -> None:
    """With what came of it."""
    calls = ChainCalls(asked(), Rest(said("half an ans")))
    with pytest.raises(CallFailed) as failed:
        await calls.call(spec())
    assert (failed.value.kind, failed.value.partial) == ("broken", "half an ans")


async def test_a_seat_whose_model_the_callers_rules_deny_is_not_called() -> None:
    """Its candidates are not among those that were admitted."""
    seen = asked()
    assert seen.model is not None
    seen.model = replace(seen.model, candidates=())
    calls = ChainCalls(seen, Rest())
    with pytest.raises(CallFailed, match="unavailable"):
        await calls.call(spec())
    assert calls.records == []
