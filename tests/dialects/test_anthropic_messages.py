"""Messages: what a request says, what is changed on its way out, and what it may cost."""

import json
from typing import Any

import anthropic
import httpx2
import orjson
import pytest

from proxy.dialects import DIALECTS
from proxy.dialects.base import Call
from proxy.dialects.json_scan import scan
from proxy.errors import Refusal

MESSAGES = DIALECTS["anthropic.messages"]
HELLO: dict[str, Any] = {"model": "claude", "max_tokens": 2048, "messages": [{"role": "user", "content": "Hello"}]}


def parse(**members: Any) -> Call:
    return MESSAGES.parse(orjson.dumps(HELLO | members))


def said(*blocks: Any) -> Call:
    return parse(messages=[{"role": "user", "content": list(blocks)}])


def limited(call: Call, output_tokens: int | None) -> bytes:
    return MESSAGES.rewrite(
        call, model="claude", output_tokens=output_tokens, output_field="ignored", report_usage=True
    )


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}


def test_the_body_of_the_providers_own_sdk_is_understood_and_passed() -> None:
    """What the Anthropic client sends is parsed, and goes out byte for byte where nothing changes."""
    sent: list[bytes] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request.read())
        return httpx2.Response(200, json={"id": "1", "type": "message"})

    client = anthropic.Anthropic(
        api_key="k", base_url="http://test", http_client=httpx2.Client(transport=httpx2.MockTransport(answer))
    )
    client.messages.create(
        model="claude",
        max_tokens=10,
        system=[{"type": "text", "text": "Grüße", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        messages=[{"role": "user", "content": "Hello"}],
        tools=[{"name": "t", "input_schema": {"type": "object"}}, {"type": "bash_20250124", "name": "bash"}],
    )
    call = MESSAGES.parse(sent[0])
    assert (call.model, call.output_tokens_max, call.output_field, call.choices) == ("claude", 10, "max_tokens", 1)
    assert (call.input_parts, call.cache_write, call.unbounded) == (3, True, None)
    assert limited(call, 10) is call.body
    assert scan(call.body).normal == call.body, "the quick way through the scan is made for such bodies"


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages[0].content[0].source"),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": 3}]}]},
            "messages[0].content[0].content",
        ),
        ({"system": 1}, "system"),
        ({"system": ["x"]}, "system[0]"),
        ({"stream": "yes"}, "stream"),
        ({"tools": [1]}, "tools[0]"),
        ({"tools": [{"type": 1}]}, "tools[0].type"),
        ({"thinking": True}, "thinking"),
        ({"thinking": {"type": "enabled", "budget_tokens": "1024"}}, "thinking.budget_tokens"),
    ],
)
def test_a_wrong_type_is_a_400_that_names_the_member(members: dict[str, Any], param: str) -> None:
    """Nothing is guessed about a member that decides about the cost."""
    with pytest.raises(Refusal) as caught:
        parse(**members)
    assert (caught.value.status, caught.value.param) == (400, param)


def test_images_are_counted_wherever_they_stand() -> None:
    """In messages, results of tools and documents made of blocks, by data, URL or file."""
    by_url = {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}
    call = said(
        IMAGE,
        by_url,
        {"type": "tool_result", "tool_use_id": "t", "content": [IMAGE, {"type": "text", "text": "x"}]},
        {"type": "document", "source": {"type": "content", "content": [IMAGE]}},
    )
    assert (call.images, call.unbounded) == (4, None)


@pytest.mark.parametrize(
    "members",
    [
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        {"tools": [{"type": "web_fetch_20250910", "name": "web_fetch"}]},
        {"tools": [{"type": "code_execution_20250825", "name": "code_execution"}]},
        {"tools": [{"type": "tool_search_tool_bm25_20251119", "name": "s"}]},
        {"tools": [{"type": "computer_toolset_20260801"}]},
        {"tools": [{"type": "mcp_toolset", "mcp_server_name": "m"}]},
        {"mcp_servers": [{"type": "url", "url": "https://x", "name": "m"}]},
        {"container": "c"},
        {"container": {}},
        {"thread": {"type": "create"}},
        {"fallbacks": "default"},
        {"context_management": {"edits": []}},
        {"speed": "fast"},
        {"inference_geo": "us"},
        {"service_tier": "priority"},
        {"messages": [{"role": "user", "content": [{"type": "container_upload", "file_id": "f"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "url", "url": "u"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "file", "file_id": "f"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "base64", "data": "A"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "hologram"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [{"type": "tool_reference"}]}]}]},
        {"system": [{"type": "web_search_tool_result", "content": []}]},
    ],
)
def test_what_cannot_be_bounded_is_named(members: dict[str, Any]) -> None:
    """Each in words for the caller; the request itself stays valid."""
    assert parse(**members).unbounded


