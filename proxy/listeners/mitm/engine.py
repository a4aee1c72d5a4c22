"""The mitmproxy engine: listeners in, exchanges out."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from proxy.config.schema import LimitsEntry, Listener
from proxy.listeners.api import ConnectPolicy, Serve
from proxy.listeners.mitm.connection import ClientConnection
from proxy.listeners.mitm.core import Core, Traffic
from proxy.listeners.mitm.embedding import make_options
from proxy.listeners.mitm.tls import Certificates

BACKLOG_COUNT: Final = 1024
CUT_SECONDS: Final = 1.0
"""What cancelled drivers have to settle, and last bytes to leave, before `close` returns."""


class ListenError(Exception):
    """A listener's address cannot be bound; says which and why."""


class MitmEngine:
    """All listeners of one configuration. `start`, then `stop_accepting` and `close`, once each."""

    def __init__(
        self,
        listeners: tuple[Listener, ...],
        limits: LimitsEntry,
        serve: Serve,
        connect_policy: ConnectPolicy,
        confdir: Path,
        log: Any,
        authorities: Path | None = None,
    ) -> None:
        """`authorities`: a PEM file of those that certify providers, for websockets; None: the public ones."""
        self._authorities = authorities
        self._listeners = listeners
        self._limits = limits
        self._serve = serve
        self._policy = connect_policy
        self._confdir = confdir
        self._log = log
        self._core: Core | None = None
        self._servers: list[asyncio.Server] = []
        self.addresses: dict[str, tuple[str, int]] = {}
        """Listener -> the host and port that it really has."""

    async def start(self, sockets: Mapping[str, socket.socket] | None = None) -> None:
        """Listen: on `sockets` by listener name where given, else on sockets of our own. Raises ListenError."""
        loop = asyncio.get_running_loop()
        core = self._core = Core(
            loop=loop,
            limits=self._limits,
            serve=self._serve,
            policy=self._policy,
            options=make_options(self._confdir),
            certificates=Certificates(self._listeners, self._confdir, self._authorities),
            log=self._log,
        )
        bound = _bind_all(self._listeners, sockets or {})
        for entry in self._listeners:
            bound[entry.name].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
            server = await loop.create_server(_factory(core, entry), sock=bound[entry.name], backlog=BACKLOG_COUNT)
            self._servers.append(server)
            host, port = bound[entry.name].getsockname()[:2]
            self.addresses[entry.name] = (host, port)
        core.start_sweep()

    @property
    def active(self) -> int:
        """Drivers running."""
        return 0 if self._core is None else len(self._core.drivers)

    @property
    def traffic(self) -> Traffic:
        """Counters since the start."""
        return Traffic() if self._core is None else self._core.traffic

    def stop_accepting(self) -> None:
        """Close the listening sockets and idle connections; running exchanges go on, and are the last of theirs."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        if self._core is None:
            return
        self._core.leaving = True
        for connection in list(self._core.connections):
            connection.retire()

    async def close(self, deadline_seconds: float) -> None:
        """Wait for running drivers, then cut what is left."""
        self.stop_accepting()
        core = self._core
        if core is None:
            return
        if not await core.until(lambda: not core.drivers, deadline_seconds):
            for driver in core.drivers:
                driver.cancel()
            await core.until(lambda: not core.drivers, CUT_SECONDS)
        for connection in list(core.connections):
            connection.close()
        await core.until(lambda: not core.connections, CUT_SECONDS)
        core.stop_sweep()
        for connection in list(core.connections):
            connection.transport.abort()
        await core.until(lambda: not core.connections, CUT_SECONDS)


def _factory(core: Core, listener: Listener) -> Any:
    return lambda: ClientConnection(core, listener)


def _bind_all(listeners: tuple[Listener, ...], given: Mapping[str, socket.socket]) -> dict[str, socket.socket]:
    """All or none."""
    bound: dict[str, socket.socket] = {}
    try:
        for entry in listeners:
            bound[entry.name] = given.get(entry.name) or _bind(entry)
    except ListenError:
        for name in bound.keys() - given.keys():
            bound[name].close()
        raise
    return bound


def _bind(listener: Listener) -> socket.socket:
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((listener.host, listener.port))
    except OSError as error:
        sock.close()
        reason = "the port is in use" if error.errno == errno.EADDRINUSE else str(error)
        raise ListenError(
            f"listener {listener.name}: cannot listen on {listener.host}:{listener.port}: {reason}"
        ) from error
    sock.setblocking(False)
    return sock
