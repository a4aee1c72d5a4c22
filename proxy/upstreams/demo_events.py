"""The demo's answers on the wire: OpenAI's chat completions and responses, Anthropic's messages, whole and streamed."""

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


def response_answer(base: dict[str, Any], pieces: list[str], cut: bool, input_tokens: int) -> dict[str, Any]:
    """A whole response; `base` is one that has just begun."""
    return {
        **base,
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": [_response_message(base, "".join(pieces))],
        "usage": {
            "input_tokens": input_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": len(pieces),
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": input_tokens + len(pieces),
        },
    }


def response_events(base: dict[str, Any], pieces: list[str], cut: bool, input_tokens: int) -> list[bytes]:
    """The same as numbered events: the response begun, its one message piece by piece, the response ended."""
    ended = response_answer(base, pieces, cut, input_tokens)
    (item,) = ended["output"]
    (part,) = item["content"]
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    opened = {**item, "status": "in_progress", "content": []}
    told: list[tuple[str, dict[str, Any]]] = [
        ("created", {"response": base}),
        ("in_progress", {"response": base}),
        ("output_item.added", {"output_index": 0, "item": opened}),
        ("content_part.added", {**place, "part": {**part, "text": ""}}),
        *(("output_text.delta", {**place, "delta": piece, "logprobs": []}) for piece in pieces),
        ("output_text.done", {**place, "text": part["text"], "logprobs": []}),
        ("content_part.done", {**place, "part": part}),
        ("output_item.done", {"output_index": 0, "item": item}),
        (ended["status"], {"response": ended}),
    ]
    return [
        _event(f"response.{kind}", sequence_number=number, **members) for number, (kind, members) in enumerate(told)
    ]


def _response_message(base: dict[str, Any], text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    message_id = base["id"].replace("resp_", "msg_")
    return {"id": message_id, "type": "message", "status": "completed", "role": "assistant", "content": [part]}


def _event(type_: str, **members: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (type_.encode(), orjson.dumps({"type": type_, **members}))


def _message_usage(input_tokens: int, output_tokens: int) -> dict[str, int]:
    return {
        "input_tokens": input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output_tokens,
    }
