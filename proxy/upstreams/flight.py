"""One request under way on one connection: its deadlines, its upload, and the end of both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from proxy.upstreams.api import Deadlines, FailureKind, UpstreamFailure
from proxy.upstreams.pool import Endpoint, Pool
from proxy.upstreams.wire import Wire

if TYPE_CHECKING:
    from aiohttp.streams import StreamReader

_NEVER: Final = float("inf")


class Flight:
    """Owns a wire from the request's first byte until it is given back or closed, whichever way that comes.

    One timer watches all deadlines. It is not moved as bytes arrive: when it rings it looks what is due and
    is set again, so a piece of the body costs one look at the loop's clock.
    """

    __slots__ = ("_deadlines", "_endpoint", "_loop", "_pool", "_rings_at", "_silence", "_timer", "_total_at",
                 "_upload", "_waiting_since", "failure", "wire")  # fmt: skip

    def __init__(self, pool: Pool, endpoint: Endpoint, wire: Wire, deadlines: Deadlines, total_at: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._pool = pool
        self._endpoint = endpoint
        self._deadlines = deadlines
        self._total_at = total_at
        self._silence = FailureKind.FIRST_BYTE
        self._waiting_since = _NEVER
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = _NEVER
        self._upload: asyncio.Task[None] | None = None
        self.wire: Wire | None = wire
        self.failure: BaseException | None = None
        """What ended it from outside: a deadline, or the exception of the streamed request body."""

    def await_head(self) -> None:
        """The request is out, or leaving: the deadline of the answer's head runs."""
        now = self._waiting_since = self._loop.time()
        self._ring(min(self._total_at, now + self._deadlines.first_byte_seconds))

    def await_body(self) -> None:
        """The head is there: from now on silence between two pieces is what counts."""
        self._silence = FailureKind.IDLE
        self._waiting_since = _NEVER
        due = self._loop.time() + self._deadlines.idle_seconds
        if due < self._rings_at:
            self._ring(min(self._total_at, due))

    def start_upload(self, body: AsyncIterator[bytes], length: int | None) -> None:
        """Send the body while its answer is awaited: it may come early."""
        self._upload = self._loop.create_task(self._send(body, length))
        self._upload.add_done_callback(self._upload_done)

    async def piece(self, payload: StreamReader) -> bytes:
        """The next piece of the body, b"" at its end. Time spent elsewhere is not the upstream's silence."""
        self._waiting_since = self._loop.time()
        try:
            return await payload.readany()
        finally:
            self._waiting_since = _NEVER

    def end(self, *, keep: bool) -> None:
        """Give the connection back; without `keep`, or where it is not clean, it is closed. Idempotent."""
        wire = self.wire
        if wire is None:
            return
        self.wire = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._upload is not None and not self._upload.done():
            self._upload.cancel()
            keep = False
        self._pool.give_back(self._endpoint, wire, keep=keep)

    def _ring(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = at
        self._timer = self._loop.call_at(at, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = self._loop.time()
        if now >= self._total_at:
            self._fail(UpstreamFailure(FailureKind.TOTAL, f"after {self._deadlines.total_seconds:g} s", sent=True))
            return
        awaits_head = self._silence is FailureKind.FIRST_BYTE
        seconds = self._deadlines.first_byte_seconds if awaits_head else self._deadlines.idle_seconds
        due = min(self._waiting_since, now) + seconds
        if now >= due:
            self._fail(UpstreamFailure(self._silence, f"{seconds:g} s of silence", sent=True))
            return
        self._ring(min(self._total_at, due))

    def _fail(self, failure: BaseException) -> None:
        self.failure = failure
        wire = self.wire
        if wire is not None:
            wire.set_exception(failure)
            self.end(keep=False)

    async def _send(self, body: AsyncIterator[bytes], length: int | None) -> None:
        wire = self.wire
        sent = 0
        async for piece in body:
            transport = wire.transport if wire is not None else None
            if wire is None or transport is None:
                return
            if not piece:
                continue
            sent += len(piece)
            if length is None:
                transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            elif sent <= length:
                transport.write(piece)
            else:
                raise ValueError(f"a body longer than the {length} bytes announced")
            try:
                await wire.writable()
            except ConnectionError:
                return  # The wire knows; an answer that came before it broke off is still read.
            if self._silence is FailureKind.FIRST_BYTE:
                self._waiting_since = self._loop.time()
        if length is not None and sent != length:
            raise ValueError(f"a body of {sent} bytes where {length} were announced")
        if length is None and wire is not None and wire.transport is not None:
            wire.transport.write(b"0\r\n\r\n")

    def _upload_done(self, upload: asyncio.Task[None]) -> None:
        if upload.cancelled() or (error := upload.exception()) is None:
            return
        if self._silence is FailureKind.IDLE:
            error = UpstreamFailure(FailureKind.BROKEN, f"the request's body broke off: {error!r}", sent=True)
        self._fail(error)
