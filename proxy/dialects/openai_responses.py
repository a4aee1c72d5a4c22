"""OpenAI's responses: `POST /v1/responses`, streamed and not.

Source of the format: the request and answer types of OpenAI's own SDK. Much of this API works with what the provider
keeps or runs itself. Only what stands whole in the request, and runs at the client's, can be bounded: of items and
tools that is a list of what can, of members a list of what cannot. Members that decide nothing pass through.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from proxy.dialects import fields, openai_responses_answers
from proxy.dialects.base import Call, UsageReader
from proxy.dialects.json_scan import Scan, scan, splice
from proxy.dialects.sse import make_event
from proxy.dialects.stream_reader import parsed

_LIMIT: Final = "max_output_tokens"
_PRICED_TIERS: Final = frozenset({"auto", "default", "flex"})
"""Service tiers that cost no more than the list price."""
_CLIENT_TOOLS: Final = frozenset({"function", "custom"})
_TEXT_PARTS: Final = frozenset({"input_text", "output_text", "refusal", "summary_text", "reasoning_text", "text"})
_IMAGE_DETAILS: Final = (None, "auto", "low", "high")
"""An image in any other detail ('original') can cost more than an entry's `image_tokens_max`."""
_CALLS: Final = frozenset({"function_call", "custom_tool_call"})
_RESULTS: Final = frozenset({"function_call_output", "custom_tool_call_output"})

_UNBOUNDED_MEMBERS: Final = {
    "previous_response_id": "a conversation kept by the provider",
    "conversation": "a conversation kept by the provider",
    "prompt": "a prompt kept by the provider",
    "background": "background mode",
    "context_management": "context management, whose compaction is charged beside the answer",
    "moderation": "moderation by another model",
    "n": "more than one answer",
    "models": "a list of other models to fall back to",
    "fallbacks": "a list of other models to fall back to",
    "plugins": "server-side plugins",
    "provider": "a choice of providers at prices of their own",
    "modalities": "output other than text",
    "audio": "audio output",
    "extra_body": "members of a provider's own format",
    "messages": "a chat in the place of the input",
}
"""Members of OpenAI and of servers that speak its format, whose cost nobody can bound from the request."""

_DECIDING: Final = fields.spellings(
    "model", "input", "instructions", "stream", _LIMIT, "tools", "text", "reasoning", "service_tier",
    *_UNBOUNDED_MEMBERS,
)  # fmt: skip
_DECIDING_IN_ITEMS: Final = fields.spellings(
    "type", "role", "content", "output", "image_url", "file_id", "detail", "encrypted_content", "summary",
)  # fmt: skip


class OpenAIResponses:
    """See Dialect."""

    name: str = "openai.responses"
    output_fields: tuple[str, ...] = (_LIMIT,)

    def parse(self, body: bytes, found: Scan | None = None) -> Call:
        """See Dialect. Checks what decides about the cost, and leaves the rest to the provider."""
        document, spans, _ = found or scan(body)
        fields.check_spelling(document, _DECIDING)
        instructions = document.get("instructions")
        if instructions is not None and not isinstance(instructions, str):
            fields.wrong("instructions", "a string")
        tools = fields.objects(document, "tools")
        limit = fields.integer(document, _LIMIT, 1, fields.TOKENS_MAX)
        fields.mapping(document, "text")
        stream = fields.flag(document, "stream")
        unbounded = _unbounded_member(document)
        parts, images, unbounded_item = _input(document.get("input"), required=unbounded is None)
        return Call(
            dialect=self.name,
            body=body,
            spans=spans,
            model=fields.model_of(document),
            stream=stream,
            wants_usage=stream,
            output_tokens_max=limit,
            output_field=None if limit is None else _LIMIT,
            choices=1,
            input_parts=parts + len(tools),
            images=images,
            # The provider's cache is written without being asked (an implicit breakpoint), so at its price.
            cache_write=True,
            unbounded=unbounded or _unbounded_tool(tools) or unbounded_item,
            document=document,
        )

    def rewrite(
        self, call: Call, *, model: str, output_tokens: int | None, output_field: str | None, report_usage: bool
    ) -> bytes:
        """See Dialect. The limit has one name here, and the usage is always reported."""
        changes: dict[str, bytes | None] = {}
        if model != call.model:
            changes["model"] = orjson.dumps(model)
        if output_tokens is not None and output_tokens != call.output_tokens_max:
            changes[_LIMIT] = b"%d" % output_tokens
        return splice(call.body, call.spans, changes) if changes else call.body

    def usage_reader(self, *, stream: bool) -> UsageReader:
        """See Dialect."""
        if stream:
            return openai_responses_answers.ResponseStreamReader()
        return openai_responses_answers.ResponseReader()

    def is_error_event(self, event: bytes) -> bool:
        """See Dialect: `error`, `response.failed`, or an error envelope."""
        return openai_responses_answers.is_error_event(event)

    def is_content_event(self, event: bytes) -> bool:
        """See Dialect: an item of the output or a part of one, or the end of an answer that has none."""
        return openai_responses_answers.is_content_event(event)

    def says_something(self, event: bytes) -> bool:
        """See Dialect."""
        return self.is_content_event(event)

    def withholds(self, event: bytes) -> bool:
        """See Dialect: usage is a part of this format, nothing is withheld."""
        return False

    def error_event(self, body: bytes) -> bytes:
        """See Dialect. With the error both as the format's members and as an envelope, at which the SDK raises.

        The number of the event before it is not known here: 0.
        """
        error: dict[str, Any] = (parsed(body) or {}).get("error") or {}
        members = {key: error.get(key) for key in ("code", "message", "param")}
        return make_event(orjson.dumps({"type": "error", **members, "sequence_number": 0, "error": error}), b"error")


