"""The demo's answers on the wire: OpenAI's chat completions and Anthropic's messages, whole and streamed."""

from __future__ import annotations

from typing import Any

import orjson


def chat_answer(
    base: dict[str, Any], pieces: list[str], choices: int, finish: str, usage: dict[str, int]
) -> dict[str, Any]:
    """A whole chat completion."""
    message = {"role": "assistant", "content": "".join(pieces), "refusal": None}
    listed = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": finish} for index in range(choices)
    ]
    return {**base, "object": "chat.completion", "choices": listed, "usage": usage}


def chat_events(
    base: dict[str, Any], pieces: list[str], choices: int, finish: str, usage: dict[str, int] | None
) -> list[bytes]:
    """The same as events; with `usage`, it comes in a chunk of its own without choices, before [DONE]."""
    head = {**base, "object": "chat.completion.chunk"}
    if usage is not None:
        head["usage"] = None

    def chunk(index: int, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return b"data: " + orjson.dumps({**head, "choices": [choice]}) + b"\n\n"

    events: list[bytes] = []
    for index in range(choices):
        events.append(chunk(index, {"role": "assistant", "content": "", "refusal": None}))
        events += [chunk(index, {"content": piece}) for piece in pieces]
        events.append(chunk(index, {}, finish))
    if usage is not None:
        events.append(b"data: " + orjson.dumps({**head, "choices": [], "usage": usage}) + b"\n\n")
    events.append(b"data: [DONE]\n\n")
    return events


def message_answer(base: dict[str, Any], pieces: list[str], stop: str, input_tokens: int) -> dict[str, Any]:
    """A whole message."""
    return {
        **base,
        "content": [{"type": "text", "text": "".join(pieces)}],
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": _message_usage(input_tokens, len(pieces)),
    }


def message_events(base: dict[str, Any], pieces: list[str], stop: str, input_tokens: int) -> list[bytes]:
    """The same as events: input tokens in `message_start`, the output's total in `message_delta`."""
    opening = {
        **base,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _message_usage(input_tokens, min(1, len(pieces))),
    }
    events = [
        _event("message_start", message=opening),
        _event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        _event("ping"),
    ]
    deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
    events += [_event("content_block_delta", index=0, delta=delta) for delta in deltas]
    events.append(_event("content_block_stop", index=0))
    closing = {"stop_reason": stop, "stop_sequence": None}
    events.append(_event("message_delta", delta=closing, usage={"output_tokens": len(pieces)}))
    events.append(_event("message_stop"))
    return events


def _event(type_: str, **members: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (type_.encode(), orjson.dumps({"type": type_, **members}))


def _message_usage(input_tokens: int, output_tokens: int) -> dict[str, int]:
    return {
        "input_tokens": input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output_tokens,
    }
