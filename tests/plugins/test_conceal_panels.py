"""Who sits on a panel is not told where names are concealed; everything else that it says is."""

from __future__ import annotations

import json
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from plugins.conceal.plugin import ConcealPlugin, ConcealSettings
from plugins.consensus.chat_wire import ChatWire
from plugins.consensus.orchestrate_wire import OrchestrateWire
from plugins.consensus.wires import Wire
from proxy.consensus.api import Event, MemberReport, RunFailed
from proxy.dialects import DIALECTS
from proxy.dialects.sse import event_data, event_name, split_events
from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.headers import Headers
from proxy.ledger.api import Attempt
from proxy.operations import CHAT, ORCHESTRATE, Operation
from proxy.routes import Route, Try
from tests.support.fakes import Chunks, Log, Rest, exchange, identity, model
from tests.support.runs import NAMES, meta, panel, records, result

SHOWN = meta(show_cost=True, conversation_id="conv_1", metadata={"mine": "1"}, wants_usage=True)
BODY = {
    ORCHESTRATE.name: b'{"prompt":"Why?","metadata":{"mine":"1"}}',
    CHAT.name: b'{"model":"consensus-balanced","messages":[{"role":"user","content":"Why?"}]}',
}
EVENTS = [
    Event("detected", {"domain": "technical", "confidence": 0.75, "language": "en"}),
    Event("member.started", {"label": "A", "model": "gpt-5.4", "hedge": False}),
    Event("member.completed", {"label": "A", "model": "gpt-5.4", "seconds": 1.5}),
    Event("member.failed", {"label": "B", "model": "claude-sonnet-4.6", "reason": "timeout", "replaced": True}),
    Event("quorum", {"seconds": 1.5, "quorum": 2, "members": 3}),
    Event("evaluation", {"round": 0, "judges": 2, "ballots": 2, "ranking": [{"label": "A", "score": 1.0}]}),
    Event("round", {"round": 1, "converged": False, "reason": "", "agreement": 0.5, "contested_share": 0.25}),
    Event("claim.checked", {"claim": "It is so.", "verdicts": ["supported"], "holds": True}),
    Event("synthesis.started", {"model": "claude-sonnet-4.6"}),
    Event("token", {"text": "The answer is 42."}),
]


def asked(operation: Operation) -> Exchange:
    """Answered by a panel, one of whose calls stands on the route."""
    seen = exchange(operation=operation, body=BODY[operation.name])
    seen.identity, seen.model = identity(), panel()
    seen.call = DIALECTS[operation.dialect or ""].parse(BODY[operation.name])
    served = model("gpt-5.4").candidates[0]
    seen.route = Route([Try(served, Attempt(1, 1, "openai", "gpt-5.4"), 200, "served")])
    return seen


def plugin() -> ConcealPlugin:
    services: Any = SimpleNamespace(log=Log())
    return ConcealPlugin(ConcealSettings(), services)


def wire(operation: Operation) -> Wire:
    ticks = count(1)
    return OrchestrateWire(SHOWN, lambda: next(ticks)) if operation is ORCHESTRATE else ChatWire(SHOWN)


async def streamed(operation: Operation, *chunks: bytes, seen: Exchange | None = None) -> bytes:
    answer = Response(200, Headers(), stream=Chunks(*chunks), sse=True)
    response = await plugin()(seen or asked(operation), Rest([answer]))
    out = b""
    while chunk := await response.pull():
        out += response.transforms[0](chunk)
    return out + response.transforms[0](b"")


def without_names(value: Any) -> Any:
    """The same with the members that name a model or a vendor taken out."""
    if isinstance(value, list):
        return [without_names(one) for one in value]
    if not isinstance(value, dict):
        return value
    kept = {key: without_names(one) for key, one in value.items() if key not in ("model", "vendor", "member")}
    if value.get("model") == "consensus-balanced":
        kept["model"] = value["model"]
    return kept


def named(text: bytes) -> list[str]:
    return [name for name in NAMES if name.encode() in text]


@pytest.mark.parametrize("operation", [CHAT, ORCHESTRATE])
async def test_a_whole_answer_loses_names_and_nothing_else(operation: Operation) -> None:
    """Labels stay, and what each call used."""
    body = wire(operation).whole(result(), records(), SHOWN)
    assert named(body) == list(NAMES)
    response = await plugin()(asked(operation), Rest([Response.of(200, body)]))
    expected = without_names(json.loads(body))
    if operation is CHAT:
        # The format's own optional members that say nothing.
        assert expected["choices"][0].pop("logprobs") is None
    found = json.loads(response.body)
    for choice in found.get("choices", []):
        choice.pop("logprobs", None)
    assert found == expected
    assert named(response.body) == []


@pytest.mark.parametrize("operation", [CHAT, ORCHESTRATE])
async def test_a_stream_loses_names_and_nothing_else(operation: Operation) -> None:
    """Event by event, in order, under the same numbers."""
    telling = wire(operation)
    chunks = [telling.opening(), *map(telling.event, EVENTS), telling.closing(result(), records(), SHOWN)]
    out = await streamed(operation, *[chunk for chunk in chunks if chunk])
    assert named(out) == []
    before, after = split_events(b"".join(chunks)), split_events(out)
    assert [event_name(one) for one in after] == [event_name(one) for one in before]
    for theirs, ours in zip(before, after, strict=True):
        if event_data(theirs) == b"[DONE]":
            assert ours == theirs
            continue
        expected, found = without_names(json.loads(event_data(theirs))), json.loads(event_data(ours))
        assert found == expected


async def test_a_member_consensus_of_an_upstreams_own_is_dropped() -> None:
    """Nobody knows what a vendor puts there."""
    seen = asked(CHAT)
    seen.model = model("gpt-4o")
    body = ChatWire(SHOWN).whole(result(), records(), SHOWN)
    response = await plugin()(seen, Rest([Response.of(200, body)]))
    assert "consensus" not in json.loads(response.body)


async def test_words_that_are_none_of_ours_are_not_passed_on() -> None:
    """A name in the place of a label, a reason, a status."""
    telling = wire(ORCHESTRATE)
    odd = [
        Event("member.failed", {"label": "gpt-5.4", "reason": "gpt-5.4 is down", "seconds": "gpt-5.4"}),
        Event("evaluation", {"ranking": [{"label": "openai"}, "openai"], "winner": "openai"}),
    ]
    out = await streamed(ORCHESTRATE, *map(telling.event, odd))
    assert named(out) == []
    first, second = [json.loads(event_data(one)) for one in split_events(out)]
    assert first["reason"] == "failed"
    assert second["ranking"] == [{}]


async def test_a_failure_is_told_in_our_words_without_members() -> None:
    """The exchange's own refusal."""
    seen = asked(ORCHESTRATE)
    refusal = Refusal("upstream_unavailable", "No member answered. Try again.", retry_after_seconds=1)
    failure = RunFailed(refusal, members=(MemberReport("A", "gpt-5.4", "openai", "failed", "timeout"),))

    async def told(answering: Exchange) -> Response:
        return Response(200, Headers(), stream=Chunks(wire(ORCHESTRATE).failed(failure)), sse=True)

    response = await plugin()(seen, told)
    seen.refusal = refusal
    out = response.transforms[0](await response.pull())
    assert json.loads(event_data(out))["error"]["code"] == "upstream_unavailable"
    assert event_name(out) == b"error"
    assert named(out) == []