def _unbounded_member(document: dict[str, Any]) -> str | None:
    for key in document.keys() & _UNBOUNDED_MEMBERS.keys():
        # An empty object may ask for the feature, too; null, false and [] ask for nothing.
        if document[key] or document[key] == {}:
            return f"{_UNBOUNDED_MEMBERS[key]} ('{key}')"
    tier = document.get("service_tier")
    if tier is not None and (not isinstance(tier, str) or tier not in _PRICED_TIERS):
        return "a service tier at a price of its own ('service_tier')"
    reasoning = fields.mapping(document, "reasoning") or {}
    if reasoning.get("mode") not in (None, "standard"):
        return "a mode of reasoning that is charged beyond the output limit ('reasoning.mode')"
    return None


def _unbounded_tool(tools: list[dict[str, Any]]) -> str | None:
    for index, tool in enumerate(tools):
        kind = tool.get("type")
        if not isinstance(kind, str):
            fields.wrong(f"tools[{index}].type", "a string")
        if kind not in _CLIENT_TOOLS:
            return f"the tool '{kind}', which is the provider's own"
    return None


def _input(given: Any, *, required: bool) -> tuple[int, int, str | None]:
    """How many items and images the input has, and the first thing in it that cannot be bounded."""
    if given is None and not required:
        return 0, 0, None
    if isinstance(given, str):
        return 1, 0, None
    if not isinstance(given, list) or (required and not given):
        fields.wrong("input", "a text or a list of items, and not empty")
    images, unbounded = 0, None
    for index, item in enumerate(given):
        param = f"input[{index}]"
        if not isinstance(item, dict):
            fields.wrong(param, "an object")
        fields.check_spelling(item, _DECIDING_IN_ITEMS, f"{param}.")
        more, reason = _item(item, param)
        images += more
        unbounded = unbounded or reason
    return len(given), images, unbounded


def _item(item: dict[str, Any], param: str) -> tuple[int, str | None]:
    kind = item.get("type")
    if kind is None or kind == "message":
        if not isinstance(item.get("role"), str):
            fields.wrong(f"{param}.role", "a string")
        return _parts(item.get("content"), f"{param}.content")
    if not isinstance(kind, str):
        fields.wrong(f"{param}.type", "a string")
    if kind in _CALLS:
        return 0, None
    if kind in _RESULTS:
        return _parts(item.get("output"), f"{param}.output")
    if kind == "reasoning":
        # Without its encrypted content the provider puts in what it kept under the item's id.
        if isinstance(item.get("encrypted_content"), str) and item["encrypted_content"]:
            return 0, None
        return 0, f"reasoning kept by the provider ({param}; ask for 'reasoning.encrypted_content' and send that)"
    return 0, f"an item kept or made by the provider ('{kind}' in {param})"


def _parts(content: Any, param: str) -> tuple[int, str | None]:
    """Of a text or list of parts."""
    if content is None or isinstance(content, str):
        return 0, None
    if not isinstance(content, list):
        fields.wrong(param, "a string or a list of parts")
    images, unbounded = 0, None
    for index, part in enumerate(content):
        more, reason = _part(part, f"{param}[{index}]")
        images += more
        unbounded = unbounded or reason
    return images, unbounded


def _part(part: Any, param: str) -> tuple[int, str | None]:
    kind = fields.kind_of(part, param, _DECIDING_IN_ITEMS)
    if kind in _TEXT_PARTS:
        return 0, None
    if kind == "input_image":
        if part.get("file_id") is not None or not isinstance(part.get("image_url"), str):
            return 1, f"an image kept by the provider ({param})"
        if part.get("detail") not in _IMAGE_DETAILS:
            return 1, f"an image in a detail without a bound ({param}.detail)"
        return 1, None
    names = {"input_audio": "audio input", "input_file": "a file"}
    return 0, f"{names.get(kind, 'content')} ('{kind}' in {param})"
