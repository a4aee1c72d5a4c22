"""No string of an upstream's passes but where a model's words belong, whatever an answer looks like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.conceal.formats import FORMATS
from plugins.conceal.names import Names
from plugins.conceal.stream import Concealer
from proxy.dialects import DIALECTS, json_text
from proxy.dialects.sse import make_event
from tests.plugins.test_conceal import asked

MARK = "cnry"
CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}", "input": ""}}
LOGPROB = {"token": "a", "logprob": -1.5, "bytes": [97]}
SPOKEN: dict[str, Any] = {
    "role": "assistant", "content": "Hi.", "reasoning_content": "Hm.", "reasoning": "Hm.", "refusal": None,
    "tool_calls": [CALL, {**CALL, "type": "custom", "custom": {"name": "f", "input": ""}}],
    "function_call": {"name": "f", "arguments": "{}"}, "audio": {"id": "a", "data": "", "expires_at": 1},
    "annotations": [{"type": "url_citation", "url_citation": {"start_index": 0, "title": "T", "url": "u"}}],
}  # fmt: skip
CHOICE: dict[str, Any] = {
    "index": 0, "message": SPOKEN, "delta": {**SPOKEN, "content": [{"type": "text", "text": "Hi."}]},
    "finish_reason": "stop", "logprobs": {"content": [{**LOGPROB, "top_logprobs": [LOGPROB]}], "refusal": None},
}  # fmt: skip
DETAILS = {"cached_tokens": 1, "cache_write_tokens": 1, "audio_tokens": 1, "reasoning_tokens": 1, "text_tokens": 1}
COUNTED = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "input_tokens": 1, "output_tokens": 1}
CHAT = {
    "type": "chat", "id": "c", "object": "o", "created": 1, "model": "m", "choices": [CHOICE],
    "usage": {**COUNTED, "prompt_tokens_details": DETAILS, "completion_tokens_details": DETAILS},
}  # fmt: skip
VECTORS = {"object": "l", "model": "m", "data": [{"object": "e", "index": 0, "embedding": [0.5]}], "usage": COUNTED}
CITATION = {"type": "char_location", "cited_text": "H", "document_index": 0, "document_title": "T", "file_id": "f"}
BLOCKS: list[dict[str, Any]] = [
    {"type": "text", "text": "Hi.", "citations": [CITATION]},
    {"type": "thinking", "thinking": "Hm.", "signature": "s"},
    {"type": "redacted_thinking", "data": "d"},
    {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
    {"type": "server_tool_use", "id": "t", "name": "f", "input": {}},
    {"type": "web_search_tool_result", "tool_use_id": "t", "content": [{"type": "web_search_result", "url": "u"}]},
]
CLAUDE_USAGE = {
    **COUNTED, "cache_read_input_tokens": 1, "cache_creation": {"ephemeral_5m_input_tokens": 1},
    "server_tool_use": {"web_search_requests": 1}, "output_tokens_details": {"thinking_tokens": 1},
}  # fmt: skip
ENDED = {
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "stop_details": {"type": "refusal", "category": "bio", "explanation": None},
}
MESSAGE = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": BLOCKS, "usage": CLAUDE_USAGE}
FILE = {"type": "file_citation", "file_id": "f", "index": 1}
PART = {"type": "output_text", "text": "Hi.", "annotations": [FILE]}
ITEMS: list[dict[str, Any]] = [
    {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "phase": "commentary",
     "content": [PART, {"type": "refusal", "refusal": "No."}]},
    {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"},
    {"type": "custom_tool_call", "id": "ctc_1", "call_id": "c", "name": "f", "input": ""},
    {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}], "encrypted_content": "e"},
    {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}},
]  # fmt: skip
RESPONSE: dict[str, Any] = {
    "id": "r", "object": "response", "created_at": 1, "completed_at": 2, "model": "m", "status": "completed",
    "background": False, "error": None, "incomplete_details": {"reason": "content_filter"}, "instructions": "i",
    "max_output_tokens": 1, "max_tool_calls": 1, "output": ITEMS, "parallel_tool_calls": True, "metadata": {"a": "b"},
    "previous_response_id": None, "prompt_cache_key": None, "reasoning": {"effort": "low"}, "store": True,
    "safety_identifier": None, "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto",
    "tools": [{"type": "function"}], "top_logprobs": 0, "top_p": 1.0, "truncation": "auto", "user": None,
    "usage": {**COUNTED, "input_tokens_details": DETAILS, "output_tokens_details": DETAILS},
}  # fmt: skip
PLACE = {"sequence_number": 1, "item_id": "msg_1", "output_index": 0, "content_index": 0, "summary_index": 0}

ANSWERS: list[tuple[str, dict[str, Any]]] = [
    ("openai.chat", CHAT),
    ("openai.embeddings", VECTORS),
    ("anthropic.messages", {**MESSAGE, **ENDED}),
    ("openai.responses", RESPONSE),
]
EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("openai.chat", CHAT),
    ("anthropic.messages", {"type": "message_start", "message": {**MESSAGE, **ENDED}}),
    *[("anthropic.messages", {"type": "content_block_start", "index": 0, "content_block": one}) for one in BLOCKS],
    *[
        ("anthropic.messages", {"type": "content_block_delta", "index": 0, "delta": one})
        for one in (
            {"type": "text_delta", "text": "Hi."}, {"type": "input_json_delta", "partial_json": "{"},
            {"type": "thinking_delta", "thinking": "Hm."}, {"type": "signature_delta", "signature": "s"},
            {"type": "citations_delta", "citation": CITATION},
        )
    ],
    ("anthropic.messages", {"type": "content_block_stop", "index": 0}),
    ("anthropic.messages", {"type": "message_delta", "delta": ENDED, "usage": CLAUDE_USAGE}),
    ("openai.responses", {"type": "response.completed", "sequence_number": 1, "response": RESPONSE}),
    *[("openai.responses", {"type": "response.output_item.done", "output_index": 0, "item": one}) for one in ITEMS],
    ("openai.responses", {"type": "response.output_text.delta", **PLACE, "delta": "Hi.", "logprobs": [LOGPROB]}),
    ("openai.responses", {"type": "response.content_part.done", **PLACE, "part": PART}),
    ("openai.responses", {"type": "response.output_text.annotation.added", **PLACE, "annotation": FILE}),
]  # fmt: skip

TEXTS = {
    "content", "reasoning_content", "reasoning", "refusal", "name", "arguments", "input", "token", "title", "url",
    "data",
    "text", "thinking", "signature", "partial_json", "cited_text", "document_title", "embedding", "delta", "query",
    "encrypted_content", "stop_sequence", "code", "filename",
}  # fmt: skip
"""Where the words of a model belong, or those of what it found."""
WRITTEN = {"input", "action"}
"""JSON of a model's, or of what it asked a tool of the provider's for: with members of its own."""

Path = tuple[str | int, ...]


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """To every value within."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from paths(inner, (*path, key))


