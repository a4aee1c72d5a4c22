"""What every dialect's reader of a streamed answer shares: find usage and end, keep text, decode little.

A chunk that holds whole events and none of the marks is kept as it is and not looked into. Kept bytes are
turned into text when they reach `RAW_BYTES_MAX`, or when somebody asks, so that a stream holds at most that
much raw answer and `TEXT_BYTES_MAX` of text in memory, besides one unfinished event.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Final

import orjson

from proxy.dialects.sse import EventFramer, EventTooLarge, event_data, split_events
from proxy.usage import Usage

RAW_BYTES_MAX: Final = 128 << 10
TEXT_BYTES_MAX: Final = 4 << 20
"""More than any model generates in one answer (a million tokens)."""
BYTES_PER_TOKEN_MIN: Final = 2
"""For an upper estimate of ordinary text without a tokenizer: a token of it is at least this long."""

_EVENT_ENDS: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")


class StreamReader(ABC):
    """Reads one stream as it passes. A dialect says what its marks are and what its events mean.

    Feeding never raises: an event beyond the framer's limit is left out (and counted as text).
    """

    __slots__ = ("_beyond", "_finished", "_framer", "_raw", "_raw_bytes", "_skipping", "_text", "_text_bytes")

    end_mark: ClassVar[bytes]
    """Bytes without which no event can be the stream's end."""

    def __init__(self) -> None:
        self._framer = EventFramer()
        self._skipping = False
        self._finished = False
        self._raw: list[bytes] = []
        self._raw_bytes = 0
        self._text: dict[int, list[str]] = {}
        self._text_bytes = 0
        self._beyond = 0

    @abstractmethod
    def read_event(self, data: bytes, document: dict[str, Any] | None) -> None:
        """One event with a mark in it: its data, and the object that the data is, if it is one."""

    @abstractmethod
    def texts(self, document: dict[str, Any]) -> list[tuple[int, str]]:
        """The generated text in one event: (choice, piece)."""

    @abstractmethod
    def usage(self) -> Usage | None:
        """See UsageReader."""

    @property
    def finished(self) -> bool:
        """The dialect's own end was seen."""
        self._read_rest()
        return self._finished

    @property
    def bytes_beyond(self) -> int:
        """Bytes of answer that `output_text` lacks because a limit was reached; each is less than one token."""
        return self._beyond

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the answer."""
        if chunk.endswith(b"\n\n") and not self._framer.pending and not self._skipping:
            self._take(chunk)
            return
        try:
            events = self._framer.feed(chunk)
        except EventTooLarge as error:
            events = error.events
            if events and self._skipping:
                del events[0]
            rest = self._framer.rest()
            self._framer = EventFramer()
            self._beyond += len(rest)
            self._skipping = not rest.endswith(_EVENT_ENDS)
        else:
            if events and self._skipping:
                self._beyond += len(events[0])
                del events[0]
                self._skipping = False
        if events:
            self._take(events[0] if len(events) == 1 else b"".join(events))

    def output_text(self) -> str:
        """Text generated so far, choice after choice, tool calls and reasoning included; bounded."""
        self._read_rest()
        self._read_text()
        return "".join(["".join(self._text[choice]) for choice in sorted(self._text)])

    def _take(self, data: bytes) -> None:
        self._raw.append(data)
        self._raw_bytes += len(data)
        if self._raw_bytes > RAW_BYTES_MAX:
            self._read_text()
        if b'"usage"' in data or self.end_mark in data:
            self._look_into(data)

    def _look_into(self, data: bytes) -> None:
        if self.end_mark not in data and data.count(b'"usage"') == data.count(b'"usage":null'):
            return
        for event in split_events(data):
            if b'"usage"' in event or self.end_mark in event:
                payload = event_data(event)
                self.read_event(payload, parsed(payload))

    def _read_rest(self) -> None:
        """An upstream may end without the blank line that would end its last event."""
        if self._framer.pending and not self._skipping:
            rest = self._framer.rest()
            payload = event_data(rest)
            if rest.endswith((b"\n", b"\r")) or payload == b"[DONE]" or parsed(payload) is not None:
                self._framer = EventFramer()
                self._take(rest + b"\n\n")

    def _read_text(self) -> None:
        raw, self._raw, self._raw_bytes = self._raw, [], 0
        for event in split_events(b"".join(raw)):
            document = parsed(event_data(event))
            if document is None:
                continue
            for choice, piece in self.texts(document):
                size = len(piece.encode())
                if self._text_bytes + size > TEXT_BYTES_MAX:
                    self._beyond += size
                else:
                    self._text_bytes += size
                    self._text.setdefault(choice, []).append(piece)


def parsed(payload: bytes) -> dict[str, Any] | None:
    """The JSON object that these bytes are; None where they are something else."""
    if not payload.startswith(b"{"):
        return None
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None
