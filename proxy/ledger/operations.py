"""The operations that the writer's queue carries, each a few statements of the books."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from enum import IntEnum
from typing import Any, ClassVar

from proxy.ledger.api import Attempt, Cap, CapState, Grant, Hold, HoldRequest, Purse, PurseState, Settlement
from proxy.ledger.books import Books
from proxy.ledger.payment_api import StoredAnswer


class Durability(IntEnum):
    """What a commit survives. A batch takes the strongest of its operations."""

    NORMAL = 0
    """The death of the process."""
    FULL = 1
    """The loss of power, too: the commit waits for the disk."""


class Operation(ABC):
    """Something to write. After its batch `result` or `error` is set, and the future, if any, is resolved."""

    __slots__ = ("error", "future", "result")
    durability: ClassVar[Durability] = Durability.NORMAL
    refusable: ClassVar[bool] = True
    """Answered with an error where the file cannot be written; otherwise tried again until it is."""

    def __init__(self, future: asyncio.Future[Any] | None) -> None:
        self.future = future
        self.result: Any = None
        self.error: Exception | None = None

    @abstractmethod
    def apply(self, books: Books) -> None:
        """Write, inside the batch's transaction."""


class Holding(Operation):
    """Set amounts aside; the result is the Hold."""

    __slots__ = ("request",)

    def __init__(self, request: HoldRequest, future: asyncio.Future[Hold]) -> None:
        super().__init__(future)
        self.request = request

    def apply(self, books: Books) -> None:
        self.result = books.hold(self.request)


class Dispatching(Operation):
    """Note a call about to be made; the result is the Attempt."""

    __slots__ = ("at_ms", "attempt")

    def __init__(self, attempt: Attempt, at_ms: int, future: asyncio.Future[Attempt]) -> None:
        super().__init__(future)
        self.attempt = attempt
        self.at_ms = at_ms

    def apply(self, books: Books) -> None:
        books.dispatch(self.attempt, self.at_ms)
        self.result = self.attempt


class Committing(Operation):
    """Note that the answer is about to go out, and burn the proof that pays for it."""

    __slots__ = ("answer", "at_ms", "hold")
    durability = Durability.FULL

    def __init__(self, hold: Hold, answer: StoredAnswer | None, at_ms: int, future: asyncio.Future[None]) -> None:
        super().__init__(future)
        self.hold = hold
        self.answer = answer
        self.at_ms = at_ms

    def apply(self, books: Books) -> None:
        books.commit_hold(self.hold, self.answer, self.at_ms)


class Settling(Operation):
    """End a hold with real amounts; the result says whether they were above it."""

    __slots__ = ("hold", "settlement")
    refusable = False

    def __init__(self, hold: Hold, settlement: Settlement) -> None:
        super().__init__(None)
        self.hold = hold
        self.settlement = settlement

    def apply(self, books: Books) -> None:
        self.result = books.settle(self.hold, self.settlement)


class Releasing(Operation):
    """End a hold without cost."""

    __slots__ = ("at_ms", "hold", "reason")
    refusable = False

    def __init__(self, hold: Hold, reason: str, at_ms: int) -> None:
        super().__init__(None)
        self.hold = hold
        self.reason = reason
        self.at_ms = at_ms

    def apply(self, books: Books) -> None:
        books.release(self.hold, self.reason, self.at_ms)


class Reading(Operation):
    """Where caps stand; the result is a tuple of CapState."""

    __slots__ = ("caps",)

    def __init__(self, caps: tuple[Cap, ...], future: asyncio.Future[tuple[CapState, ...]]) -> None:
        super().__init__(future)
        self.caps = caps

    def apply(self, books: Books) -> None:
        self.result = tuple([books.cap_state(cap) for cap in self.caps])


class Granting(Operation):
    """Put money into a purse; the result is where it then stands, and whether that happened only now."""

    __slots__ = ("grant",)
    durability = Durability.FULL

    def __init__(self, grant: Grant, future: asyncio.Future[tuple[PurseState, bool]]) -> None:
        super().__init__(future)
        self.grant = grant

    def apply(self, books: Books) -> None:
        self.result = books.purses.grant(self.grant)


class ReadingPurses(Operation):
    """Where purses stand; the result is a tuple of PurseState."""

    __slots__ = ("purses",)

    def __init__(self, purses: tuple[Purse, ...], future: asyncio.Future[tuple[PurseState, ...]]) -> None:
        super().__init__(future)
        self.purses = purses

    def apply(self, books: Books) -> None:
        self.result = tuple([books.purses.state(purse) for purse in self.purses])


class Flushing(Operation):
    """Nothing to write: done when everything before it is durable."""

    __slots__ = ()
    refusable = False

    def apply(self, books: Books) -> None:
        self.result = None
