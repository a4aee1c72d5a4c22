"""HTTP/2: a layer that turns a client's frames into exchanges, many at a time, and their answers into frames."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import ProtocolError, StreamClosedError
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import Layer

from proxy.errors import Refusal
from proxy.headers import Headers
from proxy.listeners.mitm.answer import bodiless, fields
from proxy.listeners.mitm.h2connection import FLOOD_SECONDS, EngineH2
from proxy.listeners.mitm.head import Head, from_fields
from proxy.listeners.mitm.stream import NEVER, Stream

if TYPE_CHECKING:
    from proxy.listeners.mitm.connection import ClientConnection

BACKLOG_BYTES: Final = 64 << 10
"""Of one answer, waiting for its client's window, above which the driver has to wait."""
DRIVERS_PER_STREAM: Final = 2
"""Drivers a connection may have for every stream it may have open: those of reset streams finish, too."""
_NOTHING: Final[tuple[commands.Command, ...]] = ()


class Http2Stream(Stream):
    """An exchange over HTTP/2."""

    __slots__ = ("_layer", "_silent", "_waiters", "backlog", "head", "id", "stall_deadline")

    def __init__(self, layer: Http2Layer, stream_id: int, head: Head) -> None:
        super().__init__(layer.connection.core)
        self._layer = layer
        self.id = stream_id
        self.head = head
        self.backlog = 0
        self.stall_deadline = NEVER
        self._silent = head.method == "HEAD"
        self._waiters: list[asyncio.Future[None]] = []

    def _wants_body(self) -> None:
        if self.head.expect:
            self.head.expect = False
            if not self.started:
                self._layer.h2.send_headers(self.id, [(b":status", b"100")])
                self._layer.flush()

    def _consumed(self, size: int) -> None:
        self._layer.acknowledge(self.id, size)

    def _discarded(self, size: int) -> None:
        self._layer.acknowledge(self.id, size)

    async def respond(self, status: int, headers: Headers, body: bytes, *, close: bool) -> None:
        if self.gone or self.started:
            return
        found = fields(status, headers)
        if not bodiless(status):
            found = [pair for pair in found if pair[0] != b"content-length"]
            found.append((b"content-length", b"%d" % len(body)))
        silent = self._silent or bodiless(status) or not body
        self.started = True
        h2 = self._layer.h2
        h2.send_headers(self.id, found, end_stream=silent)
        if not silent:
            h2.send_data(self.id, body)
            h2.end_stream(self.id)
        self._layer.flush()
        self._layer.answered(self)

    async def start(self, status: int, headers: Headers) -> None:
        if self.gone or self.started:
            return
        found = fields(status, headers)
        self._silent = self._silent or bodiless(status)
        self.started = True
        self._layer.h2.send_headers(self.id, found)
        self._layer.flush()

    async def write(self, chunk: bytes) -> None:
        if self.gone or self.answered or not chunk or self._silent:
            return
        layer = self._layer
        layer.h2.send_data(self.id, chunk)
        layer.flush()
        if layer.connection.congested:
            await layer.connection.drained()
        if self.id in layer.h2.stream_buffers and layer.blocked(self):
            waiter = self._core.loop.create_future()
            self._waiters.append(waiter)
            await waiter

    async def end(self) -> None:
        if self.gone or self.answered:
            return
        self._layer.h2.end_stream(self.id)
        self._layer.flush()
        self._layer.answered(self)

    def abort(self) -> None:
        if self.gone or self.answered:
            return
        self.answered = True
        self._layer.reset(self, ErrorCodes.INTERNAL_ERROR)

    def _last_resort(self) -> None:
        refusal = Refusal("internal_error", "The proxy failed on this request.")
        self.started = True
        self._layer.h2.send_headers(self.id, fields(refusal.status, Headers(refusal.wire_headers())))
        self._layer.h2.send_data(self.id, refusal.envelope())
        self._layer.h2.end_stream(self.id)
        self._layer.flush()
        self._layer.answered(self)

    def _ended(self) -> None:
        self._layer.driver_ended()
        super()._ended()

    def leave(self) -> None:
        try:
            super().leave()
        finally:
            self.wake()

    def wake(self) -> None:
        """The client's window has room again, or the client is gone."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class Http2Layer(Layer):
    """The client's side of one HTTP/2 connection; always below TLS."""

    def __init__(self, context: Context, connection: ClientConnection) -> None:
        super().__init__(context)
        self.connection = connection
        self.h2 = EngineH2(connection.core.limits)
        self._streams: dict[int, Http2Stream] = {}
        self._blocked: set[Http2Stream] = set()
        self._drivers = 0
        self._over = False
        self._calm_at = 0.0
        self.deadline = NEVER

    # Events

    def _handle_event(self, event: events.Event) -> Iterable[commands.Command]:  # type: ignore[override]
        if self._over:
            return _NOTHING
        if isinstance(event, events.DataReceived):
            if event.connection is self.connection.client:
                self._feed(event.data)
        elif isinstance(event, events.ConnectionClosed):
            self._lost()
        elif isinstance(event, events.Start):
            self.h2.initiate_connection()
            self.flush()
            if self.connection.core.leaving:
                self.retire()
            else:
                self._rest()
        return _NOTHING

    handle_event = _handle_event  # type: ignore[assignment]

    def _feed(self, data: bytes) -> None:
        try:
            received = self.h2.receive_data(data)
        except (ProtocolError, ValueError, IndexError):  # the latter two: python-hyper/h2#1231
            self.flush()
            self._lost()
            return
        for event in received:
            self._receive(event)
            if self._over:
                return
        if self._blocked:
            self._windows_moved()
        self.flush()
        self._end_if_done()

    def _receive(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self._open(event)
        elif isinstance(event, DataReceived):
            self._data(event)
        elif isinstance(event, StreamEnded):
            stream = self._streams.get(event.stream_id or 0)
            if stream is not None:
                stream.feed_end()
                self._forget(stream)
        elif isinstance(event, StreamReset):
            stream = self._streams.pop(event.stream_id or 0, None)
            if stream is not None:
                self._blocked.discard(stream)
                stream.leave()
        elif isinstance(event, ConnectionTerminated):
            self._lost()

    def _open(self, event: RequestReceived) -> None:
        stream_id, core = event.stream_id or 0, self.connection.core
        if core.leaving or self._drivers >= DRIVERS_PER_STREAM * core.limits.http2_streams_max:
            self._reset(stream_id, ErrorCodes.REFUSED_STREAM)
            return
        head = from_fields(event.headers or [], core.limits.head_count_max)
        stream = self._streams[stream_id] = Http2Stream(self, stream_id, head)
        stream.complete = event.stream_ended is not None
        self._drivers += 1
        self.deadline = NEVER
        self.connection.admission.http2(stream, head)

    def _data(self, event: DataReceived) -> None:
        stream_id, data = event.stream_id or 0, event.data or b""
        stream = self._streams.get(stream_id)
        surplus = (event.flow_controlled_length or 0) - len(data)
        if stream is None:
            surplus += len(data)
        elif data:
            stream.feed(data)
        if surplus:
            self.h2.acknowledge_received_data(surplus, stream_id)

    # Answers

    def flush(self) -> None:
        """Send what the state machine has to say."""
        data = self.h2.data_to_send()
        if data:
            self.connection.send(data)

    def acknowledge(self, stream_id: int, size: int) -> None:
        """Widen a client's window by what was read."""
        if not self._over:
            self.h2.acknowledge_received_data(size, stream_id)
            self.flush()

    def blocked(self, stream: Http2Stream) -> bool:
        """Whether too much of its answer waits for the client's window; it is then watched."""
        stream.backlog = self.h2.backlog(stream.id)
        if stream.backlog <= BACKLOG_BYTES:
            return False
        self._watch(stream)
        return True

    def _watch(self, stream: Http2Stream) -> None:
        self._blocked.add(stream)
        stream.stall_deadline = self.connection.loop.time() + self.connection.core.limits.stall_seconds

    def _windows_moved(self) -> None:
        """The client may have widened a window: drivers go on, answered streams end."""
        for stream in list(self._blocked):
            backlog = self.h2.backlog(stream.id)
            if backlog < stream.backlog:
                stream.backlog = backlog
                self._watch(stream)
            if backlog <= BACKLOG_BYTES // 2 and not stream.answered:
                self._blocked.discard(stream)
                stream.stall_deadline = NEVER
                stream.wake()
            elif not backlog:
                self._forget(stream)

    def answered(self, stream: Http2Stream) -> None:
        """The answer was handed over; the stream lives until the client has taken it."""
        stream.answered = True
        stream.backlog = self.h2.backlog(stream.id)
        if stream.backlog:
            self._watch(stream)
        else:
            self._forget(stream)
        self._end_if_done()

    def _forget(self, stream: Http2Stream) -> None:
        """Drop a stream that is answered and sent. One that still uploads is told to stop (RFC 9113, 8.1)."""
        if not stream.answered or self.h2.backlog(stream.id):
            return
        self._blocked.discard(stream)
        if self._streams.pop(stream.id, None) is not None and not stream.complete:
            self._reset(stream.id, ErrorCodes.NO_ERROR)
            self.flush()

    def reset(self, stream: Http2Stream, code: ErrorCodes) -> None:
        """Cut one stream."""
        self._blocked.discard(stream)
        if self._streams.pop(stream.id, None) is not None and not self._over:
            self._reset(stream.id, code)
            self.flush()
            self._end_if_done()

    def _reset(self, stream_id: int, code: ErrorCodes) -> None:
        # One read can hold a stream's begin and its reset: the state machine has then closed it before we look.
        with contextlib.suppress(StreamClosedError):
            self.h2.reset_stream(stream_id, code)

    def driver_ended(self) -> None:
        """One driver less."""
        self._drivers -= 1

    # The end

    def _lost(self) -> None:
        """No more of this client: every driver is told."""
        self._over = True
        self.deadline = NEVER
        streams = list(self._streams.values())
        self._streams.clear()
        self._blocked.clear()
        with ExitStack() as stack:
            stack.callback(self.connection.finish)
            for stream in streams:
                stack.callback(stream.leave)

    def _end_if_done(self) -> None:
        if self._streams or self._over:
            return
        if self.h2.peer_leaving or self.connection.core.leaving:
            self._over = True
            self.connection.finish()
        elif self.deadline == NEVER:
            self._rest()

    def _rest(self) -> None:
        self.deadline = self.connection.loop.time() + self.connection.core.limits.keepalive_seconds

    # The engine

    def check(self, now: float) -> None:
        """Called by the sweep."""
        if now >= self._calm_at:
            self._calm_at = now + FLOOD_SECONDS
            self.h2.calm()
        for stream in list(self._streams.values()):
            stream.check(now)
        for stream in list(self._blocked):
            if now >= stream.stall_deadline:
                self.reset(stream, ErrorCodes.CANCEL)
                stream.leave()
        if now >= self.deadline and not self._over:
            self.connection.send(self.h2.farewell())
            self._lost()

    def retire(self) -> None:
        """GOAWAY: no further stream."""
        if not self._over:
            self.connection.send(self.h2.farewell())
            self._end_if_done()

    def abandon(self) -> None:
        """The connection is lost."""
        if not self._over:
            self._lost()