@pytest.mark.parametrize(
    "members",
    [
        {"tools": [{"name": "mine", "input_schema": {}}, {"type": "custom", "name": "x"}]},
        {
            "tools": [
                {"type": kind}
                for kind in ("bash_20250124", "text_editor_20250728", "computer_20250124", "memory_20250818")
            ]
        },
        {"service_tier": "auto"},
        {"service_tier": "standard_only"},
        {"speed": "standard"},
        {"inference_geo": "global"},
        {"mcp_servers": []},
        {"container": None},
        {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "text", "data": "x"}}]}]},
        {"messages": [{"role": "assistant", "content": [{"type": "thinking", "thinking": "x", "signature": "s"}]}]},
        {"some_member_of_tomorrow": 1},
    ],
)
def test_what_costs_no_more_is_bounded(members: dict[str, Any]) -> None:
    """Unknown members pass through."""
    assert parse(**members).unbounded is None


@pytest.mark.parametrize(
    "members",
    [
        {"cache_control": {"type": "ephemeral"}},
        {"system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]},
        {"tools": [{"name": "t", "cache_control": {"type": "ephemeral"}}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]}
            ]
        },
    ],
)
def test_cache_markers_are_seen_anywhere(members: dict[str, Any]) -> None:
    """However the key is spelt."""
    assert parse(**members).cache_write
    body = orjson.dumps(HELLO | members)
    assert MESSAGES.parse(body.replace(b"cache_control", b"\\u0063ache_control")).cache_write


def test_no_cache_marker_no_cache_write() -> None:
    """A text about cache_control is none."""
    assert not said({"type": "text", "text": '"cache_control":{}'}).cache_write


def test_the_limit_is_set_or_clamped_in_place() -> None:
    """max_tokens alone changes; where the client set none it is added."""
    assert json.loads(limited(parse(), 5)) == HELLO | {"max_tokens": 5}
    bare = MESSAGES.parse(b'{"messages":[{"role":"user","content":"x"}], "model":"claude"}')
    assert (bare.output_tokens_max, bare.output_field) == (None, None)
    assert limited(bare, 7) == b'{"max_tokens":7,"messages":[{"role":"user","content":"x"}], "model":"claude"}'
    assert limited(bare, None) == bare.body


def test_a_limit_of_nothing_fills_the_cache() -> None:
    """The provider allows max_tokens 0."""
    assert parse(max_tokens=0).output_tokens_max == 0


@pytest.mark.parametrize("limit", [1024, 1023, 1])
def test_a_clamped_limit_leaves_room_for_thinking_or_is_refused(limit: int) -> None:
    """The budget must stay below max_tokens."""
    call = parse(thinking={"type": "enabled", "budget_tokens": 1024})
    assert json.loads(limited(call, 1025))["max_tokens"] == 1025
    with pytest.raises(Refusal) as caught:
        limited(call, limit)
    assert (caught.value.status, caught.value.param) == (400, "thinking.budget_tokens")
    assert str(limit) in caught.value.message


def test_a_budget_over_the_clients_own_limit_is_the_providers_business() -> None:
    """Interleaved thinking allows it."""
    call = parse(thinking={"type": "enabled", "budget_tokens": 9000})
    assert limited(call, 2048) is call.body


def test_errors_and_content_of_a_stream_are_told_apart() -> None:
    """ping and message_start are neither."""
    error = MESSAGES.error_event(Refusal("upstream_error", "It broke.").envelope(dialect="anthropic.messages"))
    assert error.startswith(b"event: error\ndata: ")
    assert MESSAGES.is_error_event(error) and not MESSAGES.is_content_event(error)
    assert MESSAGES.is_error_event(b'data: {"type":"error","error":{"type":"overloaded_error"}}\n\n')
    for kind in ("content_block_start", "content_block_delta", "message_delta"):
        event = f'event: {kind}\ndata: {{"type":"{kind}","delta":{{"text":"error"}}}}\n\n'.encode()
        assert MESSAGES.is_content_event(event) and not MESSAGES.is_error_event(event)
        assert not MESSAGES.withholds(event)
    for kind in ("ping", "message_start", "content_block_stop"):
        event = f'event: {kind}\ndata: {{"type": "{kind}"}}\n\n'.encode()
        assert not MESSAGES.is_content_event(event) and not MESSAGES.is_error_event(event)
