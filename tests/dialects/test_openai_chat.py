"""Chat completions: what a request says, what is changed on its way out, and what it may cost."""

import json
from typing import Any

import httpx2
import openai
import orjson
import pytest

from proxy.dialects import DIALECTS
from proxy.dialects.base import Call
from proxy.dialects.json_scan import scan
from proxy.errors import Refusal

CHAT = DIALECTS["openai.chat"]
HELLO = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}


def parse(**members: Any) -> Call:
    return CHAT.parse(orjson.dumps(HELLO | members))


def rewritten(call: Call, **how: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = {"model": "gpt-4o", "output_tokens": None, "output_field": None, "report_usage": False}
    document: dict[str, Any] = json.loads(CHAT.rewrite(call, **(defaults | how)))
    return document


def test_a_plain_request() -> None:
    """Facts of the smallest request."""
    call = parse()
    assert (call.dialect, call.model, call.stream, call.wants_usage) == ("openai.chat", "gpt-4o", False, False)
    assert (call.output_tokens_max, call.output_field, call.choices) == (None, None, 1)
    assert (call.input_parts, call.images, call.unbounded) == (1, 0, None)
    assert call.document == HELLO


def test_the_body_of_the_providers_own_sdk_is_understood_and_passed() -> None:
    """What the OpenAI client sends is parsed, and goes out byte for byte where nothing changes."""
    sent: list[bytes] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request.read())
        return httpx2.Response(200, json={"id": "1", "choices": [], "object": "chat.completion", "created": 1})

    client = openai.OpenAI(
        api_key="k", base_url="http://test", http_client=httpx2.Client(transport=httpx2.MockTransport(answer))
    )
    client.chat.completions.create(
        model="gpt-4o",
        messages=[
            {"role": "system", "content": "Grüße 😀"},
            {"role": "user", "content": [{"type": "text", "text": "x"}]},
        ],
        max_completion_tokens=7,
        n=2,
        temperature=0.1,
        tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        stream=False,
    )
    call = CHAT.parse(sent[0])
    assert (call.output_tokens_max, call.output_field, call.choices, call.input_parts) == (
        7,
        "max_completion_tokens",
        2,
        3,
    )
    same = CHAT.rewrite(call, model="gpt-4o", output_tokens=7, output_field=None, report_usage=True)
    assert same is call.body
    assert scan(call.body).normal == call.body, "the quick way through the scan is made for such bodies"


def test_a_stream_that_asks_for_usage() -> None:
    """`include_usage` counts for a stream only."""
    assert parse(stream=True, stream_options={"include_usage": True}).wants_usage
    assert not parse(stream=True, stream_options={"include_usage": False}).wants_usage
    assert not parse(stream=True, stream_options=None).wants_usage
    assert not parse(stream=False, stream_options={"include_usage": True}).wants_usage


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 3}, "model"),
        ({"model": ""}, "model"),
        ({"model": "m" * 257}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": {"type": "text"}}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [5]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{}]}]}, "messages[0].content[0].type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
            "messages[0].content[0].image_url",
        ),
        ({"stream": 1}, "stream"),
        ({"stream": "true"}, "stream"),
        ({"stream_options": []}, "stream_options"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"n": True}, "n"),
        ({"n": 1.0}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": 1 << 40}, "max_tokens"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"tools": {}}, "tools"),
        ({"tools": ["x"]}, "tools[0]"),
        ({"tools": [{"function": {}}]}, "tools[0].type"),
        ({"functions": "f"}, "functions"),
    ],
)
def test_a_wrong_type_is_a_400_that_names_the_member(members: dict[str, Any], param: str) -> None:
    """Nothing is guessed about a member that decides about the cost."""
    with pytest.raises(Refusal) as caught:
        parse(**members)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert param in caught.value.message


def test_a_body_without_a_model_leaves_it_to_the_path() -> None:
    """And gets the model put in."""
    call = CHAT.parse(orjson.dumps({"messages": HELLO["messages"]}))
    assert call.model is None
    assert rewritten(call, model="x")["model"] == "x"


