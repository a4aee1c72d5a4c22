"""Rules on what a panel is asked and says: the answer, whole and in pieces, and everything beside it."""

from __future__ import annotations

import json
from itertools import count
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.consensus.chat_wire import ChatWire
from plugins.consensus.orchestrate_wire import OrchestrateWire
from plugins.content_rules.plugin import ContentRulesPlugin, ContentRulesSettings
from proxy.consensus.api import Dissent, Event
from proxy.dialects import DIALECTS
from proxy.dialects.sse import event_data, event_name, split_events
from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.headers import Headers
from proxy.operations import CHAT, ORCHESTRATE, Operation
from proxy.policy.content_patterns import PATTERNS
from proxy.policy.rules import ContentRule, Policy
from tests.support.fakes import Chunks, Log, Rest, exchange, identity
from tests.support.runs import meta, panel, records, result

MAIL = "bob@example.org"
GONE = "[mail address removed]"
RULES = (PATTERNS["mail_addresses"],)
STOP = (ContentRule("plans", "(?i)project apollo", "refuse"),)
BODIES: dict[str, dict[str, Any]] = {
    "orchestrate": {"prompt": "Why?"},
    "chat.completions": {"model": "consensus-balanced", "messages": [{"role": "user", "content": "Why?"}]},
}
TOLD = result(
    f"Ask {MAIL} about it.",
    dissent=(Dissent(f"Ask not {MAIL}.", 1),),
    unverified_claims=(f"{MAIL} knows.",),
    skipped=(f"claim checks: {MAIL}",),
    flags=(f"A: says {MAIL}",),
)


def asked(operation: Operation, rules: tuple[ContentRule, ...], **members: Any) -> Exchange:
    raw = orjson.dumps({**BODIES[operation.name], **members})
    seen = exchange(operation=operation, body=raw)
    seen.identity, seen.model, seen.policy = identity(), panel(), Policy(content=rules)
    seen.call = DIALECTS[operation.dialect or ""].parse(raw)
    return seen


def plugin() -> ContentRulesPlugin:
    services: Any = SimpleNamespace(metrics=SimpleNamespace(content_struck=lambda *_: None), log=Log())
    return ContentRulesPlugin(ContentRulesSettings(), services)


async def guarded(operation: Operation, rules: tuple[ContentRule, ...], *chunks: bytes) -> bytes:
    """A streamed answer as it goes out."""
    answer = Response(200, Headers(), stream=Chunks(*chunks), sse=True)
    response = await plugin()(asked(operation, rules, stream=True), Rest([answer]))
    out = b""
    while chunk := await response.pull():
        out += response.transforms[0](chunk)
    return out + response.transforms[0](b"")


def orchestrated(pieces: list[str], **ended: Any) -> list[bytes]:
    ticks = count(1)
    wire = OrchestrateWire(meta(), lambda: next(ticks))
    told = [
        wire.opening(),
        wire.event(Event("claim.checked", {"claim": f"It is {MAIL}.", "verdicts": ["supported"]})),
        *[wire.event(Event("token", {"text": piece})) for piece in pieces],
    ]
    return [one for one in told if one] + [wire.closing(result("".join(pieces), **ended), records(), meta())]


def events(out: bytes) -> list[tuple[str, dict[str, Any]]]:
    return [(event_name(one).decode(), json.loads(event_data(one))) for one in split_events(out)]


@pytest.mark.parametrize("place", ["prompt", "messages", "metadata"])
async def test_what_a_panel_is_asked_is_read(place: str) -> None:
    """Every member with a text."""
    members: dict[str, Any] = {
        "prompt": {"prompt": f"Write to {MAIL}."},
        "messages": {"prompt": None, "messages": [{"role": "user", "content": f"Write to {MAIL}."}]},
        "metadata": {"metadata": {"id": f"Write to {MAIL}."}},
    }[place]
    seen = asked(ORCHESTRATE, RULES, **members)
    await plugin()(seen, Rest([Response.of(200, b"{}")]))
    assert seen.call is not None
    assert MAIL.encode() not in seen.call.body
    assert GONE.encode() in seen.call.body


async def test_a_whole_orchestration_is_redacted_in_every_text() -> None:
    """Answer, dissent, claims, and what the panel notes; numbers and names stay."""
    wire = OrchestrateWire(meta(), lambda: 1)
    body = wire.whole(TOLD, records(), meta())
    response = await plugin()(asked(ORCHESTRATE, RULES), Rest([Response.of(200, body)]))
    assert json.loads(response.body) == json.loads(body.replace(MAIL.encode(), GONE.encode()))
    assert response.body.count(GONE.encode()) == 5


