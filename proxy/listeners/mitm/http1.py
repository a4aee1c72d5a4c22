"""HTTP/1: a layer that turns a client's bytes into exchanges, one at a time, and their answers into bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import h11
from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import Layer

from proxy.errors import Refusal
from proxy.headers import Headers
from proxy.listeners.mitm.answer import CONTINUE, LAST_CHUNK, bodiless, head_bytes, refusal_bytes
from proxy.listeners.mitm.head import Head, Unreadable, parse
from proxy.listeners.mitm.stream import NEVER, Stream
from proxy.listeners.mitm.websocket import carry, request_head

if TYPE_CHECKING:
    from proxy.listeners.mitm.connection import ClientConnection

PIPELINE_BYTES_MAX: Final = 64 << 10
"""Read ahead behind a running exchange; then the socket is not read until it ends."""
DISCARD_BYTES_MAX: Final = 64 << 10
"""A rest of an upload that is awaited and thrown away to keep the connection; a longer one closes it."""
CHUNK_HEADS_BYTES_MAX: Final = 64 << 10
"""Chunk sizes, extensions and trailers that are not complete yet."""
COPIED_BYTES_MAX: Final = 256 << 10
"""A body that is joined to its head, for one write; a longer one is not worth the copy."""
_BAD_LINE: Final = Refusal("invalid_request", "This is not an HTTP/1.1 request.", close=True)
_NOTHING: Final[tuple[commands.Command, ...]] = ()


class Http1Stream(Stream):
    """An exchange over HTTP/1."""

    __slots__ = ("_chunked", "_layer", "_silent", "close", "head")

    def __init__(self, layer: Http1Layer, head: Head) -> None:
        super().__init__(layer.connection.core)
        self._layer = layer
        self.head = head
        self.close = not head.keep_alive
        self._chunked = False
        self._silent = head.method == "HEAD"

    def _wants_body(self) -> None:
        if self.head.expect:
            self.head.expect = False
            if not self.started:
                self._layer.connection.send(CONTINUE)

    def _consumed(self, size: int) -> None:
        self._layer.connection.resume_reading()

    def _discarded(self, size: int) -> None:
        return

    async def respond(self, status: int, headers: Headers, body: bytes, *, close: bool) -> None:
        if self.gone or self.started:
            return
        if close or not self._layer.may_stay(self):
            self.close = True
        framing = "connection: close\r\n" if self.close else ""
        if "content-length" in headers:
            headers = headers.copy()
            del headers["content-length"]
        if not bodiless(status):
            framing = f"content-length: {len(body)}\r\n{framing}"
        else:
            body = b""
        raw = head_bytes(status, headers, framing)
        self.started = True
        if body and not self._silent:
            if len(body) > COPIED_BYTES_MAX:
                self._layer.connection.send(raw)
                raw = body
            else:
                raw += body
        self._layer.connection.send(raw)
        self._layer.answered(self)

    async def start(self, status: int, headers: Headers) -> None:
        if self.gone or self.started:
            return
        framing = ""
        if bodiless(status):
            self._silent = True
        elif "content-length" not in headers:
            if self.head.minor == 1:
                framing = "transfer-encoding: chunked\r\n"
                self._chunked = not self._silent
            else:
                self.close = True
        if self.close or not self._layer.may_stay(self):
            self.close = True
            framing += "connection: close\r\n"
        raw = head_bytes(status, headers, framing)
        self.started = True
        self._layer.connection.send(raw)

    async def write(self, chunk: bytes) -> None:
        if self.gone or self.answered or not chunk or self._silent:
            return
        connection = self._layer.connection
        connection.send(b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._chunked else chunk)
        if connection.congested:
            await connection.drained()

    async def end(self) -> None:
        if self.gone or self.answered:
            return
        if self._chunked:
            self._layer.connection.send(LAST_CHUNK)
        self._layer.answered(self)

    async def forward(self, host: str, port: int, *, tls: bool, headers: Headers) -> None:
        if self.gone or self.started:
            return
        head = request_head(self.head.target, host, port, tls=tls, headers=headers)
        try:
            await carry(self._layer.connection, self, head, (host, port), tls=tls)
        except Refusal as refusal:
            await self.refuse(refusal)

    def detach(self) -> bytes:
        """The connection becomes something else; returns what the client sent ahead."""
        self.started = self.answered = True
        return self._layer.detach()

    def abort(self) -> None:
        if self.gone or self.answered:
            return
        self.answered = True
        self._layer.connection.cut(reset=self.started and not self._chunked)

    def _last_resort(self) -> None:
        refusal = Refusal("internal_error", "The proxy failed on this request.", close=True)
        self.close = self.started = True
        self._layer.connection.send(refusal_bytes(refusal))
        self._layer.answered(self)


class Http1Layer(Layer):
    """The client's side of one HTTP/1 connection; below TLS or directly on the socket."""

    def __init__(self, context: Context, connection: ClientConnection) -> None:
        super().__init__(context)
        self.connection = connection
        self._buffer = bytearray()
        self._scanned = 0
        self._stream: Http1Stream | None = None
        self._remaining = 0
        self._chunks: ChunkedReader | None = None
        self._chunk_buffer = ReceiveBuffer()
        self._deaf = False
        self.deadline = NEVER

    # Events

    def _handle_event(self, event: events.Event) -> Iterable[commands.Command]:  # type: ignore[override]
        if isinstance(event, events.DataReceived):
            if event.connection is self.connection.client:
                self._feed(event.data)
        elif isinstance(event, events.ConnectionClosed):
            self._eof()
        elif isinstance(event, events.Start):
            self.deadline = self.connection.loop.time() + self.connection.core.limits.head_seconds
        return _NOTHING

    handle_event = _handle_event  # type: ignore[assignment]

    def _feed(self, data: bytes) -> None:
        if self._deaf:
            return
        stream = self._stream
        if stream is not None and not stream.complete:
            self._body(stream, data)
            return
        self._buffer += data
        if stream is None:
            self._next()
        elif len(self._buffer) > PIPELINE_BYTES_MAX:
            self.connection.pause_reading()

    def _eof(self) -> None:
        """A client that sent FIN is not interested in an answer any more."""
        self._deaf = True
        self.deadline = NEVER
        stream, self._stream = self._stream, None
        try:
            if stream is not None:
                stream.leave()
        finally:
            self.connection.close()

    # Heads

    def _next(self) -> None:
        """Begin the next exchange if its head is here."""
        buffer, limits = self._buffer, self.connection.core.limits
        while buffer[:2] == b"\r\n":
            del buffer[:2]
        if not buffer:
            return
        end = buffer.find(b"\r\n\r\n", max(0, self._scanned - 3))
        if end > limits.head_bytes_max or (end < 0 and len(buffer) > limits.head_bytes_max):
            self._refuse(Refusal("headers_too_large", f"The head exceeds {limits.head_bytes_max} bytes.", close=True))
        elif end >= 0:
            raw = bytes(buffer[: end + 2])
            del buffer[: end + 4]
            self._scanned = 0
            self.deadline = NEVER
            self._open(raw)
        elif b"\n\n" in buffer:
            self._refuse(_BAD_LINE)
        else:
            if not self._scanned:
                self.deadline = self.connection.loop.time() + limits.head_seconds
            self._scanned = len(buffer)

    def _open(self, raw: bytes) -> None:
        try:
            head = parse(raw, self.connection.core.limits.head_count_max)
        except Unreadable:
            self._refuse(_BAD_LINE)
            return
        stream = self._stream = Http1Stream(self, head)
        if head.length == 0:
            stream.complete = True
            if len(self._buffer) > PIPELINE_BYTES_MAX:
                self.connection.pause_reading()
        else:
            self._remaining = head.length or 0
            self._chunks = ChunkedReader() if head.length is None else None
        self.connection.admission.http1(stream, head)
        if not stream.complete and self._buffer:
            data = bytes(self._buffer)
            self._buffer.clear()
            self._body(stream, data)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer what is no exchange yet, and close."""
        self._deaf = True
        self.deadline = NEVER
        self.connection.send(refusal_bytes(refusal))
        self.connection.finish()

    # Bodies

    def _body(self, stream: Http1Stream, data: bytes) -> None:
        if self._chunks is not None:
            more = self._chunked_body(stream, self._chunks, data)
        else:
            more = self._sized_body(stream, data)
        if stream.complete and stream.answered:
            self._reset()
        elif not more and not stream.complete:
            self.connection.pause_reading()

    def _sized_body(self, stream: Http1Stream, data: bytes) -> bool:
        surplus = len(data) - self._remaining
        if surplus > 0:
            self._buffer += data[self._remaining :]
            data = data[: self._remaining]
        self._remaining -= len(data)
        more = stream.feed(data)
        if self._remaining == 0:
            stream.feed_end()
        return more

    def _chunked_body(self, stream: Http1Stream, chunks: ChunkedReader, data: bytes) -> bool:
        buffer = self._chunk_buffer
        buffer += data
        more = True
        try:
            while (event := chunks(buffer)) is not None:
                if isinstance(event, h11.EndOfMessage):  # its trailers are dropped
                    self._chunks = None
                    stream.feed_end()
                    self._buffer += bytes(buffer)
                    self._chunk_buffer = ReceiveBuffer()
                    return True
                more = stream.feed(bytes(event.data))
        except h11.ProtocolError:
            self._broken(stream, "The chunked body is malformed.")
            return True
        if len(buffer) > CHUNK_HEADS_BYTES_MAX:
            self._broken(stream, "A chunk header or the trailers are too long.")
        return more

    def _broken(self, stream: Http1Stream, message: str) -> None:
        """The framing is lost: whoever reads is told so, and nothing more is read as a message."""
        self._deaf = True
        stream.close = True
        if stream.answered:
            self.connection.finish()
        else:
            stream.fail_body(Refusal("invalid_request", message, close=True))

    # Answers

    def may_stay(self, stream: Http1Stream) -> bool:
        """Whether the connection can be kept after this stream's answer."""
        if self._deaf or self.connection.core.leaving:
            return False
        if stream.complete:
            return True
        return self._chunks is None and not stream.head.expect and self._remaining <= DISCARD_BYTES_MAX

    def answered(self, stream: Http1Stream) -> None:
        """The answer was written: close, or go on to the next request."""
        stream.answered = True
        if stream.close:
            self._deaf = True
            self._stream = None
            self.connection.finish()
        elif stream.complete:
            self._reset()
        else:
            self.connection.resume_reading()
            self.deadline = self.connection.loop.time() + self.connection.core.limits.body_idle_seconds

    def detach(self) -> bytes:
        """Another layer takes over."""
        self._stream = None
        self._deaf = True
        early = bytes(self._buffer)
        self._buffer.clear()
        return early

    def _reset(self) -> None:
        self._stream = None
        core = self.connection.core
        if core.leaving:
            self._deaf = True
            self.connection.finish()
            return
        self.deadline = self.connection.loop.time() + core.limits.keepalive_seconds
        self.connection.resume_reading()
        if self._buffer:
            self._next()

    # The engine

    @property
    def idle(self) -> bool:
        """Between two exchanges."""
        return self._stream is None

    def check(self, now: float) -> None:
        """Called by the sweep: heads, keep-alive and uploads have their time."""
        if self._stream is not None:
            self._stream.check(now)
        if now < self.deadline or self._deaf:
            return
        self.deadline = NEVER
        if self._buffer and self._stream is None:
            self._refuse(Refusal("request_timeout", "The request head did not arrive in time.", close=True))
        else:
            self._deaf = True
            self.connection.finish()

    def retire(self) -> None:
        """No further exchange: an idle connection ends now, a running one with its answer."""
        if self._stream is None and not self._deaf:
            self._deaf = True
            self.connection.finish()

    def abandon(self) -> None:
        """The connection is lost."""
        self._eof()