def test_images_are_counted() -> None:
    """By URL or as data, in any message."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    call = parse(messages=[{"role": "user", "content": [image, {"type": "text", "text": "x"}, image]}] * 2)
    assert (call.images, call.unbounded) == (4, None)


@pytest.mark.parametrize(
    "members",
    [
        {"modalities": ["text", "audio"]},
        {"audio": {"voice": "alloy", "format": "wav"}},
        {"web_search_options": {}},
        {"service_tier": "priority"},
        {"service_tier": "fast"},
        {"service_tier": 1},
        {"prediction": {"type": "content", "content": "x"}},
        {"models": ["dearer"]},
        {"plugins": [{"id": "web"}]},
        {"tools": [{"type": "web_search"}]},
        {"tools": [{"type": "function", "function": {"name": "f"}}, {"type": "mcp"}]},
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "video_url", "video_url": {}}]}]},
        {"messages": [{"role": "assistant", "content": None, "audio": {"id": "a"}}]},
    ],
)
def test_what_cannot_be_bounded_is_named(members: dict[str, Any]) -> None:
    """Each in words for the caller; the request itself stays valid."""
    assert parse(**members).unbounded


@pytest.mark.parametrize(
    "members",
    [
        {"service_tier": "auto"},
        {"service_tier": "default"},
        {"service_tier": "flex"},
        {"service_tier": None},
        {"modalities": ["text"]},
        {"store": True},
        {"audio": None},
        {"plugins": []},
        {"tools": [{"type": "custom", "custom": {"name": "c"}}]},
        {"some_member_of_tomorrow": {"x": [1]}},
        {"messages": [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}]},
    ],
)
def test_what_costs_no_more_is_bounded(members: dict[str, Any]) -> None:
    """Unknown members pass through."""
    assert parse(**members).unbounded is None


@pytest.mark.parametrize(
    ("field", "output_field"),
    [("max_tokens", "max_tokens"), ("max_tokens", "max_completion_tokens"), ("max_completion_tokens", None)],
)
def test_the_limit_goes_into_the_member_the_client_used(field: str, output_field: str | None) -> None:
    """Where the upstream knows it."""
    changed = rewritten(parse(**{field: 500}), output_tokens=100, output_field=output_field)
    assert changed == {**HELLO, field: 100}


@pytest.mark.parametrize("limit", [100, 500])
def test_a_limit_is_never_left_in_a_member_that_the_upstream_ignores(limit: int) -> None:
    """Such a request would generate without any limit, under a hold for a few tokens."""
    changed = rewritten(parse(max_completion_tokens=500), output_tokens=limit, output_field="max_tokens")
    assert changed == {**HELLO, "max_tokens": limit}
    both = parse(max_completion_tokens=500, max_tokens=500)
    assert rewritten(both, output_tokens=limit, output_field="max_tokens") == {**HELLO, "max_tokens": limit}


def test_the_limit_goes_into_both_members_where_both_were_used() -> None:
    """They may only be given alike, so they stay alike."""
    changed = rewritten(parse(max_tokens=9, max_completion_tokens=9), output_tokens=4)
    assert (changed["max_tokens"], changed["max_completion_tokens"]) == (4, 4)


def test_a_client_without_a_limit_gets_the_upstreams_member() -> None:
    """Else the dialect's preferred one; null is no limit."""
    assert rewritten(parse(), output_tokens=3)["max_completion_tokens"] == 3
    assert rewritten(parse(), output_tokens=3, output_field="max_tokens")["max_tokens"] == 3
    assert rewritten(parse(max_tokens=None), output_tokens=3, output_field="max_tokens")["max_tokens"] == 3


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"include_usage": True}),
        ({"stream_options": None}, {"include_usage": True}),
        ({"stream_options": {}}, {"include_usage": True}),
        ({"stream_options": {"include_usage": False}}, {"include_usage": True}),
        (
            {"stream_options": {"include_obfuscation": False}},
            {"include_usage": True, "include_obfuscation": False},
        ),
    ],
)
def test_usage_of_a_stream_is_asked_for(options: dict[str, Any], expected: dict[str, Any]) -> None:
    """Other members of stream_options stay."""
    call = parse(stream=True, **options)
    assert rewritten(call, report_usage=True)["stream_options"] == expected
    assert rewritten(call) == call.document
    assert rewritten(parse(**options), report_usage=True) == HELLO | options


