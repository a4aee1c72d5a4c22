"""The pooled client: one attempt at one upstream, every way it can fail named.

aiohttp dials and parses (connector, TLS, DNS cache, C parser); requests are written here, because a proxy must
send what it was given, know whether a byte has left, and keep no cookies, follow no redirects, decode no bodies
and read no environment. HTTP/1.1 throughout.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp.client_exceptions import ClientError
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EofStream

from proxy.headers import Headers
from proxy.upstreams import limits
from proxy.upstreams.api import (
    CUSTOMER_PREFIX,
    FailureKind,
    Upstream,
    UpstreamClient,
    UpstreamFailure,
    UpstreamResponse,
)
from proxy.upstreams.flight import Flight
from proxy.upstreams.pool import Pool
from proxy.upstreams.requests import declared_length, request_head
from proxy.upstreams.wire import Wire

if TYPE_CHECKING:
    from aiohttp.http_parser import RawResponseMessage
    from aiohttp.streams import StreamReader

_BREAKS: Final = (ClientError, HttpProcessingError, OSError)
"""What aiohttp raises when a connection or its framing fails."""


class PooledResponse:
    """An answer under way. `headers` are the upstream's own, hop-by-hop fields included; the caller owns the map."""

    __slots__ = ("_flight", "_payload", "_ready", "headers", "status")

    def __init__(
        self, status: int, headers: Headers, ready: bytes, flight: Flight | None, payload: StreamReader
    ) -> None:
        self.status = status
        self.headers = headers
        self._ready = ready
        self._flight = flight
        self._payload = payload

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._ready:
            ready, self._ready = self._ready, b""
            return ready
        flight = self._flight
        if flight is None:
            raise StopAsyncIteration
        try:
            data = await flight.piece(self._payload)
        except UpstreamFailure:
            flight.end(keep=False)
            raise
        except (*_BREAKS, RuntimeError) as error:
            flight.end(keep=False)
            raise UpstreamFailure(FailureKind.BROKEN, _words(error), sent=True) from error
        if not data or self._payload.at_eof():
            self._flight = None
            flight.end(keep=True)
            if not data:
                raise StopAsyncIteration
        return data

    async def read(self, bytes_max: int) -> bytes:
        """The whole body. Raises UpstreamFailure GARBAGE past `bytes_max`, and closes the connection."""
        pieces: list[bytes] = []
        size = 0
        try:
            async for piece in self:
                size += len(piece)
                if size > bytes_max:
                    raise UpstreamFailure(FailureKind.TOO_LARGE, f"more than {bytes_max} bytes", sent=True)
                pieces.append(piece)
        finally:
            await self.aclose()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def aclose(self) -> None:
        """Give the connection back if the body was read to its end, else close it."""
        self._ready = b""
        flight, self._flight = self._flight, None
        if flight is not None:
            flight.end(keep=False)


class PooledClient(UpstreamClient):
    """One pool for each upstream as configured; an upstream that a reload changed gets a new one."""

    def __init__(self) -> None:
        self._current: dict[str, tuple[Upstream, Pool]] = {}
        self._pools: dict[tuple[object, ...], Pool] = {}
        self._loop = asyncio.get_running_loop()

    async def send(
        self,
        upstream: Upstream,
        *,
        method: str,
        path: str,
        headers: Headers,
        body: bytes | AsyncIterator[bytes] | None,
        host: str | None = None,
    ) -> UpstreamResponse:
        """See `UpstreamClient.send`. Also raises what a streamed `body` raised before the answer's head came,
        and ValueError for a head that cannot be written safely.
        """
        pool = self._pool(upstream)
        endpoint = pool.endpoint(host)
        head = request_head(method, path, endpoint.authority, headers, body)
        deadlines = upstream.deadlines
        total_at = self._loop.time() + deadlines.total_seconds
        connect_seconds = min(deadlines.connect_seconds, deadlines.total_seconds)
        wire = await pool.take(endpoint, connect_seconds)
        flight = Flight(pool, endpoint, wire, deadlines, total_at)
        streamed = None if body is None or isinstance(body, bytes) else body
        try:
            if streamed is None:
                return await _attempt(flight, wire, head, body)
            return await _attempt(flight, wire, head, streamed, declared_length(headers))
        except UpstreamFailure as failure:
            stale = failure.kind is FailureKind.BROKEN and wire.uses > 1 and not wire.heard
            if not stale or streamed is not None or not upstream.retry_stale:
                raise
        try:
            wire = await pool.take(endpoint, connect_seconds, fresh=True)
        except UpstreamFailure as failure:
            raise UpstreamFailure(failure.kind, failure.detail, sent=True) from failure
        return await _attempt(Flight(pool, endpoint, wire, deadlines, total_at), wire, head, body)

    def in_flight(self, name: str) -> int:
        """Exchanges that upstream `name` is working on now."""
        return sum(pool.in_flight for key, pool in self._pools.items() if key[0] == name)

    async def close(self) -> None:
        """Close every connection. Exchanges under way end as broken."""
        pools = list(self._pools.values())
        self._pools.clear()
        self._current.clear()
        for pool in pools:
            await pool.close()

    def _pool(self, upstream: Upstream) -> Pool:
        known = self._current.get(upstream.name)
        if known is not None and known[0] is upstream:
            return known[1]
        key = _pool_key(upstream)
        pool = self._pools.get(key)
        if pool is None:
            self._forget(upstream.name)
            try:
                pool = self._pools[key] = Pool(upstream)
            except OSError as error:  # ssl.SSLError is one: a CA file without a certificate.
                detail = f"ca_file of {upstream.name}: {error}"
                raise UpstreamFailure(FailureKind.CONNECT, detail, sent=False) from error
        self._current[upstream.name] = (upstream, pool)
        return pool

    def _forget(self, name: str) -> None:
        """Let go of pools of `name` that a reload has left unused, and of old ones where there are many.

        Those of customers go before the operator's own.
        """
        surplus = len(self._pools) - limits.POOLS_MAX + 1
        customers_first = sorted(self._pools.items(), key=lambda item: not str(item[0][0]).startswith(CUSTOMER_PREFIX))
        for key, pool in customers_first:
            if (key[0] == name and pool.unused) or (surplus > 0 and pool.in_flight == 0):
                pool.clear()
                del self._pools[key]
                self._current.pop(str(key[0]), None)
                surplus -= 1


