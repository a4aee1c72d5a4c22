"""How each priced endpoint is called, for x402's Bazaar: the `bazaar` extension that facilitators catalogue.

`info` is an example call, `schema` a JSON Schema (2020-12) that validates it, as x402.extensions.bazaar has them. What
is long here goes into every 402: examples are as short as they can be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from proxy.operations import CHAT, EMBEDDINGS, MESSAGES, ORCHESTRATE, RESPONSES

_MODEL: Final = "%model%"
_TEXT: Final = {"type": "string"}
_COUNT: Final = {"type": "integer", "minimum": 1}
_FLAG: Final = {"type": "boolean"}
_MESSAGES: Final = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "object", "properties": {"role": _TEXT}, "required": ["role"]},
}
_HELLO: Final = [{"role": "user", "content": "Say hello."}]


@dataclass(frozen=True, slots=True)
class _Call:
    """An operation's request and answer."""

    body: dict[str, Any]
    properties: dict[str, Any]
    required: tuple[str, ...]
    answer: dict[str, Any]
    named: str = "model"
    """Member that names what is asked."""


_CALLS: Final = {
    CHAT.name: _Call(
        {"model": _MODEL, "messages": _HELLO, "max_tokens": 50},
        {"messages": _MESSAGES, "max_tokens": _COUNT, "stream": _FLAG},
        ("model", "messages"),
        {
            "object": "chat.completion",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
        },
    ),
    EMBEDDINGS.name: _Call(
        {"model": _MODEL, "input": "hello"},
        {"input": {"anyOf": [_TEXT, {"type": "array", "minItems": 1}]}},
        ("model", "input"),
        {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.1, -0.2]}]},
    ),
    MESSAGES.name: _Call(
        {"model": _MODEL, "messages": _HELLO, "max_tokens": 50},
        {"messages": _MESSAGES, "max_tokens": _COUNT, "stream": _FLAG},
        ("model", "messages", "max_tokens"),
        {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "Hello!"}]},
    ),
    RESPONSES.name: _Call(
        {"model": _MODEL, "input": "Say hello.", "max_output_tokens": 50},
        {"input": {"anyOf": [_TEXT, {"type": "array"}]}, "max_output_tokens": _COUNT, "stream": _FLAG},
        ("model", "input"),
        {
            "object": "response",
            "output": [
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello!"}]},
            ],
        },
    ),
    ORCHESTRATE.name: _Call(
        {"prompt": "What is a toll?", "mode": _MODEL},
        {"prompt": _TEXT, "messages": _MESSAGES, "max_tokens": _COUNT, "stream": _FLAG},
        ("prompt",),
        {"object": "orchestration", "answer": "A charge for passage.", "quality_score": 84.5},
        named="mode",
    ),
}


class Bazaar:
    """The extension of every operation, written ahead but for the model's name."""

    def __init__(self) -> None:
        self._full: Final = {name: _pieces(_extension(call, examples=True)) for name, call in _CALLS.items()}
        self._short: Final = {name: _pieces(_extension(call, examples=False)) for name, call in _CALLS.items()}

    def full(self, operation: str, model: str) -> bytes:
        """JSON of `extensions` with examples; b"" for an operation that is not known. `model`: as in a request."""
        return orjson.dumps(model).join(self._full.get(operation, ()))

    def short(self, operation: str, model: str) -> bytes:
        """The same without."""
        return orjson.dumps(model).join(self._short.get(operation, ()))


def _extension(call: _Call, *, examples: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"type": "object", "properties": {call.named: _TEXT, **call.properties}}
    if examples:
        body["required"] = call.required
    info: dict[str, Any] = {
        "input": {"type": "http", "method": "POST", "bodyType": "json", "body": call.body if examples else {}}
    }
    properties: dict[str, Any] = {
        "input": {
            "type": "object",
            "properties": {
                "type": {"type": "string", "const": "http"},
                "method": {"type": "string", "enum": ["POST"]},
                "bodyType": {"type": "string", "enum": ["json"]},
                "body": body,
            },
            "required": ["type", "method", "bodyType", "body"],
            "additionalProperties": False,
        }
    }
    if examples:
        info["output"] = {"type": "json", "example": call.answer}
        properties["output"] = {
            "type": "object",
            "properties": {"type": _TEXT, "example": {"type": "object"}},
            "required": ["type"],
        }
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "required": ["input"],
    }
    return {"bazaar": {"info": info, "schema": schema}}


def _pieces(extension: dict[str, Any]) -> tuple[bytes, ...]:
    """Its JSON, cut where the model's name belongs."""
    return tuple(orjson.dumps(extension).split(orjson.dumps(_MODEL)))
