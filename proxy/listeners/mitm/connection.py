"""One client's connection: the socket, the mitmproxy layers on top of it, and how it ends.

Takes the place of mitmproxy's ConnectionHandler: layers get events and yield commands as there, but bytes
come straight from the transport (no reader task), hooks are answered in place by `hooks`, and a socket is
always closed: after FIN and a bounded while of discarding, so that a client in the middle of an upload can
read its refusal.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, cast

from mitmproxy.connection import Client, ConnectionState
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import Layer
from mitmproxy.proxy.layers.tls import ClientTLSLayer
from OpenSSL import SSL

from proxy.config.schema import Listener
from proxy.exchange import ListenerKind
from proxy.listeners.mitm import hooks
from proxy.listeners.mitm.admission import Admission
from proxy.listeners.mitm.answer import refusal_bytes
from proxy.listeners.mitm.proxying import Proxying
from proxy.listeners.mitm.stream import NEVER
from proxy.listeners.mitm.upstream import Address, Upstream

if TYPE_CHECKING:
    from proxy.listeners.mitm.core import Core
    from proxy.listeners.mitm.http1 import Http1Layer
    from proxy.listeners.mitm.http2 import Http2Layer

LINGER_SECONDS: Final = 5.0
"""After our FIN the client has this long to read its answer and close."""
LINGER_BYTES_MAX: Final = 64 << 20
"""What it may go on sending meanwhile."""
WRITE_BUFFER_BYTES: Final = 64 << 10
"""Bytes waiting for the socket above which a driver has to wait."""
_RESET: Final = struct.pack("ii", 1, 0)


class Phase(Enum):
    """The life of a connection."""

    OPEN = 0
    LINGERING = 1
    """Our side is finished; what still arrives is discarded."""
    CLOSING = 2
    """Closed once what was written is out."""
    CLOSED = 3


class ClientConnection(asyncio.Protocol):
    """See the module's docstring."""

    def __init__(self, core: Core, listener: Listener) -> None:
        self.core = core
        self.loop = core.loop
        self.listener = listener
        self.phase = Phase.OPEN
        self.congested = False
        """More is waiting for the socket than should be: await `drained`."""
        self.client_tls: ClientTLSLayer | None = None
        self.http: Http1Layer | Http2Layer | None = None
        self.layer: Layer
        self.transport: asyncio.Transport
        self.deadline = NEVER
        self.admitted: set[Address] = set()
        """Where this connection, and no other, may be tunnelled to."""
        self.proxying: Proxying | None = None
        self.upstream: Upstream | None = None
        """The other side, where this connection is a tunnel."""
        self._entered = False
        self._eof = False
        self._reading = True
        self._waiters: list[asyncio.Future[None]] = []
        self._unsent = 0
        self._stalled = NEVER
        self._discarded = 0
        self._queue: deque[events.Event] = deque()
        self._busy = False

    # From the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        peer = transport.get_extra_info("peername") or ("", 0)
        self.ip = str(peer[0])
        refusal = self.core.enter(self, self.ip)
        if refusal is not None:
            if self.listener.cert_file is None:
                self.transport.write(refusal_bytes(refusal))
            self.phase = Phase.CLOSED
            self.transport.close()
            return
        self._entered = True
        self.client = Client(
            peername=peer[:2],
            sockname=(transport.get_extra_info("sockname") or ("", 0))[:2],
            state=ConnectionState.OPEN,
            timestamp_start=0.0,
        )
        self.context = Context(self.client, self.core.options)
        self.admission = Admission(self)
        if self.admission.kind is ListenerKind.REGULAR:
            self.proxying = Proxying(self)
        self.deadline = self.loop.time() + self.core.limits.head_seconds
        self.layer = hooks.first_layer(self)
        self.dispatch(events.Start())

    def data_received(self, data: bytes) -> None:
        if self.phase is Phase.OPEN:
            if self.upstream is not None:
                self.upstream.touched = self.loop.time()
            self.dispatch(events.DataReceived(self.client, data))
        elif self.phase is Phase.LINGERING:
            self._discarded += len(data)
            if self._discarded > LINGER_BYTES_MAX:
                self.transport.abort()

    def eof_received(self) -> bool:
        self._eof = True
        if self.phase is Phase.OPEN:
            self.client.state &= ~ConnectionState.CAN_READ
            self.dispatch(events.ConnectionClosed(self.client))
        elif self.phase is Phase.LINGERING:
            self.close()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._entered:
            return
        self.phase = Phase.CLOSED
        self.client.state = ConnectionState.CLOSED
        self.core.leave(self, self.ip)
        try:
            self.dispatch(events.ConnectionClosed(self.client))
        finally:
            self._wake()
            if self.upstream is not None:
                self.upstream.close()

    def pause_writing(self) -> None:
        self.congested = True
        if self.upstream is not None:
            self.upstream.transport.pause_reading()
        self._unsent = self.transport.get_write_buffer_size()
        self._stalled = self.loop.time() + self.core.limits.stall_seconds

    def resume_writing(self) -> None:
        self.congested = False
        self._stalled = NEVER
        self._wake()
        if self.upstream is not None and not self.upstream.transport.is_closing():
            self.upstream.transport.resume_reading()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # For layers and streams

    def send(self, data: bytes) -> None:
        """Write to the client, through TLS where there is TLS."""
        if self.phase is not Phase.OPEN:
            return
        if self.client_tls is None:
            self.transport.write(data)
            return
        try:
            for command in self.client_tls.send_data(data):
                self.execute(command)
        except SSL.Error:  # the client broke its TLS off
            self.transport.abort()

    async def drained(self) -> None:
        """Wait until the client took enough of what was written, or is gone."""
        if self.phase is not Phase.OPEN:
            return
        waiter = self.loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def pause_reading(self) -> None:
        """Hold the client back."""
        if self._reading and self.phase is Phase.OPEN:
            self._reading = False
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Let the client go on."""
        if not self._reading and not self.transport.is_closing():
            self._reading = True
            self.transport.resume_reading()

    def finish(self) -> None:
        """The regular end: FIN after what was written, then wait for the client's, discarding what it sends."""
        if self.phase is not Phase.OPEN:
            return
        if self._eof or self.transport.is_closing():
            self.close()
            return
        self._close_notify()
        self.phase = Phase.LINGERING
        self.deadline = self.loop.time() + LINGER_SECONDS
        self.resume_reading()
        self._write_eof()

    def _write_eof(self) -> None:
        try:
            self.transport.write_eof()
        except OSError:  # the client was faster: it has reset the connection
            self.transport.abort()

    def close(self) -> None:
        """Close once what was written is out."""
        if self.phase in (Phase.OPEN, Phase.LINGERING):
            self.phase = Phase.CLOSING
            self.deadline = self.loop.time() + LINGER_SECONDS
            self.transport.close()
            self._wake()

    def cut(self, *, reset: bool) -> None:
        """End without a regular end. With `reset` the client sees a reset even where the end of the
        connection would be the end of the answer; what it had not read yet may then be lost to it."""
        if self.phase is Phase.CLOSED:
            return
        if reset:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()
        else:
            self.close()

    def _close_notify(self) -> None:
        tls = self.client_tls
        if tls is not None and tls.tls is not None:
            try:
                tls.tls.shutdown()
            except SSL.Error:  # the client broke its TLS off: there is nobody to notify
                return
            for command in tls.tls_interact():
                self.execute(command)

    # Tunnels

    def become(self, layer: Layer, early: bytes) -> None:
        """Another layer takes over; `early` is what the client sent ahead of it."""
        if self.client_tls is None:
            self.layer = layer
            self.dispatch(events.Start())
            if early:
                self.dispatch(events.DataReceived(self.client, early))
        else:
            self.client_tls.child_layer = layer
            self._run(self.client_tls.event_to_child(events.Start()))
            if early:
                self._run(self.client_tls.event_to_child(events.DataReceived(self.client, early)))

    # Events and commands

    def dispatch(self, event: events.Event) -> None:
        """Give the layers an event and carry out what they ask. A layer that crashes ends the connection."""
        self._queue.append(event)
        if not self._busy:
            self._run(())

    def _run(self, asked: Iterable[commands.Command]) -> None:
        """Carry out what a layer asks for, then what follows from that."""
        self._busy, sound = True, False
        try:
            for command in asked:
                self.execute(command)
            while self._queue:
                for command in self.layer.handle_event(self._queue.popleft()):
                    self.execute(command)
            sound = True
        finally:
            self._busy = False
            if not sound:
                self._crashed()

    def _crashed(self) -> None:
        """Nothing more is asked of the layers; whoever served this client is told that it is gone."""
        self._queue.clear()
        if self.phase is not Phase.CLOSED:
            self.transport.abort()
        if self.http is not None:
            self.http.abandon()

    def execute(self, command: commands.Command) -> None:
        """Carry out one command of a layer. None of them may open a connection: streams do, to what was admitted."""
        if isinstance(command, commands.SendData):
            if command.connection is not self.client:
                self._to_upstream(command)
            elif self.phase is Phase.OPEN:
                self.transport.write(command.data)
        elif isinstance(command, commands.CloseConnection):
            half = isinstance(command, commands.CloseTcpConnection) and command.half_close
            if command.connection is self.client:
                self._close_client(half=half)
            elif self.upstream is not None and command.connection is self.upstream.server:
                self.upstream.half_close() if half else self.upstream.close()
        elif isinstance(command, commands.StartHook):
            hooks.answer(self, command)
            if command.blocking:
                self._queue.append(events.HookCompleted(command))
        elif isinstance(command, commands.Log):
            self.core.log.debug("mitmproxy", message=command.message)
        else:
            raise TypeError(f"a layer asked for {type(command).__name__}")

    def _to_upstream(self, command: commands.SendData) -> None:
        if self.upstream is not None and command.connection is self.upstream.server:
            self.upstream.write(command.data)

    def _close_client(self, *, half: bool) -> None:
        if not half:
            self.client.state = ConnectionState.CLOSED
            self.close()
        elif self.phase is Phase.OPEN and self.client.state & ConnectionState.CAN_WRITE:
            self.client.state &= ~ConnectionState.CAN_WRITE
            self._write_eof()

    # The engine

    def check(self, now: float) -> None:
        """Called by the sweep."""
        if now >= self._stalled or (self.phase is not Phase.OPEN and now >= self.deadline):
            self._check_writes(now)
        elif self.phase is Phase.OPEN:
            if self.upstream is not None:
                if self.upstream.idle(now):
                    self.transport.abort()
            elif self.http is not None:
                self.http.check(now)
            elif now >= self.deadline:
                self.transport.abort()

    def _check_writes(self, now: float) -> None:
        """A client that takes some of what was written has more time; one that takes nothing has none."""
        unsent = self.transport.get_write_buffer_size()
        if 0 < unsent < (self._unsent or unsent + 1):
            self._unsent = unsent
            patience = now + self.core.limits.stall_seconds
            if self.phase is Phase.OPEN:
                self._stalled = patience
            else:
                self.deadline = patience
        else:
            self.transport.abort()

    def retire(self) -> None:
        """No further exchange is begun on this connection."""
        if self.http is not None:
            self.http.retire()

    def describe(self) -> dict[str, Any]:
        """For the log."""
        return {"listener": self.listener.name, "peer": self.ip}
