"""The connections to one upstream: dialled by aiohttp's connector, kept and counted here."""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections import deque
from pathlib import Path
from typing import Final

import certifi
from aiohttp import ClientError, ClientRequest, ClientTimeout
from yarl import URL

from proxy.upstreams import limits
from proxy.upstreams.api import FailureKind, Upstream, UpstreamFailure
from proxy.upstreams.wire import Connector, Wire

_NO_TIMEOUT: Final = ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)


class Endpoint:
    """One host of an upstream: how it is dialled, what its Host header says, and its idle connections."""

    __slots__ = ("authority", "idle", "template")

    def __init__(self, upstream: Upstream, host: str | None, context: ssl.SSLContext | None) -> None:
        url = URL(upstream.base_url, encoded=True).origin()
        if host is not None:
            url = url.with_host(host)
        name, authority = url.raw_host, url.host_port_subcomponent
        if name is None or authority is None:
            raise ValueError(f"upstream '{upstream.name}': its base_url names no host")
        self.authority = authority
        if upstream.connect_to is not None:
            address, port = upstream.connect_to
            url = URL.build(scheme=url.scheme, host=address, port=port)
        self.template = ClientRequest(
            "GET", url, loop=asyncio.get_running_loop(), ssl=context or True, server_hostname=name
        )
        """What the connector wants to know of a request; the name verified stays that of the URL."""
        self.idle: list[Wire] = []


