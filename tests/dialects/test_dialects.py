"""What holds for every wire format."""

from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy import operations
from proxy.dialects import DIALECTS
from proxy.dialects.base import Call
from proxy.errors import Refusal
from proxy.pricing.bounds import input_bound

NAMES = sorted(DIALECTS)
WORDS = st.sampled_from(
    [
        "type",
        "text",
        "image",
        "image_url",
        "url",
        "source",
        "content",
        "role",
        "user",
        "name",
        "data",
        "base64",
        "tool_result",
        "document",
        "delta",
        "choices",
        "message",
        "usage",
        "index",
        "error",
        "event",
        "prompt_tokens",
        "completion_tokens",
        "prompt_tokens_details",
        "output_tokens",
        "input_tokens",
        "iterations",
        "response",
        "response.completed",
        "response.failed",
        "response.output_text.delta",
        "output",
        "output_index",
        "input_image",
        "input_text",
        "encrypted_content",
        "cache_creation",
        "message_start",
        "message_delta",
        "content_block_delta",
        "content_block",
        "compaction",
        "tool_calls",
        "function",
        "arguments",
        "x_groq",
        "include_usage",
        "budget_tokens",
        "enabled",
    ]
)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 5000) | st.just(1.5) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=12,
)
MEMBERS = st.sampled_from(
    [
        "model",
        "messages",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "n",
        "tools",
        "functions",
        "service_tier",
        "modalities",
        "audio",
        "thinking",
        "system",
        "container",
        "speed",
        "input",
        "inference_geo",
        "mcp_servers",
        "response_format",
        "prediction",
        "metadata",
        "instructions",
        "max_output_tokens",
        "reasoning",
        "text",
        "prompt",
    ]
)
ROLE = st.fixed_dictionaries({"role": st.just("user")}, optional={"content": VALUE, "type": VALUE, "source": VALUE})


@pytest.mark.parametrize("name", NAMES)
@given(
    document=st.dictionaries(MEMBERS, VALUE, max_size=6), messages=st.lists(ROLE, max_size=3), reasonable=st.booleans()
)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_any_object_is_parsed_or_refused(
    name: str, document: dict[str, Any], messages: list[Any], reasonable: bool
) -> None:
    """No JSON a client sends makes parsing, rewriting or bounding fail in any other way."""
    if reasonable:
        document = document | {"messages": messages, "model": "m", "tools": [], "input": ["x"]}
    dialect = DIALECTS[name]
    try:
        call = dialect.parse(orjson.dumps(document))
        out = dialect.rewrite(call, model="real", output_tokens=9, output_field=None, report_usage=True)
    except Refusal as refusal:
        assert refusal.status == 400
        return
    again = dialect.parse(out)
    assert again.model == "real"
    assert again.choices == call.choices
    assert again.output_tokens_max == (9 if dialect.output_fields else None)
    assert again.wants_usage == call.stream
    bound = input_bound(call, image_tokens_max=100)
    assert bound is not None
    assert bound > 0


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", NAMES)
@given(answers=st.lists(st.dictionaries(WORDS, VALUE, max_size=5), max_size=4), cut=st.integers(1, 50))
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_any_answer_is_read_without_failing(name: str, stream: bool, answers: list[Any], cut: int) -> None:
    """No JSON an upstream sends makes a reader or an event's test raise."""
    dialect = DIALECTS[name]
    reader = dialect.usage_reader(stream=stream)
    for answer in answers:
        event = b"data: " + orjson.dumps(answer) + b"\n\n"
        for start in range(0, len(event), cut):
            reader.feed(event[start : start + cut] if stream else event[6:][start : start + cut])
        assert dialect.is_error_event(event) in (True, False)
        assert dialect.is_content_event(event) in (True, False)
        assert dialect.withholds(event) in (True, False)
    usage = reader.usage()
    assert usage is None or usage.input_tokens + usage.output_tokens >= 0
    assert isinstance(reader.output_text(), str)
    assert reader.finished in (True, False)


def test_every_priced_operation_has_its_dialect() -> None:
    """And each dialect is known by its own name."""
    priced = {op.dialect for op in vars(operations).values() if isinstance(op, operations.Operation) and op.priced}
    assert priced == set(DIALECTS) == {dialect.name for dialect in DIALECTS.values()}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model":"a","model":"b"}', b"\xff"])
def test_what_is_no_json_object_is_refused_everywhere(name: str, body: bytes) -> None:
    """With a 400."""
    with pytest.raises(Refusal) as caught:
        DIALECTS[name].parse(body)
    assert caught.value.status == 400


def test_a_call_keeps_the_very_bytes() -> None:
    """Nothing is copied or re-serialised while nothing changes."""
    body = b'{"model":"m", "messages":[{"role":"user","content":"x"}]}'
    call: Call = DIALECTS["openai.chat"].parse(body)
    assert call.body is body


@pytest.mark.parametrize(
    ("name", "key", "meant"),
    [
        ("openai.chat", "Max_Tokens", "max_tokens"),
        ("openai.chat", "maxCompletionTokens", "max_completion_tokens"),
        ("openai.chat", "N", "n"),
        ("openai.chat", "Model", "model"),
        ("openai.chat", "\u017fervice_tier", "service_tier"),
        ("openai.chat", "too\u2113\u017f", None),
        ("openai.chat", "to\u212aens", None),
        ("openai.chat", "X-Custom", None),
        ("openai.embeddings", "Input", "input"),
        ("openai.responses", "Max_Output_Tokens", "max_output_tokens"),
        ("openai.responses", "Input", "input"),
        ("anthropic.messages", "maxTokens", "max_tokens"),
        ("anthropic.messages", "max_to\u212aens", "max_tokens"),
        ("anthropic.messages", "MCP_servers", "mcp_servers"),
    ],
)
def test_a_member_that_decides_has_one_spelling(name: str, key: str, meant: str | None) -> None:
    """Servers whose JSON parser folds case, or takes camelCase, would go by a value that was not priced."""
    given = (
        {"input": "x"}
        if name in ("openai.embeddings", "openai.responses")
        else {"messages": [{"role": "user", "content": "x"}]}
    )
    body = orjson.dumps({"model": "m", **given, key: 1})
    if meant is None:
        assert DIALECTS[name].parse(body).document[key] == 1
        return
    with pytest.raises(Refusal) as refused:
        DIALECTS[name].parse(body)
    assert (refused.value.code, refused.value.param) == ("invalid_request", key)
    assert f"'{meant}'" in refused.value.message


@pytest.mark.parametrize("name", ["openai.chat", "anthropic.messages"])
@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "Content": [{"type": "text", "text": "x"}]},
        {"role": "user", "content": [{"type": "text", "text": "x", "Type": "image_url"}]},
    ],
)
def test_what_decides_within_a_message_has_one_spelling(name: str, message: dict[str, object]) -> None:
    """An image must not pass as a text."""
    with pytest.raises(Refusal):
        DIALECTS[name].parse(orjson.dumps({"model": "m", "messages": [message]}))
