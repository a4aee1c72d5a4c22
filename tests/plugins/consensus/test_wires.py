"""What a caller reads of a run: whole and streamed, in both formats."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from plugins.consensus.chat_wire import ChatWire
from plugins.consensus.orchestrate_wire import OrchestrateWire
from plugins.consensus.rendering import wire_of
from plugins.consensus.wires import Wire
from proxy.consensus.api import Event, MemberReport, RunFailed
from proxy.dialects import DIALECTS
from proxy.dialects.sse import event_data, event_name, split_events
from proxy.errors import Refusal
from proxy.operations import ORCHESTRATE
from proxy.usage import Usage
from tests.support.fakes import FakeClock, exchange
from tests.support.runs import meta, record, records, result

DONE = b"data: [DONE]\n\n"
PROGRESS = [
    Event("detected", {"domain": "technical", "language": "en"}),
    Event("member.started", {"label": "A", "model": "gpt-5.4"}),
    Event("quorum", {"answers": 2}),
    Event("synthesis.started", {}),
]
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
FAILURE = RunFailed(
    Refusal("upstream_unavailable", "No member answered. Try again.", retry_after_seconds=1),
    members=(MemberReport("A", "gpt-5.4", "openai", "failed", "timeout"),),
    partial="The ans",
)


def token(text: str) -> Event:
    return Event("token", {"text": text})


def orchestrate(**changes: Any) -> OrchestrateWire:
    ticks = count(1_700_000_000_000)
    return OrchestrateWire(meta(**changes), lambda: next(ticks))


def chunks(stream: bytes) -> list[dict[str, Any]]:
    """Data of every event but the last, which is `[DONE]`."""
    *events, end = split_events(stream)
    assert end == DONE
    assert all(not event_name(event) for event in events)
    return [json.loads(event_data(event)) for event in events]


def events(stream: bytes) -> list[tuple[str, dict[str, Any]]]:
    return [(event_name(one).decode(), json.loads(event_data(one))) for one in split_events(stream)]


def streamed(wire: Wire, told: list[Event], **ended: Any) -> bytes:
    out = wire.opening() + b"".join(map(wire.event, told))
    return out + wire.closing(ended.get("result", result()), ended.get("records", records()), ended.get("meta", meta()))


# -- chat completions


def test_a_whole_chat_is_a_completion_of_the_sdk_with_the_extension_beside_it() -> None:
    """Strictly valid for the SDK's own type, usage summed over all calls."""
    body = ChatWire(meta()).whole(result(), records(), meta())
    answer = ChatCompletion.model_validate_json(body, strict=True)
    assert (answer.id, answer.object, answer.model) == ("chatcmpl-test", "chat.completion", "consensus-balanced")
    assert answer.choices[0].message.content == "The answer is 42."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (500, 87, 587)
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 30
    extension = (answer.model_extra or {})["consensus"]
    assert extension["quality"] == {
        "score": 81.2346,
        "basis": "judges",
        "dimensions": {"accuracy": 8.5, "clarity": 9.0},
        "calibrated": False,
    }
    assert (extension["agreement"], extension["confidence"], extension["rounds"]) == (0.6667, "medium", 1)
    assert extension["dissent"] == [{"position": "It is 41.", "members": 1}]
    assert [(call["role"], call["status"], call["estimated"], call["hedge"]) for call in extension["calls"]] == [
        ("member", "served", False, False),
        ("member", "cancelled", True, True),
        ("synthesis", "served", False, False),
    ]
    assert (extension["charged_usd"], extension["credits_charged"]) == ("0.35", 3)


def test_what_calls_cost_is_told_only_where_the_operator_shows_it() -> None:
    """Neither the sum nor any single one."""
    hidden = ChatWire(meta()).whole(result(), records(), meta())
    assert b"cost_usd" not in hidden
    shown = json.loads(ChatWire(meta()).whole(result(), records(), meta(show_cost=True)))["consensus"]
    assert shown["cost_usd"] == "0.00375"
    assert [call["cost_usd"] for call in shown["calls"]] == ["0.00125"] * 3


def test_calls_of_tools_end_a_chat_as_such() -> None:
    """Whole ones in the message, no text beside them."""
    body = ChatWire(meta()).whole(result("", tool_calls=(CALL,)), [], meta())
    answer = ChatCompletion.model_validate_json(body, strict=True)
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.content is None
    assert answer.choices[0].message.tool_calls is not None
    assert answer.choices[0].message.tool_calls[0].id == "call_1"


