"""A streamed answer that is kept before its end goes out, so that whoever asks next finds it there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from proxy.dialects.json_text import read
from proxy.dialects.sse import EventFramer, EventTooLarge, event_data, event_name
from proxy.exchange import ByteStream

_DONE: Final = b"done"


class Watch:
    """A transform that changes nothing but holds the `done` event back to the end; `found` is told its answer.

    It passes whole events. A stream with one that is too long is passed on unread.
    """

    __slots__ = ("_blind", "_found", "_framer", "_held")

    def __init__(self, found: Callable[[str], None]) -> None:
        self._found = found
        self._framer = EventFramer()
        self._held: list[bytes] = []
        self._blind = False

    def __call__(self, chunk: bytes) -> bytes:
        """What may go out. b"" is the end: all that is left."""
        if not chunk:
            rest = b"".join([*self._held, self._framer.rest()])
            self._held, self._framer = [], EventFramer()
            return rest
        if self._blind:
            return chunk
        try:
            events = self._framer.feed(chunk)
        except EventTooLarge as error:
            passed = b"".join([*self._held, *error.events, self._framer.rest()])
            self._held, self._framer, self._blind = [], EventFramer(), True
            return passed
        return b"".join([event for event in events if not self._holds(event)])

    def _holds(self, event: bytes) -> bool:
        if not self._held:
            if event_name(event) != _DONE:
                return False
            answer = answer_of_done(event)
            if answer is not None:
                self._found(answer)
        self._held.append(event)
        return True


class EndsAfter:
    """See ByteStream. Another stream, whose end is told when `ready` has returned."""

    def __init__(self, stream: ByteStream, ready: Callable[[], Awaitable[None]]) -> None:
        self._stream = stream
        self._ready = ready

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            yield piece
        await self._ready()

    async def aclose(self) -> None:
        """See ByteStream."""
        await self._stream.aclose()


def answer_of_done(event: bytes) -> str | None:
    """The answer in the last event of a stream."""
    document = read(event_data(event))
    result = None if document is None else document.get("result")
    answer = result.get("answer") if isinstance(result, dict) else None
    return answer if isinstance(answer, str) else None


def answer_of_whole(body: bytes) -> str | None:
    """The answer in a whole result."""
    document = read(body)
    answer = None if document is None else document.get("answer")
    return answer if isinstance(answer, str) else None
