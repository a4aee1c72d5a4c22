"""OpenAI's responses: POST /v1/responses, whole and as events (platform.openai.com/docs/api-reference/responses)."""

from __future__ import annotations

from typing import Any

from tests.peers.answers import Answer, encode, output_words, reported, serial, text_of, words
from tests.peers.behaviour import Behaviour, Usage
from tests.peers.openai_format import CREATED, error

_PIECE_CHARS = 8
"""Of a call's arguments in one event."""


def responses(request: dict[str, Any], behaviour: Behaviour) -> Answer:
    """POST /v1/responses, streamed or not."""
    if not isinstance(request.get("model"), str):
        return error(400, "Missing required parameter: 'model'.", param="model", code="missing_required_parameter")
    if request.get("input") is None:
        return error(400, "Missing required parameter: 'input'.", param="input", code="missing_required_parameter")
    for unknown in ("max_tokens", "max_completion_tokens", "messages"):
        if unknown in request:
            return error(400, f"Unknown parameter: '{unknown}'.", param=unknown, code="unknown_parameter")
    pieces, cut = output_words(behaviour, request.get("max_output_tokens"))
    item = _call(behaviour.tool) if behaviour.tool else _message("".join(pieces))
    usage = None if behaviour.usage is Usage.MISSING else _usage(request, behaviour, len(pieces))
    open_ = _response(request, "in_progress")
    ended = open_ | {
        "status": "incomplete" if cut else "completed",
        "completed_at": None if cut else CREATED + 1,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": [item],
        "usage": usage,
    }
    if not request.get("stream"):
        return Answer(200, [encode(ended)])
    return _stream(open_, ended, item, pieces)


def _stream(open_: dict[str, Any], ended: dict[str, Any], item: dict[str, Any], pieces: list[str]) -> Answer:
    events: list[bytes] = []

    def event(kind: str, **members: Any) -> None:
        events.append(_event(kind, len(events), **members))

    event("response.created", response=open_)
    event("response.in_progress", response=open_)
    within = {"item_id": item["id"], "output_index": 0}
    if item["type"] == "function_call":
        event("response.output_item.added", output_index=0, item=item | {"status": "in_progress", "arguments": ""})
        arguments = item["arguments"]
        for start in range(0, len(arguments), _PIECE_CHARS):
            event("response.function_call_arguments.delta", **within, delta=arguments[start : start + _PIECE_CHARS])
        event("response.function_call_arguments.done", **within, arguments=arguments, name=item["name"])
    else:
        part = item["content"][0]
        within["content_index"] = 0
        event("response.output_item.added", output_index=0, item=item | {"status": "in_progress", "content": []})
        event("response.content_part.added", **within, part=part | {"text": ""})
        for piece in pieces:
            event("response.output_text.delta", **within, delta=piece, logprobs=[])
        event("response.output_text.done", **within, text=part["text"], logprobs=[])
        event("response.content_part.done", **within, part=part)
    event("response.output_item.done", output_index=0, item=item)
    event(f"response.{ended['status']}", response=ended)
    failed = open_ | {"status": "failed", "error": {"code": "server_error", "message": "The model failed."}}
    return Answer(
        200,
        events,
        "text/event-stream; charset=utf-8",
        length=False,
        error_event=_event("response.failed", 2, response=failed),
    )


def _event(kind: str, number: int, **members: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), encode({"type": kind, "sequence_number": number} | members))


def _response(request: dict[str, Any], status: str) -> dict[str, Any]:
    return {
        "id": serial("resp_"),
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": request.get("instructions"),
        "max_output_tokens": request.get("max_output_tokens"),
        "max_tool_calls": None,
        "model": request["model"],
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": request.get("store", True),
        "temperature": 1.0,
        "text": request.get("text", {"format": {"type": "text"}, "verbosity": "medium"}),
        "tool_choice": "auto",
        "tools": request.get("tools", []),
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
        "user": None,
        "metadata": {},
    }


def _message(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
    return {"id": serial("msg_"), "type": "message", "status": "completed", "content": [part], "role": "assistant"}


def _call(tool: tuple[str, str]) -> dict[str, Any]:
    return {
        "id": serial("fc_"),
        "type": "function_call",
        "status": "completed",
        "arguments": tool[1],
        "call_id": serial("call_"),
        "name": tool[0],
    }


def _usage(request: dict[str, Any], behaviour: Behaviour, generated: int) -> Any:
    given = request["input"]
    items = [{"content": given}] if isinstance(given, str) else given
    asked = sum(len(words(text_of(item.get("content", item.get("output"))))) for item in items)
    asked += len(words(request.get("instructions") or "")) + behaviour.cached_tokens + behaviour.cache_write_tokens
    output = generated + behaviour.reasoning_tokens
    regular = {
        "input_tokens": asked,
        "input_tokens_details": {
            "cached_tokens": behaviour.cached_tokens,
            "cache_write_tokens": behaviour.cache_write_tokens,
        },
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": behaviour.reasoning_tokens},
        "total_tokens": asked + output,
    }
    return reported(behaviour.usage, regular)