def at(document: Any, path: Path) -> Any:
    """What stands there."""
    for step in path:
        document = document[step]
    return document


def changed(document: Any, path: Path, value: Any) -> Any:
    """A copy with another value at `path`."""
    copy = orjson.loads(orjson.dumps(document))
    at(copy, path[:-1])[path[-1]] = value
    return copy


def marks(document: dict[str, Any], path: Path) -> list[Any]:
    """The mark in every form that has no business at `path`."""
    nested = [{MARK: MARK}, {"type": MARK, "text": 1}, {"error": MARK}]
    if path[-1] in TEXTS or (isinstance(path[-1], int) and path[-2] in TEXTS):
        within = at(document, path[:-1])
        found = isinstance(within, dict) and str(within.get("type")).endswith("_tool_result")
        return [{MARK: MARK}] if found or "content" in path[:-1] else [[MARK], *nested]
    return [MARK, [MARK], *nested]


def marked(document: dict[str, Any]) -> Iterator[tuple[Path, Any]]:
    """The document with the mark in the place of each value, within one, and beside the members of each object."""
    beside = {MARK: MARK, "id": MARK, "file_id": MARK, "x_groq": {"id": MARK}, "system_fingerprint": MARK}
    yield (), {**document, **beside}
    for path in paths(document):
        if WRITTEN & set(path):
            continue
        for value in marks(document, path):
            yield path, changed(document, path, value)
        found = at(document, path)
        if isinstance(found, dict):
            yield path, changed(document, path, {**found, **beside})


@pytest.mark.parametrize(("dialect", "document"), ANSWERS, ids=lambda one: one if isinstance(one, str) else "")
def test_no_string_of_a_whole_answer_passes_where_no_text_belongs(dialect: str, document: dict[str, Any]) -> None:
    """Planted in every place in turn."""
    form, seen = FORMATS[dialect], asked()
    for path, planted in marked(document):
        ours = form.whole(planted, Names(seen, form.id_prefix))
        assert MARK not in orjson.dumps(ours).decode(), path


@pytest.mark.parametrize(("dialect", "document"), EVENTS, ids=lambda one: "" if isinstance(one, str) else one["type"])
def test_no_string_of_an_event_passes_where_no_text_belongs(dialect: str, document: dict[str, Any]) -> None:
    """Planted in every place in turn."""
    form, seen = FORMATS[dialect], asked()
    conceal = Concealer(seen, form, DIALECTS[dialect], Names(seen, form.id_prefix))
    assert b"upstream_error" not in conceal(make_event(orjson.dumps(document)))
    for path, planted in marked(document):
        assert MARK.encode() not in conceal(make_event(orjson.dumps(planted))), path


@pytest.mark.parametrize("dialect", FORMATS)
@given(data=st.binary(max_size=300))
def test_bytes_of_any_kind_never_raise_and_never_pass(dialect: str, data: bytes) -> None:
    """What is no event of the format is left out."""
    form, seen = FORMATS[dialect], asked()
    conceal = Concealer(seen, form, DIALECTS[dialect], Names(seen, form.id_prefix))
    said = conceal(data + MARK.encode() + b"\n\n") + conceal(b"")
    assert MARK.encode() not in said


@pytest.mark.parametrize(
    "text", [b'{"a":"\\ud83d"}', b'{"a":18446744073709551616}', b'{"a":1e3}', b'{"a":%b}' % (b"[" * 300 + b"]" * 300)]
)
def test_json_is_read_and_written_again(text: bytes) -> None:
    """Half a pair of surrogates, large numbers, nesting: the same value."""
    document = json_text.read(text)
    assert document is not None
    written = json_text.write(document)
    assert written is not None and json_text.read(written) == document


@pytest.mark.parametrize("text", [b"", b"[]", b"7", b"{", b'{"a":}', b"\xff", b"[" * 100_000, b'{"a":NaN'])
def test_what_is_no_object_is_none(text: bytes) -> None:
    """And never an exception."""
    assert json_text.read(text) is None
