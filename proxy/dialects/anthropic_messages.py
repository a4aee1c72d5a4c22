"""Anthropic's messages: `POST /v1/messages`, streamed and not.

Source of the format: the request and answer types of Anthropic's own SDK, beta features included. Members it
does not know pass through.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from proxy.dialects import anthropic_answers, fields
from proxy.dialects.base import Call, UsageReader
from proxy.dialects.json_scan import Scan, scan, splice
from proxy.dialects.sse import make_event
from proxy.errors import Refusal

_CLIENT_TOOLS: Final = ("bash_", "text_editor_", "computer_", "memory_")
"""Tools that the client runs itself; every other typed tool runs at the provider, at a cost of its own."""
_TEXT_BLOCKS: Final = frozenset({"text", "thinking", "redacted_thinking", "tool_use", "search_result"})
_BOUNDED_IMAGES: Final = ("base64", "url", "file")

_UNBOUNDED_MEMBERS: Final = {
    "mcp_servers": "MCP connectors",
    "container": "a container at the provider",
    "thread": "a conversation kept by the provider",
    "fallbacks": "other models to fall back to",
    "context_management": "context management, whose compaction is charged beside the answer",
    "compaction": "compaction, which is charged beside the answer",
}

_DECIDING: Final = fields.spellings(
    "model", "messages", "system", "stream", "max_tokens", "tools", "thinking", "cache_control", "output_config",
    "service_tier", "speed", "inference_geo", *_UNBOUNDED_MEMBERS,
)  # fmt: skip
_DECIDING_IN_MESSAGES: Final = fields.spellings("role", "content", "type", "source", "cache_control")


class AnthropicMessages:
    """See Dialect."""

    name: str = "anthropic.messages"
    output_fields: tuple[str, ...] = ("max_tokens",)

    def parse(self, body: bytes, found: Scan | None = None) -> Call:
        """See Dialect. `max_tokens` may be absent: the limit of the hold is then set on the way out."""
        found = found or scan(body)
        document = found.document
        fields.check_spelling(document, _DECIDING)
        messages = fields.messages_of(document)
        tools = fields.objects(document, "tools")
        # 0 fills the provider's prompt cache without generating anything.
        limit = fields.integer(document, "max_tokens", 0, fields.TOKENS_MAX)
        stream = fields.flag(document, "stream")
        thinking_budget(document)
        images, unbounded = _content(document, messages)
        return Call(
            dialect=self.name,
            body=body,
            spans=found.spans,
            model=fields.model_of(document),
            stream=stream,
            wants_usage=stream,
            output_tokens_max=limit,
            output_field=None if limit is None else "max_tokens",
            choices=1,
            input_parts=len(messages) + len(tools),
            images=images,
            cache_write=found.has_key(b"cache_control"),
            unbounded=_unbounded_member(document) or _unbounded_tool(tools) or unbounded,
            document=document,
        )

    def rewrite(
        self, call: Call, *, model: str, output_tokens: int | None, output_field: str | None, report_usage: bool
    ) -> bytes:
        """See Dialect. Usage is always reported.

        Raises Refusal `invalid_request` where a lowered limit would not leave room for the thinking budget.
        """
        changes: dict[str, bytes | None] = {}
        if model != call.model:
            changes["model"] = orjson.dumps(model)
        if output_tokens is not None and output_tokens != call.output_tokens_max:
            _check_budget(call.document, output_tokens)
            changes["max_tokens"] = b"%d" % output_tokens
        return splice(call.body, call.spans, changes) if changes else call.body

    def usage_reader(self, *, stream: bool) -> UsageReader:
        """See Dialect."""
        return anthropic_answers.MessageStreamReader() if stream else anthropic_answers.MessageReader()

    def is_error_event(self, event: bytes) -> bool:
        """See Dialect."""
        return anthropic_answers.is_error_event(event)

    def is_content_event(self, event: bytes) -> bool:
        """See Dialect: a block of content, or the end of an answer without one; neither ping nor message_start."""
        return anthropic_answers.is_content_event(event)

    def says_something(self, event: bytes) -> bool:
        """See Dialect."""
        return self.is_content_event(event)

    def withholds(self, event: bytes) -> bool:
        """See Dialect: usage is a part of this format, nothing is withheld."""
        return False

    def error_event(self, body: bytes) -> bytes:
        """See Dialect."""
        return make_event(body, b"error")


def thinking_budget(document: dict[str, Any]) -> int | None:
    """`thinking.budget_tokens`; None where thinking is off or has no budget of its own."""
    thinking = fields.mapping(document, "thinking") or {}
    return fields.integer(thinking, "budget_tokens", 0, fields.TOKENS_MAX, "thinking.budget_tokens")


def _check_budget(document: dict[str, Any], output_tokens: int) -> None:
    budget = thinking_budget(document)
    if budget is not None and output_tokens <= budget:
        raise Refusal(
            "invalid_request",
            f"This request can be served with at most {output_tokens} output tokens (max_tokens), and "
            f"'thinking.budget_tokens' ({budget}) must stay below that. Lower the budget.",
            param="thinking.budget_tokens",
        )


def _unbounded_member(document: dict[str, Any]) -> str | None:
    for key in document.keys() & _UNBOUNDED_MEMBERS.keys():
        if document[key] or document[key] == {}:
            return f"{_UNBOUNDED_MEMBERS[key]} ('{key}')"
    # `auto` may use priority capacity, which is bought beforehand, not charged by request.
    tier = document.get("service_tier")
    if tier not in (None, "auto", "standard_only"):
        return "an unknown service tier ('service_tier')"
    if document.get("speed") not in (None, "standard"):
        return "a dearer speed ('speed')"
    if document.get("inference_geo") not in (None, "global"):
        return "a region at a price of its own ('inference_geo')"
    return None


def _unbounded_tool(tools: list[dict[str, Any]]) -> str | None:
    for index, tool in enumerate(tools):
        kind = tool.get("type")
        if kind is None or kind == "custom":
            continue
        if not isinstance(kind, str):
            fields.wrong(f"tools[{index}].type", "a string")
        if not kind.startswith(_CLIENT_TOOLS) or "toolset" in kind:
            return f"the server-side tool '{kind}'"
    return None


def _content(document: dict[str, Any], messages: list[dict[str, Any]]) -> tuple[int, str | None]:
    """How many images the request holds, and the first thing in it that cannot be bounded."""
    images, unbounded = _blocks(document.get("system"), "system")
    for index, message in enumerate(messages):
        fields.check_spelling(message, _DECIDING_IN_MESSAGES, f"messages[{index}].")
        content = message.get("content")
        if type(content) is str:
            continue
        more, reason = _blocks(content, f"messages[{index}].content")
        images += more
        unbounded = unbounded or reason
    return images, unbounded


def _blocks(content: Any, param: str) -> tuple[int, str | None]:
    """Of a text or list of blocks. Recursion ends with the body's own nesting limit."""
    if content is None or isinstance(content, str):
        return 0, None
    if not isinstance(content, list):
        fields.wrong(param, "a string or a list of content blocks")
    images, unbounded = 0, None
    for index, block in enumerate(content):
        more, reason = _block(block, f"{param}[{index}]")
        images += more
        unbounded = unbounded or reason
    return images, unbounded


def _block(block: Any, param: str) -> tuple[int, str | None]:
    kind = fields.kind_of(block, param, _DECIDING_IN_MESSAGES)
    if kind in _TEXT_BLOCKS:
        return 0, None
    if kind == "tool_result":
        return _blocks(block.get("content"), f"{param}.content")
    if kind in ("image", "document"):
        source = block.get("source")
        if not isinstance(source, dict):
            fields.wrong(f"{param}.source", "an object")
        return _image(source, param) if kind == "image" else _document(source, param)
    return 0, f"content of the provider's own tools ('{kind}' in {param})"


def _image(source: dict[str, Any], param: str) -> tuple[int, str | None]:
    if source.get("type") in _BOUNDED_IMAGES:
        return 1, None
    return 1, f"an image from an unknown source ({param})"


def _document(source: dict[str, Any], param: str) -> tuple[int, str | None]:
    kind = source.get("type")
    if kind == "text":
        return 0, None
    if kind == "content":
        return _blocks(source.get("content"), f"{param}.source.content")
    return 0, f"a document that is not plain text ({param})"
