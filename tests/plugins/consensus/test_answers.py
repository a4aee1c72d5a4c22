"""A model's answer, whole and in pieces."""

from __future__ import annotations

import orjson
import pytest

from plugins.consensus.answers import ChatText, whole_answer
from proxy.consensus.api import Answer, CallFailed, CallSpec, Delta, Role
from proxy.consensus.settings import Seat

SPEC = CallSpec(Seat("a", "a", "v", "a"), Role.MEMBER, 0, (), 100)


def event(**choice: object) -> bytes:
    return b"data: " + orjson.dumps({"choices": [{"index": 0, **choice}]}) + b"\n\n"


def said(text: str) -> bytes:
    return event(delta={"content": text}, finish_reason=None)


def test_a_stream_is_read_in_whatever_pieces_it_comes() -> None:
    """Role and usage chunks say nothing; the end is the finish or [DONE]."""
    whole = event(delta={"role": "assistant"}) + said("Hel") + said("lo") + event(delta={}, finish_reason="stop")
    for size in (1, 7, len(whole)):
        text = ChatText()
        deltas = [d for at in range(0, len(whole), size) for d in text.feed(whole[at : at + size])]
        assert deltas == [Delta("Hel"), Delta("lo")]
        assert text.finished
        assert whole_answer(text, SPEC) == Answer("Hello", "stop")


def test_tool_calls_are_put_together() -> None:
    """Id and name come once, arguments in pieces; each delta keeps its own form."""
    text = ChatText()
    first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "add", "arguments": ""}}
    more = {"index": 0, "function": {"arguments": '{"a":1}'}}
    deltas = text.feed(event(delta={"tool_calls": [first]}) + event(delta={"tool_calls": [more]}))
    text.feed(event(delta={}, finish_reason="tool_calls"))
    assert deltas == [Delta("", (first,)), Delta("", (more,))]
    answer = whole_answer(text, SPEC)
    function = {"name": "add", "arguments": '{"a":1}'}
    assert answer.tool_calls == ({"id": "call_1", "type": "function", "function": function},)
    assert answer.finish_reason == "tool_calls"


def test_half_a_character_waits_for_its_other_half() -> None:
    """What is handed on can be written as JSON."""
    text = ChatText()
    halves = (b"ok \\ud83d", b"\\ude00!")
    body = b"".join(b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n' % half for half in halves)
    deltas = text.feed(body)
    assert [delta.text for delta in deltas] == ["ok ", "\U0001f600!"]
    assert orjson.dumps(text.text)


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        (b'data: {"error":{"message":"overloaded","type":"server_error"}}\n\n', "broken"),
        (event(delta={}, finish_reason="stop"), "empty"),
        (event(delta={"content": " \n"}, finish_reason="stop"), "empty"),
        (event(delta={"content": "x"}, finish_reason="content_filter"), "content_filter"),
        (said("x" * 80_000) + event(delta={}, finish_reason="stop"), "garbage"),
    ],
)
def test_what_is_no_answer_says_why(stream: bytes, kind: str) -> None:
    """In words that name no provider."""
    text = ChatText()
    with pytest.raises(CallFailed) as failed:
        text.feed(stream)
        whole_answer(text, SPEC)
    assert failed.value.kind == kind


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"choices":[]}', b'{"choices":[{}]}', b'{"choices":"no"}', b"<html>"]
)
def test_a_body_that_is_no_completion_is_garbage(body: bytes) -> None:
    """Never a failure of ours."""
    with pytest.raises(CallFailed, match="garbage"):
        ChatText().whole(body)


def test_a_whole_body_is_read() -> None:
    """Text, calls, end; a refusal where it says nothing else."""
    text = ChatText()
    text.whole(
        orjson.dumps({"choices": [{"message": {"content": None, "refusal": "I cannot."}, "finish_reason": "stop"}]})
    )
    assert whole_answer(text, SPEC) == Answer("I cannot.", "stop")


def test_half_a_character_of_a_refusal_can_be_written() -> None:
    """A member that declines in broken text must not end the run of all others."""
    text = ChatText()
    text.feed(b'data: {"choices":[{"delta":{"refusal":"No\\ud800"},"finish_reason":"stop"}]}\n\n')
    assert orjson.dumps(whole_answer(text, SPEC).text) == '"No\ufffd"'.encode()


def test_tool_calls_that_are_no_list_are_none() -> None:
    """What a provider makes up fails no run."""
    text = ChatText()
    text.whole(b'{"choices":[{"message":{"content":"x","tool_calls":5},"finish_reason":"stop"}]}')
    assert whole_answer(text, SPEC) == Answer("x", "stop")


def test_arguments_that_are_an_object_are_written_whatever_is_in_them() -> None:
    """Half characters are written as escapes."""
    text = ChatText()
    function = b'{"name":"f","arguments":{"a":"\\ud800"}}'
    text.whole(b'{"choices":[{"message":{"tool_calls":[{"function":%b}]}}]}' % function)
    assert text.tool_calls[0]["function"]["arguments"] == '{"a":"\\ud800"}'