class Pool:
    """At most `connections_max` exchanges at a time, one connection each; more wait their turn, a bounded while."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._loop = asyncio.get_running_loop()
        tls = upstream.base_url.startswith("https:")
        self._context = _context(upstream.ca_file) if tls else None
        self._connector = Connector(public_only=upstream.public_only)
        self._connections_max = upstream.connections_max
        self._endpoints: dict[str | None, Endpoint] = {}
        self._busy: set[Wire] = set()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self.in_flight = 0

    def endpoint(self, host: str | None) -> Endpoint:
        """The endpoint of `host`, None meaning the base URL's own."""
        endpoint = self._endpoints.get(host)
        if endpoint is None:
            if len(self._endpoints) >= limits.ENDPOINTS_MAX:
                self._endpoints = {name: known for name, known in self._endpoints.items() if known.idle}
            endpoint = self._endpoints[host] = Endpoint(self._upstream, host, self._context)
        return endpoint

    async def take(self, endpoint: Endpoint, seconds: float, *, fresh: bool = False) -> Wire:
        """A connection within `seconds`. Raises UpstreamFailure CONNECT; give it back exactly once.

        `fresh` dials a new one and closes the endpoint's idle ones: what closed one under us (a restart, a
        balancer's timeout) has likely closed all.
        """
        if self.in_flight < self._connections_max:
            self.in_flight += 1
        else:
            began = self._loop.time()
            await self._turn(seconds)
            seconds -= self._loop.time() - began
        if fresh:
            self._drop_idle(endpoint)
        wire = None if fresh else self._idle(endpoint)
        if wire is None:
            wire = await self._dial(endpoint, seconds)
        self._busy.add(wire)
        return wire

    def give_back(self, endpoint: Endpoint, wire: Wire, *, keep: bool) -> None:
        """The exchange is over. Without `keep` the connection is closed at once."""
        self._busy.discard(wire)
        if keep and wire.reusable:
            wire.rest(self._loop.time())
            endpoint.idle.append(wire)
            if self._sweeper is None:
                self._sweeper = self._loop.call_later(limits.KEEPALIVE_SECONDS, self._sweep)
        else:
            wire.drop()
        self._pass_turn()

    @property
    def unused(self) -> bool:
        """Nothing under way and nothing kept."""
        return self.in_flight == 0 and not any(endpoint.idle for endpoint in self._endpoints.values())

    def clear(self) -> None:
        """Close every idle connection."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for endpoint in self._endpoints.values():
            self._drop_idle(endpoint)

    async def close(self) -> None:
        """Close every connection, those under way too."""
        self.clear()
        for wire in self._busy:
            wire.drop()
        await self._connector.close()

    @staticmethod
    def _drop_idle(endpoint: Endpoint) -> None:
        for wire in endpoint.idle:
            wire.drop()
        endpoint.idle.clear()

    @staticmethod
    def _idle(endpoint: Endpoint) -> Wire | None:
        idle = endpoint.idle
        while idle:
            wire = idle.pop()
            if wire.reusable:
                return wire
            wire.drop()
        return None

    async def _dial(self, endpoint: Endpoint, seconds: float) -> Wire:
        """A new connection; the turn is passed on where none comes about."""
        wire: Wire | None = None
        try:
            self._make_room()
            async with asyncio.timeout(seconds):
                connection = await self._connector.connect(endpoint.template, [], _NO_TIMEOUT)
            protocol = connection.protocol
            if isinstance(protocol, Wire):
                protocol.connection = connection
                wire = protocol
            else:
                connection.close()
                raise UpstreamFailure(FailureKind.CONNECT, "the connection closed at once", sent=False)
        except TimeoutError as error:
            detail = f"{endpoint.authority}: no connection in time"
            raise UpstreamFailure(FailureKind.CONNECT, detail, sent=False) from error
        except (ClientError, OSError, UnicodeError) as error:
            raise UpstreamFailure(FailureKind.CONNECT, f"{endpoint.authority}: {error}", sent=False) from error
        finally:
            if wire is None:
                self._pass_turn()
        return wire

    def _make_room(self) -> None:
        """Idle connections (to other hosts of this upstream) count, too: close one where all are taken."""
        idle = 0
        oldest: Endpoint | None = None
        for endpoint in self._endpoints.values():
            if endpoint.idle:
                idle += len(endpoint.idle)
                if oldest is None or endpoint.idle[0].idle_since < oldest.idle[0].idle_since:
                    oldest = endpoint
        if oldest is not None and self.in_flight + idle > self._connections_max:
            oldest.idle.pop(0).drop()

    async def _turn(self, seconds: float) -> None:
        if len(self._waiters) >= self._connections_max * limits.WAITING_PER_CONNECTION_MAX:
            detail = f"{self._upstream.name}: too many requests wait for one of {self._connections_max} connections"
            raise UpstreamFailure(FailureKind.BUSY, detail, sent=False)
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append(waiter)
        got = False
        try:
            async with asyncio.timeout(seconds):
                await waiter
            got = True
        except TimeoutError as error:
            detail = f"{self._upstream.name}: none of {self._connections_max} connections became free in time"
            raise UpstreamFailure(FailureKind.BUSY, detail, sent=False) from error
        finally:
            if not got:
                if waiter.done() and not waiter.cancelled():
                    self._pass_turn()
                elif waiter in self._waiters:
                    self._waiters.remove(waiter)

    def _pass_turn(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.in_flight -= 1

    def _sweep(self) -> None:
        """Close what has been idle too long. Lists are oldest first, since the newest is taken first."""
        self._sweeper = None
        oldest_kept = self._loop.time() - limits.KEEPALIVE_SECONDS
        left = False
        for endpoint in self._endpoints.values():
            kept = [wire for wire in endpoint.idle if wire.idle_since > oldest_kept and wire.reusable]
            for wire in endpoint.idle:
                if wire not in kept:
                    wire.drop()
            endpoint.idle = kept
            left = left or bool(kept)
        if left:
            self._sweeper = self._loop.call_later(limits.KEEPALIVE_SECONDS / 2, self._sweep)


def _context(ca_file: str | None) -> ssl.SSLContext:
    """Verification always on: against `ca_file` alone, or the system's store, or certifi's where there is none."""
    if ca_file is None:
        paths = ssl.get_default_verify_paths()
        return _public_context(paths.cafile, paths.capath)
    context = ssl.create_default_context(cafile=ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context


@functools.lru_cache(maxsize=4)
def _public_context(cafile: str | None, capath: str | None) -> ssl.SSLContext:
    """One for all upstreams that trust the public authorities: reading those takes milliseconds and a megabyte."""
    system = bool(cafile) or (bool(capath) and any(Path(capath or "").iterdir()))
    context = ssl.create_default_context(cafile=None if system else certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context
