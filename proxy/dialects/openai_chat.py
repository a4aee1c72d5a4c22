"""OpenAI's chat completions: `POST /v1/chat/completions`, streamed and not.

Source of the format: the request and answer types of OpenAI's own SDK. Members it does not know pass through.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from proxy.dialects import chat_messages, fields, openai_answers
from proxy.dialects.base import Call, UsageReader
from proxy.dialects.json_scan import Scan, scan, splice
from proxy.dialects.sse import make_event

CHOICES_MAX: Final = 128

_NEWER: Final = "max_completion_tokens"
_OLDER: Final = "max_tokens"
_INCLUDE_USAGE: Final = b'{"include_usage":true}'
_PRICED_TIERS: Final = frozenset({"auto", "default", "flex", "on_demand"})
"""Service tiers that cost no more than the list price (`on_demand` is how Groq spells default)."""
_CLIENT_TOOLS: Final = frozenset({"function", "custom"})

_UNBOUNDED_MEMBERS: Final = {
    "web_search_options": "web search",
    "search_parameters": "web search",
    "search_settings": "web search",
    "web_search": "web search",
    "enable_search": "web search",
    "plugins": "server-side plugins",
    "mcp_servers": "MCP connectors",
    "models": "a list of other models to fall back to",
    "fallbacks": "a list of other models to fall back to",
    "prediction": "predicted outputs (rejected tokens are charged, too)",
    "audio": "audio output",
    "deferred": "an answer that is fetched later",
    "provider": "a choice of providers at prices of their own",
    "preset": "a preset kept by the provider",
    "data_sources": "data that the provider fetches",
    "chat_template": "a chat template of the client's own",
    "best_of": "generating more choices than are returned",
    "previous_response_id": "a conversation kept by the provider",
    "conversation": "a conversation kept by the provider",
    "prompt": "a prompt kept by the provider",
    "background": "background mode",
}
"""Members of OpenAI and of providers that speak its format, whose cost nobody can bound from the request."""

_EXTRAS_BOUNDED: Final = frozenset({"thinking_config", "safety_settings"})
"""Of Google's own members in `extra_body`; others, like cached_content, bring input that is not in the request."""
_DECIDING: Final = fields.spellings(
    "model", "messages", "stream", "stream_options", "n", _NEWER, _OLDER, "tools", "functions", "response_format",
    "service_tier", "modalities", "extra_body", *_UNBOUNDED_MEMBERS,
)  # fmt: skip