async def test_a_whole_chat_of_a_panel_is_redacted_in_every_text() -> None:
    """The extension too."""
    body = ChatWire(meta()).whole(TOLD, records(), meta())
    response = await plugin()(asked(CHAT, RULES), Rest([Response.of(200, body)]))
    assert json.loads(response.body) == json.loads(body.replace(MAIL.encode(), GONE.encode()))


async def test_the_chunk_that_ends_a_panels_chat_is_redacted() -> None:
    """With the pieces before it, however they were cut."""
    wire = ChatWire(meta())
    pieces = [wire.opening(), *[wire.event(Event("token", {"text": one})) for one in TOLD.text]]
    out = await guarded(CHAT, RULES, *pieces, wire.closing(TOLD, records(), meta()))
    assert MAIL.encode() not in out
    chunks = [json.loads(event_data(one)) for one in split_events(out)[:-1]]
    text = "".join([one["choices"][0]["delta"].get("content") or "" for one in chunks])
    assert text == TOLD.text.replace(MAIL, GONE)
    assert chunks[-1]["consensus"]["dissent"][0]["position"] == f"Ask not {GONE}."


@given(cuts=st.lists(st.integers(1, 30), max_size=6), last=st.booleans())
@settings(deadline=None)
async def test_a_streamed_orchestration_is_redacted_however_it_is_cut(cuts: list[int], last: bool) -> None:
    """The pieces joined are the answer of the last event, and the numbers have no gap."""
    text, pieces = (f"Ask {MAIL}" if last else f"Ask {MAIL} or {MAIL}, they know."), []
    for cut in cuts:
        pieces.append(text[:cut])
        text = text[cut:]
    chunks = orchestrated([*pieces, text], dissent=(Dissent(f"Not {MAIL}.", 1),))
    found = events(await guarded(ORCHESTRATE, RULES, *chunks))
    told = "".join([data["text"] for name, data in found if name == "token"])
    assert told == found[-1][1]["result"]["answer"] == "".join([*pieces, text]).replace(MAIL, GONE)
    assert [data["seq"] for _, data in found] == list(range(len(found)))
    assert found[1][1]["claim"] == f"It is {GONE}."
    assert found[-1][1]["result"]["dissent"][0]["position"] == f"Not {GONE}."
    assert all(name == data["type"] for name, data in found)


async def test_what_is_held_back_goes_out_before_the_panel_judges_it() -> None:
    """In a piece of its own, between the last piece and what is said of the whole."""
    found = events(await guarded(ORCHESTRATE, RULES, *orchestrated(["Ask bob@exa"])))
    names = [name for name, _ in found]
    assert names == ["accepted", "claim.checked", "token", "token", "quality", "usage", "done"]
    assert [data["seq"] for _, data in found] == list(range(7))


async def test_a_stream_without_a_match_passes_byte_for_byte() -> None:
    """Not one event is written anew."""
    wire = OrchestrateWire(meta(), lambda: 1)
    chunks = [
        wire.opening(),
        wire.event(Event("token", {"text": "Yes, "})),
        wire.event(Event("token", {"text": "so. "})),
    ]
    chunks.append(wire.closing(result("Yes, so. "), records(), meta()))
    assert await guarded(ORCHESTRATE, RULES, *chunks) == b"".join(chunks)


async def test_a_refused_answer_ends_the_stream_with_the_formats_own_error() -> None:
    """And nothing of it in any event."""
    chunks = orchestrated(["It is Pro", "ject Apo", "llo."])
    seen = await guarded(ORCHESTRATE, STOP, *chunks)
    found = events(seen)
    assert [name for name, _ in found] == ["accepted", "claim.checked", "token", "token", "error"]
    assert found[-1][1]["error"]["code"] == "content_refused"
    assert b"pollo" not in seen


async def test_a_refused_whole_orchestration_is_refused() -> None:
    """403."""
    body = OrchestrateWire(meta(), lambda: 1).whole(result("Project Apollo."), records(), meta())
    with pytest.raises(Refusal) as refused:
        await plugin()(asked(ORCHESTRATE, STOP), Rest([Response.of(200, body)]))
    assert refused.value.code == "content_refused"