def _pool_key(upstream: Upstream) -> tuple[object, ...]:
    """What connections depend on. Raises UpstreamFailure where the CA file cannot be read."""
    changed = 0
    if upstream.ca_file is not None:
        try:
            changed = Path(upstream.ca_file).stat().st_mtime_ns
        except OSError as error:
            raise UpstreamFailure(FailureKind.CONNECT, f"ca_file of {upstream.name}: {error}", sent=False) from error
    return (
        upstream.name,
        upstream.base_url,
        upstream.connect_to,
        upstream.ca_file,
        changed,
        upstream.connections_max,
        upstream.public_only,
    )


async def _attempt(
    flight: Flight, wire: Wire, head: bytes, body: bytes | AsyncIterator[bytes] | None, length: int | None = None
) -> PooledResponse:
    """One request on one connection, up to the answer's head. The flight ends with it unless there is an answer."""
    answered = False
    try:
        _write(flight, wire, head, body, length)
        message, payload = await _final_head(wire)
        answered = True
    except EofStream as error:
        raise flight.failure or UpstreamFailure(FailureKind.BROKEN, "closed", sent=True) from error
    except HttpProcessingError as error:
        raise UpstreamFailure(FailureKind.GARBAGE, _words(error), sent=True) from error
    except (ClientError, OSError) as error:
        if error is flight.failure:
            raise
        raise UpstreamFailure(FailureKind.BROKEN, _words(error), sent=True) from error
    finally:
        if not answered:
            flight.end(keep=False)
    headers = message.headers.copy()
    if payload.is_eof():
        ready = payload.read_nowait()
        flight.end(keep=True)
        return PooledResponse(message.code, headers, ready, None, payload)
    flight.await_body()
    return PooledResponse(message.code, headers, b"", flight, payload)


def _write(
    flight: Flight, wire: Wire, head: bytes, body: bytes | AsyncIterator[bytes] | None, length: int | None
) -> None:
    transport = wire.transport
    if transport is None:
        raise UpstreamFailure(FailureKind.BROKEN, "closed as soon as it was open", sent=False)
    wire.begin(bodiless=head.startswith(b"HEAD "))
    if isinstance(body, bytes):
        if len(body) <= limits.COALESCED_BYTES_MAX:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)
    else:
        transport.write(head)
    flight.await_head()
    if body is not None and not isinstance(body, bytes):
        flight.start_upload(body, length)


async def _final_head(wire: Wire) -> tuple[RawResponseMessage, StreamReader]:
    for _ in range(limits.INFORMATIONAL_MAX):
        message, payload = await wire.head()
        if message.code >= 200:
            return message, payload
        if message.code == 101:
            raise UpstreamFailure(FailureKind.GARBAGE, "101 where no upgrade was asked for", sent=True)
    raise UpstreamFailure(FailureKind.GARBAGE, f"more than {limits.INFORMATIONAL_MAX} informational heads", sent=True)


def _words(error: BaseException) -> str:
    """An error for the log: its class, and the first line of what it says."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