def test_a_streamed_chat_has_standard_chunks_alone_the_role_at_once() -> None:
    """No progress, no names; the extension in the chunk that finishes; no usage that nobody asked for."""
    told = [*PROGRESS, token("The answer "), token("is 42."), Event("quality", {}), Event("usage", {})]
    found = chunks(streamed(ChatWire(meta()), told))
    for one in found:
        ChatCompletionChunk.model_validate_json(json.dumps(one), strict=True)
    assert found[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert [one["choices"][0]["delta"].get("content") for one in found[1:]] == ["The answer ", "is 42.", None]
    assert [one["choices"][0]["finish_reason"] for one in found] == [None, None, None, "stop"]
    assert ["consensus" in one for one in found] == [False, False, False, True]
    assert not any("usage" in one for one in found)


def test_a_streamed_chat_ends_with_its_usage_where_it_was_asked_for() -> None:
    """In a chunk without choices, as OpenAI does; the others say null."""
    wanted = meta(wants_usage=True)
    found = chunks(streamed(ChatWire(wanted), [token("The answer is 42.")], meta=wanted))
    assert found[-1]["choices"] == []
    assert found[-1]["usage"]["total_tokens"] == 587
    assert all(one["usage"] is None for one in found[:-1])


def test_streamed_calls_of_tools_are_the_synthesisers_own_pieces_and_said_once() -> None:
    """Where none were streamed the whole ones come before the finish."""
    piece = {"index": 0, **CALL}
    said = chunks(
        streamed(ChatWire(meta()), [Event("token", {"tool_calls": [piece]})], result=result("", tool_calls=(CALL,)))
    )
    late = chunks(streamed(ChatWire(meta()), [], result=result("", tool_calls=(CALL,))))
    for found in (said, late):
        assert [one["choices"][0]["delta"].get("tool_calls") for one in found] == [None, [piece], None]
        assert found[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_chat_that_fails_after_its_head_ends_with_the_error_and_without_done() -> None:
    """So that a client that only looks for the end does not take it for a whole answer."""
    out = ChatWire(meta()).failed(FAILURE)
    assert json.loads(event_data(out))["error"]["code"] == "upstream_unavailable"
    assert event_name(out) == b""
    assert b"[DONE]" not in out
    assert DIALECTS["openai.chat"].is_error_event(out)


# -- orchestrations


def test_a_whole_orchestration_is_the_answer_and_all_that_is_known_of_it() -> None:
    """The members that callers are promised."""
    given = meta(conversation_id="conv_1", metadata={"mine": "1"}, mode="auto")
    found = json.loads(orchestrate().whole(result(), records(), given))
    assert (found["id"], found["object"], found["created"]) == ("orch_test", "orchestration", 1_700_000_000)
    assert (found["mode"], found["requested_mode"]) == ("balanced", "auto")
    assert (found["answer"], found["finish_reason"]) == ("The answer is 42.", "stop")
    assert (found["quality_score"], found["confidence"]) == (81.2346, "medium")
    assert found["unverified_claims"] == ["It was always 42."]
    assert (found["conversation_id"], found["metadata"]) == ("conv_1", {"mine": "1"})
    assert (found["credits_charged"], found["charged_usd"]) == (3, "0.35")
    assert found["usage"]["total_tokens"] == sum(
        call["prompt_tokens"] + call["completion_tokens"] for call in found["usage"]["calls"]
    )
    assert found["members"][1] == {
        "label": "B",
        "model": "claude-sonnet-4.6",
        "vendor": "anthropic",
        "status": "late",
        "reason": "timeout",
        "seconds": 2.0,
    }


def test_parts_of_a_credit_are_told_as_they_are() -> None:
    """Of an answer that was degraded."""
    found = json.loads(orchestrate().whole(result(degraded=True), [], meta(credits_milli=1500)))
    assert (found["credits_charged"], found["degraded"]) == (1.5, True)


def test_a_streamed_orchestration_tells_everything_in_order() -> None:
    """Numbered from 0 without a gap, each event named twice, the last one the whole answer."""
    wire, told = orchestrate(), [*PROGRESS, token("The answer "), token("is 42."), Event("done", {}), Event("x", {})]
    found = events(streamed(wire, told))
    assert [name for name, _ in found] == [
        "accepted", "detected", "member.started", "quorum", "synthesis.started", "token", "token", "quality", "usage",
        "done",
    ]  # fmt: skip
    assert [data["seq"] for _, data in found] == list(range(len(found)))
    assert all((data["v"], data["id"], data["type"]) == (1, "orch_test", name) for name, data in found)
    stamps = [data["ts"] for _, data in found]
    assert stamps == sorted(stamps)
    assert found[2][1]["label"] == "A"
    assert found[-1][1]["result"] == json.loads(orchestrate().whole(result(), records(), meta()))
    assert found[-2][1]["usage"] == found[-1][1]["result"]["usage"]


def test_data_of_an_event_does_not_displace_its_head() -> None:
    """Whatever the engine calls its own."""
    [(_, data)] = events(orchestrate().event(Event("round", {"seq": 99, "id": "x", "type": "y", "converged": True})))
    assert (data["seq"], data["id"], data["type"], data["converged"]) == (0, "orch_test", "round", True)


def test_an_orchestration_that_fails_says_what_became_of_each_member() -> None:
    """And that a part of an answer was sent."""
    wire = orchestrate()
    wire.opening()
    [(name, data)] = events(wire.failed(FAILURE))
    assert (name, data["seq"], data["error"]["code"], data["partial"]) == ("error", 1, "upstream_unavailable", True)
    assert data["members"][0]["reason"] == "timeout"


# -- both


@pytest.mark.parametrize("cut_short", [False, True])
@given(pieces=st.lists(st.text(), max_size=8), live=st.integers(0, 8))
def test_streamed_pieces_joined_are_the_answer(cut_short: bool, pieces: list[str], live: int) -> None:
    """Whatever was streamed live, the rest comes at the end; whatever is in them."""
    ended = result("".join(pieces))
    told = [token(piece) for piece in pieces[: live if cut_short else None]]
    chat = chunks(streamed(ChatWire(meta()), told, result=ended))
    assert "".join([one["choices"][0]["delta"].get("content") or "" for one in chat]) == ended.text
    named = events(streamed(orchestrate(), told, result=ended))
    assert "".join([data["text"] for name, data in named if name == "token"]) == ended.text
    assert named[-1][1]["result"]["answer"] == ended.text


def test_half_characters_of_two_pieces_are_one_for_the_client() -> None:
    """A provider may cut between the two."""
    told = [token("\ud83d"), token("\ude00")]
    chat = chunks(streamed(ChatWire(meta()), told, result=result("\ud83d\ude00")))
    named = events(streamed(orchestrate(), told, result=result("\ud83d\ude00")))
    texts = (
        [one["choices"][0]["delta"].get("content") or "" for one in chat],
        [data["text"] for name, data in named if name == "token"],
    )
    for said in texts:
        assert "".join(said).encode("utf-16", "surrogatepass").decode("utf-16") == "\U0001f600"


@pytest.mark.parametrize("wire", [ChatWire(meta()), orchestrate()])
def test_an_answer_that_is_not_what_was_streamed_is_never_confirmed(wire: Wire) -> None:
    """The stream breaks off instead of saying two things."""
    wire.opening()
    wire.event(token("The answer is 41."))
    with pytest.raises(RuntimeError):
        wire.closing(result(), records(), meta())


def test_the_wire_is_the_operations() -> None:
    """Chat completions have theirs."""
    clock = FakeClock()
    assert isinstance(wire_of(exchange(operation=ORCHESTRATE), meta(), clock), OrchestrateWire)
    assert isinstance(wire_of(exchange(), meta(), clock), ChatWire)


@pytest.mark.parametrize(
    ("name", "make"), [("openai.chat", lambda: ChatWire(meta())), ("tollway.orchestrate", orchestrate)]
)
def test_our_own_readers_read_our_own_answers(name: str, make: Any) -> None:
    """Usage, text and end, whole and streamed."""
    wanted = meta(wants_usage=True)
    one = [record()]
    dialect = DIALECTS[name]
    for stream, raw in (
        (False, make().whole(result(), one, meta())),
        (True, streamed(ChatWire(wanted) if "chat" in name else make(), PROGRESS, records=one, meta=wanted)),
    ):
        reader = dialect.usage_reader(stream=stream)
        for at in range(0, len(raw), 100):
            reader.feed(raw[at : at + 100])
        assert reader.usage() == Usage.reported(input_tokens=100, output_tokens=40, cached_tokens=10)
        assert reader.output_text() == "The answer is 42."
        assert reader.finished


def test_an_event_is_content_from_the_first_piece_of_the_answer_on() -> None:
    """Progress burns no payment."""
    dialect, wire = DIALECTS["tollway.orchestrate"], orchestrate()
    before = [wire.opening(), *map(wire.event, PROGRESS)]
    assert not any(dialect.says_something(one) or dialect.is_content_event(one) for one in before)
    assert dialect.says_something(wire.event(token("x")))
    assert not dialect.withholds(wire.event(token("x")))
    error = dialect.error_event(Refusal("upstream_error", "Broke.").envelope())
    assert dialect.is_error_event(error)
    assert json.loads(event_data(error))["error"]["message"] == "Broke."
