"""The most input tokens a call can have, without a tokenizer.

The argument. Every vocabulary in use falls back to bytes, so a token of a text is at least one byte of its
UTF-8. The body is JSON, in which a text is never shorter than what it means: an escape takes 2 bytes for one
byte (`\\n`), 6 for at most three (`\\u4e2d`), 12 for four (a surrogate pair). So the body's length bounds the
tokens of all texts in it, whatever the model. To it is added what is not in the body or may be larger than
there: what a provider writes around messages, tools and the whole request, and schemas, which it renders anew.
Image data is text to nobody; each image counts as its model's maximum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from proxy.dialects.base import Call

REQUEST_TOKENS: Final = 256
"""Around a whole request: priming, dates and instructions of chat templates (OpenAI's harmony, Llama, Qwen)."""
PART_TOKENS: Final = 16
"""Around one message, tool or input: OpenAI 3 to 8, chat templates up to 12."""
TOOLS_TOKENS: Final = 1024
"""The system prompt for tools: Anthropic documents up to 530, templates of open models less."""
CLIENT_TOOL_TOKENS: Final = 1024
"""A tool the body only names (`bash_20250124`): Anthropic documents 245 (bash), 700 (editor), 735 (computer)."""
SCHEMA_TOKENS: Final = 256
"""Instructions around a schema for the output."""

_RENDERED_ANEW: Final = ("tools", "functions", "response_format", "output_config", "text")
"""Members that a provider shows to the model in a form of its own, taken as at most twice their bytes."""

_HOLDS_PARTS: Final = {
    None: "content", "message": "content", "function_call_output": "output", "custom_tool_call_output": "output",
}  # fmt: skip
"""Type of a response's item -> the member that may hold images."""


def input_bound(call: Call, *, image_tokens_max: int | None) -> int | None:
    """Upper bound of the input tokens; None where images cannot be bounded. `call.unbounded` is not looked at."""
    if call.images and image_tokens_max is None:
        return None
    document = call.document
    if call.dialect == "openai.embeddings":
        return _embedded(call) + REQUEST_TOKENS + PART_TOKENS * call.input_parts
    tokens = len(call.body) + REQUEST_TOKENS + PART_TOKENS * call.input_parts
    for key in _RENDERED_ANEW:
        if document.get(key):
            start, end = call.spans[key][2:]
            tokens += end - start + SCHEMA_TOKENS
    tools = document.get("tools")
    if tools or document.get("functions"):
        tokens += TOOLS_TOKENS
    if tools and call.dialect == "anthropic.messages":
        tokens += CLIENT_TOOL_TOKENS * sum([tool.get("type", "custom") != "custom" for tool in tools])
    if call.images:
        given = _responses_parts(document["input"]) if call.dialect == "openai.responses" else document["messages"]
        tokens += call.images * (image_tokens_max or 0) - _image_bytes(given)
    return tokens


def _responses_parts(items: list[dict[str, Any]]) -> list[Any]:
    """The contents in which a response's images were counted."""
    return [item.get(_HOLDS_PARTS.get(item.get("type"), "")) for item in items]


def _embedded(call: Call) -> int:
    """Token ids are counted, one each; texts, and all that stands beside the ids, by the body's length."""
    given = call.document["input"]
    if isinstance(given, str) or isinstance(given[0], str):
        return len(call.body)
    start, end = call.spans["input"][2:]
    beside = len(call.body) - (end - start)
    return beside + (len(given) if isinstance(given[0], int) else sum(map(len, given)))


def _image_bytes(value: Any) -> int:
    """Bytes of base64 image data, at least so many of the body. Base64 is ASCII: a character is a byte."""
    if isinstance(value, list):
        return sum([_image_bytes(item) for item in value])
    if not isinstance(value, dict):
        return 0
    image = value.get("image_url")
    if isinstance(image, dict) or value.get("type") == "input_image":
        url = image.get("url") if isinstance(image, dict) else image
        return len(url) if isinstance(url, str) and url.startswith("data:image/") and url.isascii() else 0
    source = value.get("source")
    if value.get("type") == "image" and isinstance(source, dict):
        data = source.get("data")
        return len(data) if source.get("type") == "base64" and isinstance(data, str) and data.isascii() else 0
    return _image_bytes(value.get("content")) + _image_bytes(source)
