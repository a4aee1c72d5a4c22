"""Anthropic's answers: usage, text, end and errors."""

from __future__ import annotations

from typing import Any, Final

from proxy.dialects.json_reader import JsonReader, text_of_json
from proxy.dialects.openai_answers import count_of
from proxy.dialects.sse import event_data, event_name
from proxy.dialects.stream_reader import BYTES_PER_TOKEN_MIN, StreamReader, parsed
from proxy.usage import Usage

_CONTENT_TYPES: Final = frozenset({"content_block_start", "content_block_delta", "message_delta"})
_SPOKEN: Final = ("text", "thinking", "name", "data")
"""Members of a content block that were generated."""
_BESIDE_THE_TOTAL: Final = "compaction"
"""The iteration that is charged, yet not included in the usage's own totals."""


def usage_of(usage: dict[str, Any], *, output_tokens_min: int = 0, counted: bool = False) -> Usage | None:
    """A `usage` member, whose `input_tokens` leave out what was read from the cache or written to it.

    A cache write whose lifetime is not told is taken as one of five minutes. None where nothing is reported.
    """
    fresh = written = written_1h = read = output = 0
    for part in (usage, *_beside(usage)):
        fresh += count_of(part, "input_tokens")
        read += count_of(part, "cache_read_input_tokens")
        split = part.get("cache_creation")
        hour = count_of(split, "ephemeral_1h_input_tokens")
        five = count_of(split, "ephemeral_5m_input_tokens")
        written += max(count_of(part, "cache_creation_input_tokens"), hour + five) - hour
        written_1h += hour
        output += count_of(part, "output_tokens")
    output = max(output, output_tokens_min)
    if fresh <= 0 and read <= 0 and written <= 0 and written_1h <= 0 and output <= 0:
        return None
    reported = Usage.reported(
        input_tokens=fresh + read + written + written_1h,
        output_tokens=output,
        cached_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=written_1h,
        reasoning_tokens=count_of(usage.get("output_tokens_details"), "thinking_tokens"),
    )
    return _as_counted(reported) if counted else reported


def _as_counted(usage: Usage) -> Usage:
    return Usage(
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.cache_write_1h_tokens,
        usage.reasoning_tokens,
        counted=True,
    )


def _beside(usage: dict[str, Any]) -> list[dict[str, Any]]:
    iterations = usage.get("iterations")
    if not isinstance(iterations, list):
        return []
    return [entry for entry in iterations if isinstance(entry, dict) and entry.get("type") == _BESIDE_THE_TOTAL]


class MessageStreamReader(StreamReader):
    """A streamed message: `message_start` reports the input, `message_delta` all that is so far, cumulatively."""

    __slots__ = ("_output_reported", "_report")
    end_mark = b"message_stop"

    def __init__(self) -> None:
        super().__init__()
        self._report: dict[str, Any] = {}
        self._output_reported = False

    def read_event(self, data: bytes, document: dict[str, Any] | None) -> None:
        """See StreamReader. The last value of each field stands."""
        if document is None:
            return
        kind = document.get("type")
        if kind == "message_stop":
            self._finished = True
        elif kind == "message_start":
            message = document.get("message")
            self._merge(message.get("usage") if isinstance(message, dict) else None)
        elif kind == "message_delta":
            self._output_reported = self._merge(document.get("usage")) or self._output_reported

    def _merge(self, usage: Any) -> bool:
        if not isinstance(usage, dict):
            return False
        self._report.update((key, value) for key, value in usage.items() if value is not None)
        return True

    def texts(self, document: dict[str, Any]) -> list[tuple[int, str]]:
        """See StreamReader."""
        kind = document.get("type")
        if kind == "content_block_delta":
            delta = document.get("delta")
            keys: tuple[str, ...] = ("text", "thinking", "partial_json")
        elif kind == "content_block_start":
            delta = document.get("content_block")
            keys = _SPOKEN
        else:
            return []
        if not isinstance(delta, dict):
            return []
        return [(0, value) for key in keys if isinstance(value := delta.get(key), str)]

    def usage(self) -> Usage | None:
        """What was reported.

        Where the stream broke after its start, the input is as reported, the output an upper estimate from the
        text that came, and `counted` is set.
        """
        self._read_rest()
        if not self._report:
            return None
        if self._output_reported:
            return usage_of(self._report)
        size = len(self.output_text().encode()) + self.bytes_beyond
        return usage_of(self._report, output_tokens_min=-(-size // BYTES_PER_TOKEN_MIN), counted=True)


class MessageReader(JsonReader):
    """A whole message."""

    __slots__ = ()
    answer_member = "content"

    def usage_of(self, usage: dict[str, Any]) -> Usage | None:
        """See JsonReader."""
        return usage_of(usage)

    def text_of(self, document: dict[str, Any]) -> str:
        """See JsonReader."""
        content = document.get("content")
        pieces: list[str] = []
        for block in content if isinstance(content, list) else ():
            if isinstance(block, dict):
                pieces += [value for key in _SPOKEN if isinstance(value := block.get(key), str)]
                pieces.append(text_of_json(block.get("input")))
        return "".join(pieces)


def is_error_event(event: bytes) -> bool:
    """An event named error, or whose data is of type error."""
    if b"error" not in event:
        return False
    return event_name(event) == b"error" or _type(event) == "error"


def is_content_event(event: bytes) -> bool:
    """A block of content, or the end of an answer that has none."""
    return (b"content_block" in event or b"message_delta" in event) and _type(event) in _CONTENT_TYPES


def _type(event: bytes) -> str | None:
    document = parsed(event_data(event))
    kind = None if document is None else document.get("type")
    return kind if isinstance(kind, str) else None
