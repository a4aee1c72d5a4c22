"""What all connections of one engine share."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mitmproxy.options import Options

from proxy.config.schema import LimitsEntry
from proxy.errors import Refusal
from proxy.listeners.api import ConnectPolicy, Serve
from proxy.listeners.mitm.budget import Budget

if TYPE_CHECKING:
    from proxy.listeners.mitm.connection import ClientConnection
    from proxy.listeners.mitm.tls import Certificates

BODY_BUFFER_BYTES: Final = 256 << 10
"""Read of one upload while nobody asks for it; then its sender is held back."""
TICK_SECONDS_MAX: Final = 1.0
"""How late a time limit may be noticed."""


@dataclass(slots=True)
class Traffic:
    """Counters since the start."""

    connections: int = 0
    connections_refused: int = 0
    tunnels: int = 0
    tunnel_bytes_up: int = 0
    tunnel_bytes_down: int = 0


class Core:
    """The engine's inside: limits, the gateway's `serve`, and every connection there is."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        limits: LimitsEntry,
        serve: Serve,
        policy: ConnectPolicy,
        options: Options,
        certificates: Certificates,
        log: Any,
    ) -> None:
        self.loop = loop
        self.limits = limits
        self.serve = serve
        self.policy = policy
        self.options = options
        self.certificates = certificates
        self.log = log
        self.budget = Budget(limits.body_bytes_in_flight_max)
        self.body_buffer_bytes = BODY_BUFFER_BYTES
        self.traffic = Traffic()
        self.drivers: set[asyncio.Task[None]] = set()
        """Every exchange's, also of those whose client is gone."""
        self.leaving = False
        self.connections: set[ClientConnection] = set()
        self._by_ip: Counter[str] = Counter()
        self._waiter: asyncio.Future[None] | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        shortest = min(limits.head_seconds, limits.body_idle_seconds, limits.keepalive_seconds, limits.stall_seconds)
        self._tick_seconds = min(TICK_SECONDS_MAX, shortest / 4)

    # Connections

    def enter(self, connection: ClientConnection, ip: str) -> Refusal | None:
        """Count a new connection, or say why there is no room for it."""
        limits = self.limits
        if len(self.connections) >= limits.connections_max or self._by_ip[ip] >= limits.connections_per_ip_max:
            self.traffic.connections_refused += 1
            return Refusal("overloaded", "Too many connections are open.", retry_after_seconds=1, close=True)
        self.connections.add(connection)
        self._by_ip[ip] += 1
        self.traffic.connections += 1
        return None

    def leave(self, connection: ClientConnection, ip: str) -> None:
        """A counted connection is gone."""
        if connection not in self.connections:
            return
        self.connections.remove(connection)
        self.wake()
        self._by_ip[ip] -= 1
        if not self._by_ip[ip]:
            del self._by_ip[ip]

    # Drivers

    def wake(self) -> None:
        """A driver or a connection has ended."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def until(self, condition: Callable[[], bool], seconds_max: float) -> bool:
        """Wait until drivers or connections have ended so that `condition` holds; False when time is up first."""
        deadline = self.loop.time() + seconds_max
        while not condition():
            remaining = deadline - self.loop.time()
            if remaining <= 0:
                return False
            self._waiter = self.loop.create_future()
            await asyncio.wait([self._waiter], timeout=remaining)
        return True

    # Time

    def start_sweep(self) -> None:
        """Look at every connection's time limits once a tick: one timer in place of one per request."""
        self._sweeper = self.loop.call_later(self._tick_seconds, self._sweep)

    def stop_sweep(self) -> None:
        """No time limit is noticed after this."""
        if self._sweeper is not None:
            self._sweeper.cancel()

    def _sweep(self) -> None:
        self.start_sweep()
        now = self.loop.time()
        for connection in list(self.connections):
            connection.check(now)