def test_only_the_named_bytes_change() -> None:
    """White space, escapes and unknown members survive a rewrite."""
    body = (
        b'{\n  "messages": [{"role":"user","content":"\\u00e9  "}],\n  "model": "alias", "stream": true,\n  "x": 1e2}'
    )
    changed = CHAT.rewrite(CHAT.parse(body), model='real/"1', output_tokens=5, output_field=None, report_usage=True)
    assert changed == (
        b'{"max_completion_tokens":5,"stream_options":{"include_usage":true},'
        + body[1:].replace(b'"alias"', b'"real/\\"1"')
    )


def test_errors_and_content_of_a_stream_are_told_apart() -> None:
    """The head may go out with the first choice; an error in its place means failover."""
    role = b'data: {"choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n'
    assert CHAT.is_content_event(role) and not CHAT.is_error_event(role)
    assert not CHAT.says_something(role)
    for delta in (
        b'{"content":"a"}',
        b'{"role":"assistant","tool_calls":[{"index":0,"id":"c"}]}',
        b'{"reasoning_content":"hm"}',
        b'{"refusal":"no"}',
    ):
        assert CHAT.says_something(b'data: {"choices":[{"index":0,"delta":' + delta + b"}]}\n\n")
    assert CHAT.says_something(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n')
    for event in (
        b'data: {"error":{"message":"no","type":"server_error"}}\n\n',
        b'data: {"object":"error","message":"no"}\n\n',
        b"event: error\ndata: no\n\n",
    ):
        assert CHAT.is_error_event(event) and not CHAT.is_content_event(event) and not CHAT.says_something(event)
    for event in (
        b": comment\n\n",
        b"data: [DONE]\n\n",
        b'data: {"choices":[],"prompt_filter_results":[]}\n\n',
        b'data: {"choices":[{"delta":{"content":"an \\"error\\" it is"}}],"error":null}\n\n',
        b"data: garbage error\n\n",
    ):
        assert not CHAT.is_error_event(event)


def test_only_the_chunk_we_asked_for_is_withheld() -> None:
    """Not one with choices, nor one without usage."""
    usage = b'"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}'
    assert CHAT.withholds(b'data: {"choices":[],' + usage + b"}\n\n")
    assert CHAT.withholds(b'data: {"choices": [], ' + usage + b"}\r\n\r\n")
    assert not CHAT.withholds(b'data: {"choices":[{"index":0,"delta":{}}],' + usage + b"}\n\n")
    assert not CHAT.withholds(b'data: {"choices":[],"usage":null}\n\n')
    assert not CHAT.withholds(b"data: [DONE]\n\n")


def test_an_error_becomes_an_event_of_the_stream() -> None:
    """The OpenAI SDK raises on it."""
    event = CHAT.error_event(Refusal("upstream_error", "It broke.").envelope())
    assert CHAT.is_error_event(event)
    assert event.endswith(b"\n\n")


@pytest.mark.parametrize(
    "members",
    [
        {"deferred": True},
        {"provider": {"order": ["dear"]}},
        {"preset": "mine"},
        {"data_sources": [{"type": "azure_search"}]},
        {"chat_template": "{% for i in range(99999) %}x{% endfor %}"},
        {"extra_body": {"google": {"cached_content": "cachedContents/1"}}},
        {"extra_body": {"google": {"thinking_config": {}}, "other": {}}},
        {"extra_body": "x"},
    ],
)
def test_input_and_prices_from_elsewhere_are_unbounded(members: dict[str, Any]) -> None:
    """The request's own bytes bound neither."""
    assert parse(**members).unbounded is not None


@pytest.mark.parametrize("extra", [None, {}, {"google": {"thinking_config": {"thinking_budget": 5}}}])
def test_googles_thinking_is_part_of_the_output(extra: Any) -> None:
    """Its tokens are within the limit."""
    assert parse(extra_body=extra).unbounded is None
