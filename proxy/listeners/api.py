"""What a listener promises the rest of the house, and what it is given. Engines live beside this file."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from proxy.errors import Refusal
from proxy.exchange import Origin, Request
from proxy.headers import Headers


class Downstream(Protocol):
    """The way back to one client, for one exchange. After `gone` is True every send does nothing."""

    gone: bool

    async def respond(self, status: int, headers: Headers, body: bytes, *, close: bool) -> None:
        """A whole answer in one write; `content-length` is set here. `close` ends the connection after it."""
        ...

    async def start(self, status: int, headers: Headers) -> None:
        """The head of a streamed answer; framing headers are set here unless `content-length` is given."""
        ...

    async def write(self, chunk: bytes) -> None:
        """One piece of the body. Returns once the client may be sent more (backpressure, with a stall deadline)."""
        ...

    async def end(self) -> None:
        """The regular end of a streamed answer."""
        ...

    def abort(self) -> None:
        """Cut a streamed answer so that the client sees it was cut (reset or close, never a regular end)."""
        ...

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Call back, once and synchronously, as soon as the client has left or reset the stream."""
        ...

    async def forward(self, host: str, port: int, *, tls: bool, headers: Headers) -> None:
        """Hand a websocket upgrade to the engine's own upstream side; returns when the tunnel has ended."""
        ...


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request head as a listener saw it. `refusal` is set where the head itself is not acceptable."""

    origin: Origin
    request: Request
    refusal: Refusal | None = None
    websocket: bool = False


Serve = Callable[[Arrival, Downstream], Coroutine[Any, Any, None]]
"""The gateway's side: the whole life of one exchange. Never raises but CancelledError."""


class ConnectVerdict:
    """What becomes of a CONNECT target: decrypt it, tunnel it unread to one pinned address, or refuse it."""

    __slots__ = ("action", "address", "refusal")

    def __init__(self, action: str, *, address: tuple[str, int] | None = None, refusal: Refusal | None = None) -> None:
        self.action = action
        """"capture" | "tunnel" | "refuse"."""
        self.address = address
        """tunnel: the resolved (IP, port) to connect to; the name is never resolved again."""
        self.refusal = refusal


class ConnectPolicy(Protocol):
    """Decides about CONNECT. An exception from it refuses."""

    async def decide(
        self, *, listener: str, peer: str, loopback: bool, host: str, port: int, credential: str | None
    ) -> ConnectVerdict:
        """Credential is the user part of Proxy-Authorization Basic, or its Bearer token; None where absent."""
        ...
