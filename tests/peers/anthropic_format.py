"""Anthropic's wire format: messages, token counts, models, errors (docs.anthropic.com/en/api)."""

from __future__ import annotations

import json
from typing import Any

from tests.peers.answers import Answer, encode, output_words, reported, serial, text_of, words
from tests.peers.behaviour import Behaviour, Usage

type Block = tuple[dict[str, Any], list[dict[str, Any]]]
"""A content block, and the deltas it is streamed in."""

MODELS = ("claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5")
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def headers() -> list[tuple[str, str]]:
    """What api.anthropic.com sends beside the content's own headers."""
    return [
        ("date", "Sat, 21 Nov 2026 04:00:00 GMT"),
        ("request-id", serial("req_")),
        ("anthropic-organization-id", "00000000-0000-4000-8000-000000000000"),
        ("anthropic-ratelimit-requests-limit", "4000"),
        ("anthropic-ratelimit-requests-remaining", "3999"),
        ("anthropic-ratelimit-requests-reset", "2026-11-21T04:00:01Z"),
        ("anthropic-ratelimit-input-tokens-limit", "400000"),
        ("anthropic-ratelimit-input-tokens-remaining", "399000"),
        ("anthropic-ratelimit-input-tokens-reset", "2026-11-21T04:00:01Z"),
        ("set-cookie", "_cfuvid=scripted; HttpOnly; SameSite=None; Secure; Path=/; Domain=api.anthropic.com"),
        ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
        ("server", "cloudflare"),
        ("cf-ray", "9a1b2c3d4e5f-AMS"),
        ("via", "1.1 google"),
    ]


def error(status: int, message: str) -> Answer:
    """The error envelope with Anthropic's type for `status`."""
    return Answer(status, [_error_body(status, message)])


def _error_body(status: int, message: str) -> bytes:
    detail = {"type": _TYPES.get(status, "api_error"), "message": message}
    return encode({"type": "error", "error": detail, "request_id": serial("req_")})


def models() -> Answer:
    """GET /v1/models with an anthropic-version."""
    data = [
        {
            "type": "model",
            "id": name,
            "display_name": name.replace("-", " ").title(),
            "created_at": "2026-01-01T00:00:00Z",
            "lifecycle": "active",
        }
        for name in MODELS
    ]
    return Answer(200, [encode({"data": data, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]})])


def count_tokens(request: dict[str, Any]) -> Answer:
    """POST /v1/messages/count_tokens."""
    return Answer(200, [encode({"input_tokens": _input_tokens(request)})])


def messages(request: dict[str, Any], behaviour: Behaviour) -> Answer:
    """POST /v1/messages, streamed or not; with thinking asked for, a signed thinking block comes first."""
    for member, kind in (("model", str), ("messages", list), ("max_tokens", int)):
        if not isinstance(request.get(member), kind):
            return error(400, f"{member}: Field required")
    pieces, cut = output_words(behaviour, request["max_tokens"])
    thinking = (request.get("thinking") or {}).get("type") in ("enabled", "adaptive")
    stop = "tool_use" if behaviour.tool else "max_tokens" if cut else "end_turn"
    usage = _usage(request, behaviour, len(pieces))
    base = {"id": serial("msg_"), "type": "message", "role": "assistant", "model": request["model"]}
    blocks = _blocks(behaviour, pieces, thinking)
    if request.get("stream"):
        return _stream(behaviour, base, blocks, stop, usage)
    body = base | {"content": [block for block, _ in blocks], "stop_reason": stop, "stop_sequence": None}
    if behaviour.usage is not Usage.MISSING:
        body["usage"] = usage
    return Answer(200, [encode(body)])


def _blocks(behaviour: Behaviour, pieces: list[str], thinking: bool) -> list[Block]:
    """The content blocks, each with the deltas it is streamed in."""
    blocks: list[Block] = []
    if thinking:
        thought, signature = "Let me count the words.", "c2lnbmF0dXJlIG9mIHRoZSBzY3JpcHRlZCBwcm92aWRlcg=="
        deltas: list[dict[str, Any]] = [{"type": "thinking_delta", "thinking": word} for word in words(thought)]
        deltas.append({"type": "signature_delta", "signature": signature})
        blocks.append(({"type": "thinking", "thinking": thought, "signature": signature}, deltas))
    if behaviour.tool:
        name, arguments = behaviour.tool
        parts = [arguments[start : start + 8] for start in range(0, len(arguments), 8)]
        block = {"type": "tool_use", "id": serial("toolu_"), "name": name, "input": json.loads(arguments)}
        blocks.append((block, [{"type": "input_json_delta", "partial_json": part} for part in ["", *parts]]))
    else:
        block = {"type": "text", "text": "".join(pieces)}
        blocks.append((block, [{"type": "text_delta", "text": piece} for piece in pieces]))
    return blocks


def _stream(
    behaviour: Behaviour,
    base: dict[str, Any],
    blocks: list[Block],
    stop: str,
    usage: Any,
) -> Answer:
    opening: dict[str, Any] = base | {"content": [], "stop_reason": None, "stop_sequence": None}
    closing: dict[str, Any] = {"delta": {"stop_reason": stop, "stop_sequence": None}}
    if behaviour.usage is not Usage.MISSING:
        opening["usage"] = usage if usage is None else {**usage, "output_tokens": min(1, usage.get("output_tokens", 0))}
        closing["usage"] = usage if usage is None else {"output_tokens": usage.get("output_tokens")}
    events = [_event("message_start", message=opening)]
    for index, (block, deltas) in enumerate(blocks):
        empty = {"thinking": {"thinking": "", "signature": ""}, "text": {"text": ""}, "tool_use": {"input": {}}}
        start = block | empty[block["type"]]
        events.append(_event("content_block_start", index=index, content_block=start))
        if index == 0:
            events.append(_event("ping"))
        events += [_event("content_block_delta", index=index, delta=delta) for delta in deltas]
        events.append(_event("content_block_stop", index=index))
    events += [_event("message_delta", **closing), _event("message_stop")]
    failed = b"event: error\ndata: " + _error_body(529, "Overloaded") + b"\n\n"
    return Answer(200, events, "text/event-stream; charset=utf-8", length=False, error_event=failed)


def _event(type_: str, **members: Any) -> bytes:
    return f"event: {type_}\n".encode() + b"data: " + encode({"type": type_} | members) + b"\n\n"


def _input_tokens(request: dict[str, Any]) -> int:
    texts = [text_of(message.get("content")) for message in request.get("messages", [])]
    return sum(len(words(text)) for text in [*texts, text_of(request.get("system"))])


def _usage(request: dict[str, Any], behaviour: Behaviour, generated: int) -> Any:
    regular = {
        "input_tokens": _input_tokens(request),
        "cache_creation_input_tokens": behaviour.cache_write_tokens,
        "cache_read_input_tokens": behaviour.cached_tokens,
        "cache_creation": {"ephemeral_5m_input_tokens": behaviour.cache_write_tokens, "ephemeral_1h_input_tokens": 0},
        "output_tokens": generated + behaviour.reasoning_tokens,
        "service_tier": "standard",
    }
    return reported(behaviour.usage, regular)
