"""A streamed answer, searched as it passes: each text of it redacted, however it was cut into events.

The events keep their order and every other member. Text that could still become a match is held back and goes out
with the next event of the same text, or in one of its own, shaped like the upstream's, before that text ends.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final

from plugins.content_rules.answers import unreadable, written
from plugins.content_rules.documents import Texts, TooMuchText, refused_answer
from proxy.dialects import DIALECTS, json_text
from proxy.dialects.sse import EventFramer, EventTooLarge, event_data
from proxy.errors import Refusal
from proxy.exchange import Exchange
from proxy.text.filters import JsonText, PlainText, Refused, Struck
from proxy.text.matching import Matcher

EVENT_BYTES_MAX: Final = 1 << 20
"""Events are searched on the event loop; a longer one ends the stream."""
TEXTS_MAX: Final = 1_000
"""Texts of one answer that are followed at once: choices times kinds and calls of tools."""
_DONE: Final = b"[DONE]"
Place = tuple[Any, ...]
"""Where a text stands in an answer: choice or block first, then the members that lead to it."""


class TooManyTexts(Exception):
    """An answer of more texts than are followed."""


class Followed:
    """The texts of one answer, by where they stand, each with what is held back of it."""

    __slots__ = ("_matcher", "_struck", "_texts", "whole")

    def __init__(self, matcher: Matcher, struck: Struck) -> None:
        self._matcher = matcher
        self._struck = struck
        self._texts: dict[Place, PlainText] = {}
        self.whole = Texts(matcher, struck)
        """For texts that come in one event."""

    def feed(self, where: Place, piece: str, *, json: bool = False) -> str:
        """What of this text may go out now. Raises Refused."""
        text = self._texts.get(where)
        if text is None:
            if len(self._texts) >= TEXTS_MAX:
                raise TooManyTexts
            text = self._texts[where] = (JsonText if json else PlainText)(self._matcher, self._struck)
        return text.feed(piece)

    def finish(self, within: Place) -> list[tuple[Place, str]]:
        """End the texts whose place begins so: (place, what was held back), where that is anything. Raises Refused."""
        ended = [where for where in self._texts if where[: len(within)] == within]
        left: list[tuple[Place, str]] = []
        for where in ended:
            rest = self._texts.pop(where).finish()
            if rest:
                left.append((where, rest))
        return left


class EventReader(ABC):
    """What a dialect's events mean to the rules."""

    def __init__(self, followed: Followed) -> None:
        self.followed = followed

    @abstractmethod
    def change(self, document: dict[str, Any]) -> tuple[list[bytes], dict[str, Any], bool]:
        """Events to send before this one, this one's data as it may go out, and whether the data changed."""

    @abstractmethod
    def rest(self) -> list[bytes]:
        """Events with all that is held back: the answer ends here."""


class StreamGuard:
    """A transform of the driver's: whole events in, whole events out."""

    __slots__ = ("_closed", "_exchange", "_framer", "_reader")

    def __init__(
        self, exchange: Exchange, matcher: Matcher, reader: Callable[[Followed], EventReader], struck: Struck
    ) -> None:
        self._exchange = exchange
        self._framer = EventFramer(EVENT_BYTES_MAX)
        self._reader = reader(Followed(matcher, struck))
        self._closed = False

    def __call__(self, chunk: bytes) -> bytes:
        """See Transform. After a refusal nothing more goes out, while the upstream is read to its usage."""
        if self._closed:
            return b""
        out: list[bytes] = []
        try:
            if chunk:
                for event in self._framer.feed(chunk):
                    self._event(event, out)
            else:
                self._end(out)
        except Refused as refused:
            self._close(refused_answer(refused), out)
        except (EventTooLarge, TooManyTexts, TooMuchText):
            self._close(unreadable(), out)
        except Refusal as refusal:
            self._close(refusal, out)
        return out[0] if len(out) == 1 else b"".join(out)

    def _event(self, event: bytes, out: list[bytes]) -> None:
        payload = event_data(event)
        if not payload:
            out.append(event)
            return
        document = json_text.read(payload)
        if document is None:
            if payload.strip() != _DONE:
                self._close(unreadable(), out)
                return
            out += self._reader.rest()
            out.append(event)
            return
        before, document, changed = self._reader.change(document)
        out += before
        out.append(with_data(event, written(document)) if changed else event)

    def _end(self, out: list[bytes]) -> None:
        rest = self._framer.rest()
        if event_data(rest):
            self._event(rest + b"\n\n", out)
        if not self._closed:
            out += self._reader.rest()

    def _close(self, refusal: Refusal, out: list[bytes]) -> None:
        """The stream ends towards the client with an error event."""
        self._closed = True
        dialect = self._exchange.operation.dialect or ""
        self._exchange.refusal = refusal
        out.append(DIALECTS[dialect].error_event(refusal.envelope(dialect=dialect)))


def with_data(event: bytes, data: bytes) -> bytes:
    """The event with other data; its name, its id and its line ends stay."""
    if event.startswith(b"data: ") and event.endswith(b"\n\n") and event.find(b"\n") == len(event) - 2:
        return b"data: " + data + b"\n\n"
    lines = event.splitlines(keepends=True)
    out: list[bytes] = []
    for line in lines:
        if not line.startswith(b"data:"):
            out.append(line)
        elif data:
            out.append(b"data: " + data + line[len(line.rstrip(b"\r\n")) :])
            data = b""
    return b"".join(out)
