"""One exchange as the engine sees it: its body on the way in, its answer on the way out, its driver task.

`Stream` is both the `Downstream` and the `BodyReader` of an exchange, for HTTP/1 and HTTP/2 alike; the
two protocols fill in how bytes are framed, how reading is held back and how an answer is cut.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from proxy.errors import Refusal
from proxy.exchange import Request
from proxy.headers import Headers

if TYPE_CHECKING:
    from proxy.listeners.mitm.core import Core

NEVER: Final = float("inf")


class HeldRequest(Request):
    """A request whose body, once asked for as a whole, counts against the budget until the exchange ends."""

    __slots__ = ()
    _reader: Stream

    async def body(self, bytes_max: int) -> bytes:
        self._reader.keep = True
        return await super().body(bytes_max)


class Stream(ABC):
    """What both protocols share. See `proxy.listeners.api.Downstream` and `proxy.exchange.BodyReader`."""

    __slots__ = (
        "_buffered",
        "_charged",
        "_core",
        "_deadline",
        "_failure",
        "_handed",
        "_on_gone",
        "_pieces",
        "_reading",
        "_task",
        "answered",
        "complete",
        "gone",
        "keep",
        "started",
    )

    def __init__(self, core: Core) -> None:
        self._core = core
        self.gone = False
        self.started = False
        """The head of the answer is on its way."""
        self.answered = False
        """The answer was sent whole, or cut."""
        self.complete = False
        """The request's body was received to its end."""
        self.keep = False
        self._task: asyncio.Task[None] | None = None
        self._on_gone: Callable[[], None] | None = None
        self._pieces: list[bytes] = []
        self._buffered = 0
        self._charged = 0
        self._handed = 0
        self._failure: Refusal | None = None
        self._reading: asyncio.Future[None] | None = None
        self._deadline = NEVER

    # The driver

    def launch(self, work: Coroutine[Any, Any, None]) -> None:
        """Start the driver: the whole life of the exchange is this one task."""
        task = self._task = self._core.loop.create_task(work)
        self._core.drivers.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        """A callback, not a `finally`: it also runs where the client left before the driver's first step."""
        self._core.drivers.discard(task)
        self._core.budget.give(self._charged)
        self._charged = 0
        self._pieces.clear()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._core.log.error("driver_failed", exc_info=error)
        self._ended()
        self._core.wake()

    def _ended(self) -> None:
        """A driver that left its client without an end: 500 where nothing was sent, else a cut."""
        if self.answered or self.gone:
            return
        if self.started:
            self.abort()
        else:
            self._last_resort()

    @abstractmethod
    def _last_resort(self) -> None: ...

    def leave(self) -> None:
        """The client is gone. The driver is told, or cancelled where it did not ask to be told."""
        if self.gone:
            return
        self.gone = True
        if self.answered or self._task is None:
            return
        task, callback, told = self._task, self._on_gone, False
        try:
            if callback is not None:
                callback()
                told = True
        finally:
            if (not told or not self.complete) and not task.cancelling():
                task.cancel()
            if self._reading is not None and not self._reading.done():
                self._reading.set_exception(ConnectionResetError("the client left during its upload"))

    def on_gone(self, callback: Callable[[], None]) -> None:
        self._on_gone = callback
        if self.gone:
            callback()

    # The body

    def feed(self, data: bytes) -> bool:
        """Take a piece of the body; False once more is buffered than may be while nobody reads."""
        size = len(data)
        if self.answered or self._failure is not None:
            self._discarded(size)
            return True
        if not self._core.budget.take(size):
            self._discarded(size)
            self.fail_body(
                Refusal(
                    "overloaded",
                    "Too many uploads are under way at once. Try again in a moment.",
                    retry_after_seconds=1,
                    close=True,
                )
            )
            return True
        self._charged += size
        self._pieces.append(data)
        self._buffered += size
        self._wake()
        return self._buffered < self._core.body_buffer_bytes

    def feed_end(self) -> None:
        """The body was received to its end."""
        self.complete = True
        self._wake()

    def fail_body(self, refusal: Refusal) -> None:
        """Nothing more can be read: `read` raises this."""
        self._failure = refusal
        self._wake()

    async def read(self) -> bytes:
        """The next piece, b"" at the end. Raises Refusal `request_timeout` where the client stalls."""
        if self._handed and not self.keep:
            self._core.budget.give(self._handed)
            self._charged -= self._handed
        self._handed = 0
        while not self._pieces:
            if self._failure is not None:
                raise self._failure
            if self.complete:
                return b""
            if self.gone:
                raise ConnectionResetError("the client left during its upload")
            await self._wait_for_body()
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._pieces = []
        self._buffered = 0
        self._handed = len(data)
        self._consumed(len(data))
        return data

    async def _wait_for_body(self) -> None:
        self._wants_body()
        self._reading = self._core.loop.create_future()
        self._deadline = self._core.loop.time() + self._core.limits.body_idle_seconds
        try:
            await self._reading
        finally:
            self._reading = None
            self._deadline = NEVER

    def check(self, now: float) -> None:
        """Called by the sweep: a client that stalls in its upload is refused."""
        if now >= self._deadline:
            self._deadline = NEVER
            self.fail_body(
                Refusal("request_timeout", "The request body did not arrive in time. Send it again.", close=True)
            )

    def _wake(self) -> None:
        if self._reading is not None and not self._reading.done():
            self._reading.set_result(None)

    @abstractmethod
    def _wants_body(self) -> None:
        """Somebody reads: send 100 Continue where the client waits for it."""

    @abstractmethod
    def _consumed(self, size: int) -> None:
        """`size` bytes left the buffer: the client may send as many."""

    @abstractmethod
    def _discarded(self, size: int) -> None:
        """`size` bytes were thrown away."""

    # The answer

    @abstractmethod
    async def respond(self, status: int, headers: Headers, body: bytes, *, close: bool) -> None: ...

    @abstractmethod
    async def start(self, status: int, headers: Headers) -> None: ...

    @abstractmethod
    async def write(self, chunk: bytes) -> None: ...

    @abstractmethod
    async def end(self) -> None: ...

    @abstractmethod
    def abort(self) -> None: ...

    async def forward(self, host: str, port: int, *, tls: bool, headers: Headers) -> None:
        refusal = Refusal("not_found", "This connection cannot be upgraded to another protocol.")
        await self.refuse(refusal)

    async def refuse(self, refusal: Refusal) -> None:
        """Answer a refusal of the engine's own."""
        await self.respond(refusal.status, Headers(refusal.wire_headers()), refusal.envelope(), close=refusal.close)
