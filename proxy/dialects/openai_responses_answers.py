"""Answers of OpenAI's responses: usage, text, end and errors."""

from __future__ import annotations

from typing import Any, Final

from proxy.dialects.json_reader import JsonReader
from proxy.dialects.openai_answers import count_of, reported
from proxy.dialects.sse import event_data, event_name
from proxy.dialects.stream_reader import StreamReader, parsed
from proxy.usage import Usage

_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_ERRORS: Final = frozenset({"error", "response.failed"})
_TEXTS: Final = frozenset(
    {
        "response.output_text.delta", "response.refusal.delta", "response.reasoning_text.delta",
        "response.reasoning_summary_text.delta", "response.function_call_arguments.delta",
        "response.custom_tool_call_input.delta", "response.mcp_call_arguments.delta",
        "response.code_interpreter_call_code.delta", "response.audio.transcript.delta",
    }
)  # fmt: skip
"""Events whose `delta` is generated text; what follows them as `done` says the same once more."""
_SPOKEN: Final = ("name", "arguments", "input")
"""Members of a call of a tool that were generated."""


def usage_of(usage: dict[str, Any]) -> Usage | None:
    """The `usage` member of a response; output includes reasoning."""
    return reported(usage, "input_tokens", "output_tokens")


class ResponseStreamReader(StreamReader):
    """A streamed response: the event that ends it holds the whole response, with its usage."""

    __slots__ = ("_usage",)
    end_mark = b'"response"'
    """The member in which the first events and the last one hold the response; escaped, it stands in no text."""

    def __init__(self) -> None:
        super().__init__()
        self._usage: Usage | None = None

    def read_event(self, data: bytes, document: dict[str, Any] | None) -> None:
        """See StreamReader. The last report stands."""
        if document is None or _kind(document) not in _ENDS:
            return
        self._finished = True
        response = document.get("response")
        usage = response.get("usage") if isinstance(response, dict) else None
        if isinstance(usage, dict):
            self._usage = usage_of(usage) or self._usage

    def texts(self, document: dict[str, Any]) -> list[tuple[int, str]]:
        """See StreamReader: in the order of the output's items."""
        kind = _kind(document)
        if kind in _TEXTS:
            delta = document.get("delta")
            return [(_place(document), delta)] if isinstance(delta, str) else []
        if kind == "response.output_item.added":
            item = document.get("item")
            name = item.get("name") if isinstance(item, dict) else None
            return [(_place(document), name)] if isinstance(name, str) else []
        return []

    def usage(self) -> Usage | None:
        """What the last event reported."""
        self._read_rest()
        return self._usage


class ResponseReader(JsonReader):
    """A whole response."""

    __slots__ = ()
    answer_member = "output"

    def usage_of(self, usage: dict[str, Any]) -> Usage | None:
        """See JsonReader."""
        return usage_of(usage)

    def text_of(self, document: dict[str, Any]) -> str:
        """See JsonReader."""
        output = document.get("output")
        pieces: list[str] = []
        for item in output if isinstance(output, list) else ():
            if isinstance(item, dict):
                pieces += [value for key in _SPOKEN if isinstance(value := item.get(key), str)]
                pieces += _part_texts(item.get("summary")) + _part_texts(item.get("content"))
        return "".join(pieces)


def _part_texts(parts: Any) -> list[str]:
    found: list[str] = []
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, dict):
            found += [value for key in ("text", "refusal") if isinstance(value := part.get(key), str)]
    return found


def _kind(document: dict[str, Any]) -> str:
    kind = document.get("type")
    return kind if isinstance(kind, str) else ""


def _place(document: dict[str, Any]) -> int:
    return count_of(document, "output_index")


def is_error_event(event: bytes) -> bool:
    """An event named error or response.failed, or one that is an error envelope."""
    if b"error" not in event:
        return False
    if event_name(event) == b"error":
        return True
    document = parsed(event_data(event))
    if document is None:
        return False
    return _kind(document) in _ERRORS or bool(document.get("error")) or document.get("object") == "error"


def is_content_event(event: bytes) -> bool:
    """An event about an item of the output, or the regular end; neither `response.created` nor `in_progress`."""
    if b'"output_index"' not in event and b"completed" not in event and b"incomplete" not in event:
        return False
    document = parsed(event_data(event))
    if document is None:
        return False
    kind = _kind(document)
    return "output_index" in document or (kind in _ENDS and kind not in _ERRORS)
