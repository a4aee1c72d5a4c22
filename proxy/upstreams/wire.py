"""One connection to an upstream: aiohttp's HTTP/1.1 protocol, made strict about who may speak when."""

from __future__ import annotations

import asyncio
import functools
import socket
from typing import TYPE_CHECKING

import uvloop
from aiohttp.client_exceptions import ClientPayloadError
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import TCPConnector

from proxy.upstreams import limits
from proxy.upstreams.guard import PublicResolver, public_socket
from proxy.upstreams.handover import CURRENT, Handover

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohappyeyeballs import AddrInfoType
    from aiohttp import ClientRequest, ClientTimeout
    from aiohttp.connector import Connection
    from aiohttp.http_parser import RawResponseMessage
    from aiohttp.streams import StreamReader
    from aiohttp.tracing import Trace


class Wire(ResponseHandler):
    """Carries one exchange at a time.

    Bytes that arrive while no answer is awaited end the connection: taken for the head of the next answer
    they would hand one caller what was meant for another.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.busy = False
        self.heard = False
        """A byte of the present exchange's answer has arrived."""
        self.uses = 0
        self.idle_since = 0.0
        self.connection: Connection | None = None
        """The connector's own handle; closing it takes the connection off the connector's books."""

    def begin(self, *, bodiless: bool) -> None:
        """Get ready for one answer. `bodiless`: to HEAD, which has a length but no body."""
        self.busy = True
        self.heard = False
        self.uses += 1
        self.set_response_params(
            skip_payload=bodiless,
            read_until_eof=True,
            auto_decompress=False,
            read_bufsize=limits.READ_BUFFER_BYTES,
            max_line_size=limits.HEAD_LINE_BYTES_MAX,
            max_field_size=limits.HEAD_FIELD_BYTES_MAX,
            max_headers=limits.HEAD_FIELDS_MAX,
        )

    async def head(self) -> tuple[RawResponseMessage, StreamReader]:
        """The next head (1xx included) and its body under way."""
        return await self.read()

    async def writable(self) -> None:
        """Return once more may be written. Raises ConnectionError where the connection was lost."""
        await self._drain_helper()

    def data_received(self, data: bytes) -> None:
        if not self.busy:
            if data:
                self.drop()
            return
        self.heard = True
        super().data_received(data)

    def resume_reading(self, resume_parser: bool = True) -> None:
        # aiohttp resumes after every read, paused or not, and pays a run of the parser for it.
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        # aiohttp tells only who waits for a head; a parser that fails within a body would leave its reader hanging.
        payload = self._payload
        if payload is not None and not payload.is_eof():
            payload.set_exception(exc)
        super().set_exception(exc)

    def connection_lost(self, exc: BaseException | None) -> None:
        # A body that ends with the connection ends regularly on a close, but not on a reset.
        if exc is not None and self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(ClientPayloadError(f"Connection reset within the body: {exc!r}"))
        super().connection_lost(exc)

    @property
    def reusable(self) -> bool:
        """The answer was read to its end, nothing followed it, and the request has left to its end."""
        transport = self.transport
        return (
            transport is not None
            and not transport.is_closing()
            and not self.should_close
            and transport.get_write_buffer_size() == 0
        )

    def rest(self, now: float) -> None:
        """The exchange is over and the connection stays open."""
        self.busy = False
        self.idle_since = now
        self._payload = None

    def drop(self) -> None:
        """Close at once, whatever is under way. Idempotent."""
        self.busy = False
        self.abort()
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class Connector(TCPConnector):
    """aiohttp's connector as a dialler only: names, addresses (both families, the faster one wins), TLS.

    `public_only` dials public addresses alone and remembers no name; see `proxy.upstreams.guard`.
    """

    def __init__(self, *, public_only: bool = False) -> None:
        if public_only:
            socket_of = functools.partial(_noted, public_socket)
            super().__init__(limit=0, use_dns_cache=False, resolver=PublicResolver(), socket_factory=socket_of)
        else:
            socket_of = functools.partial(_noted, _any_socket)
            super().__init__(limit=0, ttl_dns_cache=limits.DNS_CACHE_SECONDS, socket_factory=socket_of)
        # There is no parameter for the class of its protocols.
        self._factory = functools.partial(_wire, self._loop)  # type: ignore[assignment]
        self._keeps_sockets = isinstance(self._loop, uvloop.Loop)

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:  # noqa: ASYNC109
        """See aiohttp; a dial that fails or is given up closes its own socket, and nobody else's."""
        handover = Handover()
        token = CURRENT.set(handover if self._keeps_sockets else None)
        try:
            return await super().connect(req, traces, timeout)
        except BaseException:
            handover.failed()
            raise
        finally:
            CURRENT.reset(token)


def _any_socket(address: AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    return socket.socket(family, kind, protocol)


def _noted(make: Callable[[AddrInfoType], socket.socket], address: AddrInfoType) -> socket.socket:
    made = make(address)
    if (handover := CURRENT.get()) is not None:
        handover.made(made)
    return made


def _wire(loop: asyncio.AbstractEventLoop) -> Wire:
    """Called by the loop as it takes the socket over."""
    if (handover := CURRENT.get()) is not None:
        handover.give()
    return Wire(loop)
