"""OpenAI's answers: usage, text, end and errors, of chat completions and embeddings."""

from __future__ import annotations

from typing import Any, Final

from proxy.dialects.json_reader import JsonReader, text_of_json
from proxy.dialects.sse import event_data, event_name
from proxy.dialects.stream_reader import StreamReader, parsed
from proxy.usage import Usage

_DONE: Final = b"[DONE]"


def count_of(container: Any, key: str) -> int:
    """A reported number of tokens; 0 where it is missing or no number."""
    value = container.get(key) if isinstance(container, dict) else None
    return value if type(value) is int else 0


def reported(usage: dict[str, Any], sent: str, made: str, *, cached: int = 0) -> Usage | None:
    """A `usage` member whose counts are called `sent` and `made`. One that reports nothing at all is no report: None.

    Some providers leave reasoning out of the output and report it in the total only; what the total holds beyond the
    input is output. `cached` is what stands for cached tokens where the details do not tell.
    """
    into, out = count_of(usage, sent), count_of(usage, made)
    total = count_of(usage, "total_tokens")
    if into <= 0 and out <= 0 and total <= 0:
        return None
    of_input, of_output = usage.get(f"{sent}_details"), usage.get(f"{made}_details")
    return Usage.reported(
        input_tokens=into,
        output_tokens=max(out, total - max(0, into)),
        cached_tokens=count_of(of_input, "cached_tokens") or cached,
        cache_write_tokens=count_of(of_input, "cache_write_tokens"),
        reasoning_tokens=count_of(of_output, "reasoning_tokens"),
        image_tokens=count_of(of_input, "image_tokens"),
        audio_tokens=count_of(of_input, "audio_tokens"),
        audio_output_tokens=count_of(of_output, "audio_tokens"),
    )


def usage_of(usage: dict[str, Any]) -> Usage | None:
    """The `usage` member of a chat completion; see `reported`."""
    hit = count_of(usage, "prompt_cache_hit_tokens")
    return reported(usage, "prompt_tokens", "completion_tokens", cached=hit)


class ChatStreamReader(StreamReader):
    """A streamed chat completion. Usage may come in a chunk of its own, beside choices, or in every chunk."""

    __slots__ = ("_usage",)
    end_mark = _DONE

    def __init__(self) -> None:
        super().__init__()
        self._usage: Usage | None = None

    def read_event(self, data: bytes, document: dict[str, Any] | None) -> None:
        """See StreamReader."""
        if document is None:
            self._finished = self._finished or data.startswith(_DONE)
            return
        usage = document.get("usage")
        if not isinstance(usage, dict):
            # Groq reports here where nobody asked for usage.
            groq = document.get("x_groq")
            usage = groq.get("usage") if isinstance(groq, dict) else None
        if isinstance(usage, dict):
            self._usage = usage_of(usage) or self._usage

    def texts(self, document: dict[str, Any]) -> list[tuple[int, str]]:
        """See StreamReader."""
        choices = document.get("choices")
        if not isinstance(choices, list):
            return []
        return [
            (count_of(choice, "index"), _message_text(choice.get("delta")))
            for choice in choices
            if isinstance(choice, dict)
        ]

    def usage(self) -> Usage | None:
        """The last report: reports are cumulative, never summed."""
        self._read_rest()
        return self._usage


class ChatJsonReader(JsonReader):
    """A whole chat completion."""

    __slots__ = ()
    answer_member = "choices"

    def usage_of(self, usage: dict[str, Any]) -> Usage | None:
        """See JsonReader."""
        return usage_of(usage)

    def text_of(self, document: dict[str, Any]) -> str:
        """See JsonReader."""
        choices = document.get("choices")
        if not isinstance(choices, list):
            return ""
        return "".join([_message_text(choice.get("message")) for choice in choices if isinstance(choice, dict)])


class EmbeddingsReader(JsonReader):
    """Embeddings: no text is generated, and what the total reports is all input."""

    __slots__ = ()
    answer_member = "data"

    def usage_of(self, usage: dict[str, Any]) -> Usage | None:
        """See JsonReader."""
        tokens = max(count_of(usage, "prompt_tokens"), count_of(usage, "total_tokens"))
        return Usage.reported(input_tokens=tokens, output_tokens=0) if tokens > 0 else None

    def text_of(self, document: dict[str, Any]) -> str:
        """See JsonReader."""
        return ""


def _message_text(message: Any) -> str:
    """All that a message or delta says: content, refusal, reasoning, and the calls of tools."""
    if not isinstance(message, dict):
        return ""
    pieces: list[str] = []
    for key in ("reasoning_content", "reasoning", "content", "refusal"):
        value = message.get(key)
        if value:
            pieces.append(value if isinstance(value, str) else text_of_json(value))
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict):
            pieces += _called(call.get("function") or call.get("custom"))
    if legacy := message.get("function_call"):
        pieces += _called(legacy)
    return "".join(pieces)


def _called(function: Any) -> list[str]:
    if not isinstance(function, dict):
        return []
    values = (function.get(key) for key in ("name", "arguments", "input"))
    return [value for value in values if isinstance(value, str)]


def is_error_event(event: bytes) -> bool:
    """`{"error": ...}`, `{"object": "error"}` (vLLM) or an event named error."""
    if b"error" not in event:
        return False
    if event_name(event) == b"error":
        return True
    document = parsed(event_data(event))
    return document is not None and (bool(document.get("error")) or document.get("object") == "error")


def is_content_event(event: bytes) -> bool:
    """An event with at least one choice."""
    if b'"choices"' not in event:
        return False
    document = parsed(event_data(event))
    return document is not None and bool(document.get("choices"))


_SAYS: Final = (
    "content", "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call", "audio", "reasoning_details",
)  # fmt: skip
"""Members of a delta that are the answer; `role` alone only opens it."""


def says_something(event: bytes) -> bool:
    """A content event with something of the answer in it, or with the end of one that has nothing."""
    if b'"choices"' not in event:
        return False
    document = parsed(event_data(event))
    choices = None if document is None else document.get("choices")
    if not isinstance(choices, list):
        return False
    return any(_said(choice) for choice in choices)


def _said(choice: Any) -> bool:
    if not isinstance(choice, dict):
        return False
    delta = choice.get("delta")
    said = isinstance(delta, dict) and any(delta.get(member) for member in _SAYS)
    return said or bool(choice.get("finish_reason")) or bool(choice.get("text"))


def is_usage_event(event: bytes) -> bool:
    """A usage report with an empty list of choices: the chunk that `include_usage` adds at the end."""
    if b'"usage"' not in event or b'"usage":null' in event:
        return False
    document = parsed(event_data(event))
    return document is not None and document.get("choices") == [] and isinstance(document.get("usage"), dict)
