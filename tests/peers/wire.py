"""A server's side of one raw HTTP/1.1 connection, with nothing between a test and the bytes."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable

HEAD_BYTES_MAX = 1 << 20
_STEP_BYTES = 64 << 10


class ClientGone(Exception):
    """The client closed or reset the connection."""


class ServerWire(asyncio.Protocol):
    """Runs `serve(wire)` for each connection; reads and writes exactly what it is told to."""

    def __init__(self, serve: Callable[[ServerWire], Awaitable[None]], number: int) -> None:
        self._serve = serve
        self.number = number
        self.gone = asyncio.Event()
        """The client has closed, half-closed or reset."""
        self._buffer = bytearray()
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("not a stream transport")
        self.transport = transport
        self.task = asyncio.get_running_loop().create_task(self._run())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._arrived.set()

    def eof_received(self) -> bool:
        self._lost()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _lost(self) -> None:
        self.gone.set()
        self._arrived.set()
        self._writable.set()

    async def _run(self) -> None:
        try:
            await self._serve(self)
        except ClientGone:
            return
        finally:
            self.transport.close()

    async def _more(self) -> None:
        if self.gone.is_set():
            raise ClientGone
        self._arrived.clear()
        await self._arrived.wait()

    async def until(self, mark: bytes) -> bytes:
        """Everything up to and with `mark`. Raises ClientGone."""
        while (end := self._buffer.find(mark)) < 0:
            if len(self._buffer) > HEAD_BYTES_MAX:
                raise ClientGone
            await self._more()
        return self._cut(end + len(mark))

    async def some(self, bytes_max: int) -> bytes:
        """What there is, at least one byte. Raises ClientGone."""
        while not self._buffer:
            await self._more()
        return self._cut(min(bytes_max, len(self._buffer)))

    async def exactly(self, count: int) -> bytes:
        """`count` bytes. Raises ClientGone."""
        while len(self._buffer) < count:
            await self._more()
        return self._cut(count)

    def _cut(self, count: int) -> bytes:
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    async def write(self, data: bytes) -> None:
        """Write with backpressure. Raises ClientGone."""
        for start in range(0, len(data), _STEP_BYTES):
            if self.gone.is_set() or self.transport.is_closing():
                raise ClientGone
            self.transport.write(data[start : start + _STEP_BYTES])
            await self._writable.wait()

    async def hang(self) -> None:
        """Say nothing until the client goes. Raises ClientGone."""
        await self.gone.wait()
        raise ClientGone

    async def pause(self, seconds: float) -> None:
        """Wait; raises ClientGone as soon as the client goes."""
        if seconds <= 0:
            return
        try:
            await asyncio.wait_for(self.gone.wait(), seconds)
        except TimeoutError:
            return
        raise ClientGone

    def reset(self) -> None:
        """End with a TCP RST."""
        raw = self.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()
