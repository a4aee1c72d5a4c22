"""A scripted HTTP/2 client: h2's state machine on a TLS socket, with every frame in the test's hands."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
import trustme
from hyperframe.frame import Frame, GoAwayFrame

from tests.listeners.mitm.harness import WAIT_SECONDS, Running


def client_context(authority: trustme.CA, *protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


class GracefulH2(h2.connection.H2Connection):
    """h2 takes any GOAWAY for the end; a client that waits for its streams does not."""

    goaway: int | None = None

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[h2.events.Event]]:
        self.goaway = frame.error_code
        return [], []


class H2Client:
    """Collects what arrives by stream. `pump` reads until a condition holds."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, window: int | None = None
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.acknowledge = window is None
        self.h2 = GracefulH2(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.config.validate_outbound_headers = False
        self.h2.config.normalize_outbound_headers = False
        if window is not None:
            self.h2.local_settings.initial_window_size = window
            self.h2.local_settings.acknowledge()
        self.h2.initiate_connection()
        if window is not None:
            self.h2.increment_flow_control_window(16 << 20)
        self.headers: dict[int, dict[str, str]] = {}
        self.informational: dict[int, str] = {}
        self.body: defaultdict[int, bytes] = defaultdict(bytes)
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.closed = False
        self.flush()

    @classmethod
    async def open(cls, engine: Running, context: ssl.SSLContext, name: str = "main", **kwargs: Any) -> H2Client:
        context.set_alpn_protocols(["h2"])
        plain = await engine.connect(name, context, server_hostname="localhost")
        return cls(plain.reader, plain.writer, **kwargs)

    @property
    def goaway(self) -> int | None:
        """The error code of the server's GOAWAY."""
        return self.h2.goaway

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    def request(
        self, path: str = "/a", method: str = "GET", *, end: bool = True, fields: tuple[tuple[str, str], ...] = ()
    ) -> int:
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path), *fields]
        self.h2.send_headers(stream, head, end_stream=end)
        self.flush()
        return stream

    def data(self, stream: int, data: bytes, *, end: bool = False) -> None:
        self.h2.send_data(stream, data, end_stream=end)
        self.flush()

    async def pump(self, until: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while not until() and not self.closed:
                data = await self.reader.read(65536)
                if not data:
                    self.closed = True
                    return
                for event in self.h2.receive_data(data):
                    self._take(event)
                self.flush()

    async def finished(self, stream: int) -> Any:
        """Wait for the whole answer; its body as JSON, where it is that."""
        await self.pump(lambda: stream in self.ended or stream in self.resets)
        return json.loads(self.body[stream]) if self.body[stream][:1] == b"{" else None

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                self.headers[event.stream_id] = {str(name): str(value) for name, value in event.headers}
            case h2.events.InformationalResponseReceived():
                self.informational[event.stream_id] = dict(event.headers)[":status"]  # type: ignore[arg-type, index, assignment]
            case h2.events.DataReceived():
                self.body[event.stream_id] += event.data
                if self.acknowledge and event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                self.ended.add(event.stream_id)
            case h2.events.StreamReset():
                self.resets[event.stream_id] = int(event.error_code)
