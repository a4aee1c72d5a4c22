"""Answers of the last seconds, and the calls under way that others may wait for. Bounded in number, size and age."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from proxy.clock import Clock
from proxy.exchange import Response
from proxy.headers import Headers

Twin = tuple[str, str, str, bytes]
"""Caller, operation, model, digest of the request: equal for requests that are answered alike."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer as it came from further in, before any plugin further out changed it."""

    headers: Headers
    body: bytes
    at: float
    """Monotonic seconds."""

    @classmethod
    def of(cls, response: Response, at: float) -> Answer | None:
        """The answer that twins may have, too; None for a stream and for everything but 200."""
        if response.status != 200 or response.stream is not None or response.upgrade is not None:
            return None
        return cls(response.headers.copy(), response.body, at)

    def response(self) -> Response:
        """A response of the receiver's own: what is done to it does not reach the next one."""
        return Response(200, self.headers.copy(), self.body)


@dataclass(slots=True, eq=False)
class Flight:
    """A call under way. When `done` is set, `answer` is what it came to; None where that is nobody else's."""

    done: asyncio.Event = field(default_factory=asyncio.Event)
    answer: Answer | None = None


class Memory:
    """Of one process and one configuration. Flights are as many as exchanges under way, no more."""

    def __init__(self, clock: Clock, *, seconds: float, entries_max: int, body_bytes_max: int) -> None:
        self._clock = clock
        self._seconds = seconds
        self._entries_max = entries_max
        self._body_bytes_max = body_bytes_max
        self._answers: dict[Twin, Answer] = {}
        """Oldest first: they are kept equally long."""
        self._flights: dict[Twin, Flight] = {}

    def __len__(self) -> int:
        return len(self._answers)

    def answer(self, twin: Twin) -> Answer | None:
        """What is remembered of it. Whatever is too old is forgotten on the way."""
        self._forget(self._clock.monotonic())
        return self._answers.get(twin)

    def flight(self, twin: Twin) -> Flight | None:
        """The call under way."""
        return self._flights.get(twin)

    def begin(self, twin: Twin) -> Flight:
        """The caller is the one that calls. Ended by `end`, whatever happens."""
        flight = self._flights[twin] = Flight()
        return flight

    def end(self, twin: Twin, flight: Flight) -> bool:
        """Wake those who wait, and keep the answer. Whether it is kept."""
        if self._flights.get(twin) is flight:
            del self._flights[twin]
        kept = flight.answer is not None and self._keep(twin, flight.answer)
        flight.done.set()
        return kept

    def _keep(self, twin: Twin, answer: Answer) -> bool:
        if len(answer.body) > self._body_bytes_max:
            return False
        self._forget(answer.at)
        self._answers.pop(twin, None)
        while len(self._answers) >= self._entries_max:
            del self._answers[next(iter(self._answers))]
        self._answers[twin] = answer
        return True

    def _forget(self, now: float) -> None:
        answers = self._answers
        while answers:
            twin = next(iter(answers))
            if answers[twin].at > now - self._seconds:
                break
            del answers[twin]