class OpenAIChat:
    """See Dialect."""

    name: str = "openai.chat"
    output_fields: tuple[str, ...] = (_NEWER, _OLDER)

    def parse(self, body: bytes, found: Scan | None = None) -> Call:
        """See Dialect. Checks what decides about the cost, and leaves the rest to the provider."""
        document, spans, _ = found or scan(body)
        fields.check_spelling(document, _DECIDING)
        messages = fields.messages_of(document)
        tools = fields.objects(document, "tools")
        functions = fields.objects(document, "functions")
        limit, field = _output_limit(document)
        options = fields.mapping(document, "stream_options") or {}
        wants_usage = fields.flag(options, "include_usage", "stream_options.include_usage")
        stream = fields.flag(document, "stream")
        images, unbounded_part = chat_messages.images_and_unbounded(messages)
        return Call(
            dialect=self.name,
            body=body,
            spans=spans,
            model=fields.model_of(document),
            stream=stream,
            wants_usage=stream and wants_usage,
            output_tokens_max=limit,
            output_field=field,
            choices=fields.integer(document, "n", 1, CHOICES_MAX) or 1,
            input_parts=len(messages) + len(tools) + len(functions),
            images=images,
            # The provider's cache is written without being asked (an implicit breakpoint), so at its price.
            cache_write=True,
            unbounded=_unbounded_member(document) or _unbounded_tool(tools) or unbounded_part,
            document=document,
        )

    def rewrite(
        self, call: Call, *, model: str, output_tokens: int | None, output_field: str | None, report_usage: bool
    ) -> bytes:
        """See Dialect. Where the client used both output fields, both are set; see `_limited`."""
        changes: dict[str, bytes | None] = {}
        if model != call.model:
            changes["model"] = orjson.dumps(model)
        if output_tokens is not None:
            changes |= self._limited(call, output_tokens, output_field)
        if report_usage and call.stream and not call.wants_usage:
            changes["stream_options"] = _with_usage(call)
        return splice(call.body, call.spans, changes) if changes else call.body

    def _limited(self, call: Call, output_tokens: int, output_field: str | None) -> dict[str, bytes | None]:
        """The limit in a member that the upstream knows: every server knows the older name, not all the newer one."""
        value = b"%d" % output_tokens
        used = [field for field in self.output_fields if call.document.get(field) is not None]
        if output_field == _OLDER and _NEWER in used:
            return {_OLDER: value, _NEWER: None}
        if output_tokens == call.output_tokens_max:
            return {}
        return dict.fromkeys(used or [output_field or _NEWER], value)

    def usage_reader(self, *, stream: bool) -> UsageReader:
        """See Dialect."""
        return openai_answers.ChatStreamReader() if stream else openai_answers.ChatJsonReader()

    def is_error_event(self, event: bytes) -> bool:
        """See Dialect."""
        return openai_answers.is_error_event(event)

    def is_content_event(self, event: bytes) -> bool:
        """See Dialect: an event with a choice, be it only the role that opens it."""
        return openai_answers.is_content_event(event)

    def says_something(self, event: bytes) -> bool:
        """See Dialect: text, reasoning, a refusal, a call; the role alone is none of it."""
        return openai_answers.says_something(event)

    def withholds(self, event: bytes) -> bool:
        """See Dialect: the usage with no choice beside it."""
        return openai_answers.is_usage_event(event)

    def error_event(self, body: bytes) -> bytes:
        """See Dialect."""
        return make_event(body)


def _output_limit(document: dict[str, Any]) -> tuple[int | None, str | None]:
    newer = fields.integer(document, "max_completion_tokens", 1, fields.TOKENS_MAX)
    older = fields.integer(document, "max_tokens", 1, fields.TOKENS_MAX)
    if newer is not None and older is not None and newer != older:
        fields.wrong("max_tokens", "left out, or the same as 'max_completion_tokens'")
    if newer is not None:
        return newer, "max_completion_tokens"
    return older, None if older is None else "max_tokens"


def _with_usage(call: Call) -> bytes:
    """The client's stream_options with the usage asked for, its other members untouched."""
    if not call.document.get("stream_options"):
        return _INCLUDE_USAGE
    start, end = call.spans["stream_options"][2:]
    value = call.body[start:end]
    return splice(value, scan(value).spans, {"include_usage": b"true"})


def _unbounded_member(document: dict[str, Any]) -> str | None:
    for key in document.keys() & _UNBOUNDED_MEMBERS.keys():
        # An empty object asks for web search or audio, too; null, false and [] ask for nothing.
        if document[key] or document[key] == {}:
            return f"{_UNBOUNDED_MEMBERS[key]} ('{key}')"
    if not _is_bounded_extra(document.get("extra_body")):
        return "members of a provider's own format ('extra_body')"
    tier = document.get("service_tier")
    if tier is not None and (not isinstance(tier, str) or tier not in _PRICED_TIERS):
        return "a service tier at a price of its own ('service_tier')"
    modalities = document.get("modalities")
    if modalities is not None and modalities != ["text"]:
        return "output other than text ('modalities')"
    return None


def _is_bounded_extra(extra: Any) -> bool:
    if not extra:
        return True
    google = extra.get("google") if isinstance(extra, dict) and len(extra) == 1 else None
    return isinstance(google, dict) and google.keys() <= _EXTRAS_BOUNDED


def _unbounded_tool(tools: list[dict[str, Any]]) -> str | None:
    for index, tool in enumerate(tools):
        kind = tool.get("type")
        if not isinstance(kind, str):
            fields.wrong(f"tools[{index}].type", "a string")
        if kind not in _CLIENT_TOOLS:
            return f"the server-side tool '{kind}'"
    return None
