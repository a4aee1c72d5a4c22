"""The way back to a client that keeps everything, for tests of the driver."""

from __future__ import annotations

from collections.abc import Callable

from proxy.headers import Headers


class MemoryDownstream:
    """Implements proxy.listeners.api.Downstream; `leave()` plays the client that goes away."""

    def __init__(self, *, leave_after_chunks: int | None = None) -> None:
        self.gone = False
        self.status = 0
        self.headers = Headers()
        self.chunks: list[bytes] = []
        self.ended = False
        self.aborted = False
        self.closed = False
        self._leave_after = leave_after_chunks
        self._on_gone: Callable[[], None] | None = None

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def leave(self) -> None:
        """The client is gone."""
        self.gone = True
        if self._on_gone is not None:
            self._on_gone()

    def on_gone(self, callback: Callable[[], None]) -> None:
        self._on_gone = callback

    async def respond(self, status: int, headers: Headers, body: bytes, *, close: bool) -> None:
        if not self.gone:
            self.status, self.headers, self.chunks, self.closed = status, headers, [body], close

    async def start(self, status: int, headers: Headers) -> None:
        if not self.gone:
            self.status, self.headers = status, headers

    async def write(self, chunk: bytes) -> None:
        if self.gone:
            return
        self.chunks.append(chunk)
        if self._leave_after is not None and len(self.chunks) >= self._leave_after:
            self.leave()

    async def end(self) -> None:
        self.ended = not self.gone

    def abort(self) -> None:
        self.aborted = True

    async def forward(self, host: str, port: int, *, tls: bool, headers: Headers) -> None:
        self.chunks.append(f"{host}:{port}".encode())
