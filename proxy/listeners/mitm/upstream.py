"""The engine's own way out, for tunnels and websockets only: to addresses admitted for one connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from mitmproxy.connection import ConnectionState, Server
from mitmproxy.proxy import events

if TYPE_CHECKING:
    from proxy.listeners.mitm.connection import ClientConnection

CONNECT_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 5.0
"""What was written last has this long to reach the other side."""
TUNNEL_IDLE_SECONDS: Final = 900.0
"""A tunnel in which nothing moves for so long is closed."""
WRITE_BUFFER_BYTES: Final = 64 << 10

Address = tuple[str, int]


class NotAdmitted(Exception):
    """An address that nobody admitted for this connection. Nothing was opened."""


class Upstream(asyncio.Protocol):
    """The server's side of one tunnel."""

    def __init__(self, owner: ClientConnection, server: Server) -> None:
        self._owner = owner
        self.server = server
        self.transport: asyncio.Transport
        self.bytes_up = 0
        self.bytes_down = 0
        self.touched = 0.0
        """Loop time at which something moved, either way."""
        self._target: Address = ("", 0)
        self._ended: asyncio.Future[None] | None = None
        self._eof = False
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self.transport.pause_reading()  # until a layer is there to take what arrives
        self.server.state = ConnectionState.OPEN
        self.server.timestamp_start = 0.0
        self.server.peername = transport.get_extra_info("peername")
        self.server.sockname = transport.get_extra_info("sockname")

    def data_received(self, data: bytes) -> None:
        self.bytes_down += len(data)
        self.touched = self._owner.loop.time()
        self._owner.dispatch(events.DataReceived(self.server, data))

    def eof_received(self) -> bool:
        self._eof = True
        self.server.state &= ~ConnectionState.CAN_READ
        self._owner.dispatch(events.ConnectionClosed(self.server))
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.server.state = ConnectionState.CLOSED
        if not self._eof:
            self._owner.dispatch(events.ConnectionClosed(self.server))
        self._end()

    def _end(self) -> None:
        """Its client follows, after what is still to be sent to it."""
        if self._ended is None:
            return
        if not self._ended.done():
            self._ended.set_result(None)
        owner, (host, port) = self._owner, self._target
        owner.upstream = None
        owner.core.traffic.tunnel_bytes_up += self.bytes_up
        owner.core.traffic.tunnel_bytes_down += self.bytes_down
        owner.core.log.info(
            "tunnel_ended",
            host=host,
            port=port,
            bytes_up=self.bytes_up,
            bytes_down=self.bytes_down,
            **owner.describe(),
        )
        owner.close()

    def pause_writing(self) -> None:
        self._owner.pause_reading()

    def resume_writing(self) -> None:
        self._owner.resume_reading()

    def begin(self, target: Address) -> asyncio.Future[None]:
        """Its owner's connection is a tunnel to `target` from now on; the future is done when that has ended."""
        owner = self._owner
        owner.core.traffic.tunnels += 1
        owner.upstream = self
        self._target = target
        self._ended = owner.loop.create_future()
        self.touched = owner.loop.time()
        if not self.transport.is_closing():
            self.transport.resume_reading()
        return self._ended

    def idle(self, now: float) -> bool:
        """Nothing moved for too long."""
        return now >= self.touched + TUNNEL_IDLE_SECONDS

    def write(self, data: bytes) -> None:
        """Send towards the server."""
        self.bytes_up += len(data)
        if not self.transport.is_closing():
            self.transport.write(data)

    def half_close(self) -> None:
        """FIN, after what was written."""
        if self.server.state & ConnectionState.CAN_WRITE and not self.transport.is_closing():
            self.server.state &= ~ConnectionState.CAN_WRITE
            try:
                self.transport.write_eof()
            except OSError:  # the server was faster: it has reset the connection
                self.transport.abort()

    def close(self) -> None:
        """Close once what was written is out, or time is up."""
        if self.closed:
            return
        self.server.state = ConnectionState.CLOSED
        self.transport.close()
        asyncio.get_running_loop().call_later(CLOSE_SECONDS, self.transport.abort)


async def open_upstream(owner: ClientConnection, address: Address) -> Upstream:
    """Connect to an address admitted for `owner`. Raises NotAdmitted, OSError or TimeoutError."""
    if address not in owner.admitted:
        raise NotAdmitted(f"{address[0]}:{address[1]}")
    upstream = Upstream(owner, Server(address=address))
    async with asyncio.timeout(CONNECT_SECONDS):
        await owner.loop.create_connection(lambda: upstream, *address)
    return upstream
