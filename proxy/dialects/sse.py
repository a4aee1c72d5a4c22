"""Server-sent events as bytes: framing without loss, and the two fields of an event that dialects read.

Source of the rules: the HTML standard, "Server-sent events". A line ends with CRLF, LF or CR; an event ends
with a blank line. Nothing here decodes text or changes a byte.
"""

from __future__ import annotations

import re
from typing import Final

EVENT_BYTES_MAX: Final = 8 << 20
"""Longest event that is framed: generated images in base64 fit, an endless line does not."""

_BOM: Final = b"\xef\xbb\xbf"
_END: Final = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
"""Two line ends in a row. Atomic, so that one CRLF is never taken for two."""
_END_BYTES_MAX: Final = 4
_CR: Final = 13


class EventTooLarge(ValueError):
    """An event is longer than the framer's limit. `events` are the whole ones before it; the rest stays in `rest()`."""

    def __init__(self, events: list[bytes], bytes_max: int) -> None:
        super().__init__(f"a server-sent event is longer than {bytes_max} bytes")
        self.events = events


class EventFramer:
    """Cuts a byte stream into whole events, each with the blank line that ends it.

    All events joined, plus `rest()`, are the input, byte for byte, and the events do not depend on how the
    input was cut into chunks. For that an event that ends with a bare CR is held until the next byte shows
    whether an LF belongs to it. A superfluous blank line stands at the head of the event after it.
    """

    __slots__ = ("_bytes_max", "_find", "_pending")

    def __init__(self, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        self._bytes_max = event_bytes_max
        self._pending = bytearray()
        self._find = _find_lf_end

    @property
    def pending(self) -> int:
        """Bytes of an event that has not ended yet."""
        return len(self._pending)

    def rest(self) -> bytes:
        """What no event has been made of: at the end of a stream, its unfinished last event."""
        return bytes(self._pending)

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events that this chunk completes. Raises EventTooLarge."""
        if b"\r" in chunk:
            self._find = _find_any_end
        elif not self._pending and 0 <= chunk.find(b"\n\n") == len(chunk) - 2 <= self._bytes_max - 2:
            return [chunk]
        searched = len(self._pending)
        self._pending += chunk
        return self._cut(max(0, searched - _END_BYTES_MAX))

    def _cut(self, searched: int) -> list[bytes]:
        pending, find = self._pending, self._find
        events: list[bytes] = []
        start, size = 0, len(pending)
        while (end := find(pending, max(start, searched))) >= 0:
            if end - start > self._bytes_max or (end == size and pending[-1] == _CR):
                break
            events.append(bytes(pending[start:end]))
            start = end
        del pending[:start]
        if len(pending) > self._bytes_max:
            raise EventTooLarge(events, self._bytes_max)
        return events


def _find_lf_end(pending: bytearray, start: int) -> int:
    found = pending.find(b"\n\n", start)
    return found if found < 0 else found + 2


def _find_any_end(pending: bytearray, start: int) -> int:
    found = _END.search(pending, start)
    return -1 if found is None else found.end()


def split_events(data: bytes) -> list[bytes]:
    """The whole events in `data`, with an unfinished last one if there is one."""
    framer = EventFramer(len(data))
    events = framer.feed(data)
    return [*events, framer.rest()] if framer.pending else events


def event_data(event: bytes) -> bytes:
    """The `data` field: its lines joined with LF, each without the one space that may follow the colon."""
    if event.startswith(b"data: ") and event.find(b"\n") >= len(event) - 2 and b"\r" not in event:
        return event[6:].rstrip(b"\n")
    lines = [line[5:] for line in event.removeprefix(_BOM).splitlines() if line.startswith(b"data:")]
    return b"\n".join([line[1:] if line.startswith(b" ") else line for line in lines])


def event_name(event: bytes) -> bytes:
    """The `event` field; b"" where there is none. Given twice, the last wins."""
    name = b""
    for line in event.removeprefix(_BOM).splitlines():
        if line.startswith(b"event:"):
            name = line[7:] if line[6:7] == b" " else line[6:]
    return name


def make_event(data: bytes, name: bytes = b"") -> bytes:
    """One event. Line ends in `data` become lines of its own, as the format demands."""
    head = b"event: " + name + b"\n" if name else b""
    return head + b"".join(b"data: " + line + b"\n" for line in data.splitlines() or [b""]) + b"\n"
