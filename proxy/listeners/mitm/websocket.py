"""Websocket upgrades: the request head goes to the provider, and after its 101 bytes go both ways, unread."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import Layer
from mitmproxy.proxy.layers.tcp import TCPLayer
from mitmproxy.proxy.layers.tls import ServerTLSLayer

from proxy.addresses import Address, is_public, resolve
from proxy.errors import Refusal
from proxy.headers import Headers
from proxy.listeners.mitm.answer import head_lines, refusal_bytes
from proxy.listeners.mitm.upstream import open_upstream

if TYPE_CHECKING:
    from proxy.listeners.mitm.connection import ClientConnection
    from proxy.listeners.mitm.http1 import Http1Stream

ANSWER_HEAD_BYTES_MAX: Final = 64 << 10
UPGRADE_SECONDS: Final = 30.0
"""What TLS with the provider and its answer to the upgrade may take together."""
EARLY_BYTES_MAX: Final = 64 << 10
"""What a client may send before the provider agreed to the upgrade."""
_OURS: Final = frozenset({"host", "connection", "upgrade", "content-length", "transfer-encoding", "expect"})
_ANSWER: Final = re.compile(rb"HTTP/1\.1 (\d{3})(?: [^\r\n]*)?\r\n")
_PASSED: Final = re.compile(rb"(?im)^(sec-websocket-(?:accept|protocol|extensions):[^\r\n]*)\r\n")
_SWITCHING: Final = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n%b\r\n"
Target = tuple[str, int]
_UNREACHABLE: Final = Refusal(
    "upstream_unavailable", "The provider cannot be reached.", retry_after_seconds=1, close=True
)


class UpgradeLayer(Layer):
    """Sends the head, waits for 101, then is a TCP layer. Without a 101 the client gets a refusal, and nothing
    it sends reaches the provider: an open pipe to it would be a way around every plugin."""

    def __init__(self, context: Context, head: bytes, established: Callable[[], None]) -> None:
        super().__init__(context)
        self._head = head
        self._established = established
        self._answer = b""
        self._early = b""
        self._over = False
        self._relay: TCPLayer | None = None

    def _handle_event(self, event: events.Event) -> Iterable[commands.Command]:  # type: ignore[override]
        if self._relay is not None:
            yield from self._relay.handle_event(event)
        elif self._over:
            return
        elif isinstance(event, events.Start):
            if self.context.server.connected:
                yield commands.SendData(self.context.server, self._head)
            else:
                yield from self._refuse(_UNREACHABLE)
        elif isinstance(event, events.DataReceived):
            yield from self._received(event)
        elif isinstance(event, events.ConnectionClosed):
            if event.connection is self.context.server:
                yield from self._refuse(_UNREACHABLE)
            else:
                yield from self._end()

    def _received(self, event: events.DataReceived) -> Iterable[commands.Command]:
        if event.connection is self.context.client:
            self._early += event.data
            if len(self._early) > EARLY_BYTES_MAX:
                yield from self._end()
            return
        self._answer += event.data
        head, separator, rest = self._answer.partition(b"\r\n\r\n")
        line = _ANSWER.match(head + b"\r\n")
        if separator and line is not None and line[1] == b"101":
            yield from self._switch(head + b"\r\n", rest)
        elif separator or len(self._answer) > ANSWER_HEAD_BYTES_MAX:
            status = int(line[1]) if line is not None else 502
            yield from self._refuse(
                Refusal(
                    "upstream_error",
                    f"The provider refused the upgrade with status {status}.",
                    status=status if 400 <= status < 600 else None,
                    close=True,
                )
            )

    def _switch(self, head: bytes, rest: bytes) -> Iterable[commands.Command]:
        passed = b"".join([line + b"\r\n" for line in _PASSED.findall(head)])
        yield commands.SendData(self.context.client, _SWITCHING % passed + rest)
        self._established()
        self._relay = TCPLayer(self.context, ignore=True)
        yield from self._relay.handle_event(events.Start())
        if self._early:
            yield commands.SendData(self.context.server, self._early)

    def _refuse(self, refusal: Refusal) -> Iterable[commands.Command]:
        yield commands.SendData(self.context.client, refusal_bytes(refusal))
        yield from self._end()

    def _end(self) -> Iterable[commands.Command]:
        self._over = True
        yield commands.CloseConnection(self.context.server)
        yield commands.CloseConnection(self.context.client)


async def admit(host: str, port: int) -> tuple[str, int]:
    """The one address for this upgrade. A name has public addresses only; a literal one was configured.
    Raises Refusal."""
    try:
        addresses = await resolve(host, port)
    except (OSError, UnicodeError, TimeoutError):
        addresses = []
    if not addresses:
        raise _UNREACHABLE
    if not _literal(host) and not all(is_public(address) for address in addresses):
        raise Refusal("target_not_allowed", f"{host} has an address that is not public.", close=True)
    return str(addresses[0]), port


def _literal(host: str) -> bool:
    try:
        address: Address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return bool(address)


def request_head(target: str, host: str, port: int, *, tls: bool, headers: Headers) -> bytes:
    """The upgrade request as the provider gets it."""
    kept = Headers([(name, value) for name, value in headers.items() if name.lower() not in _OURS])
    name = f"[{host}]" if ":" in host else host
    authority = name if port == (443 if tls else 80) else f"{name}:{port}"
    return (
        f"GET {target} HTTP/1.1\r\nhost: {authority}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
        f"{head_lines(kept)}\r\n"
    ).encode()


async def carry(connection: ClientConnection, stream: Http1Stream, head: bytes, target: Target, *, tls: bool) -> None:
    """Connect, take the client's connection over, and return when it has ended. Raises Refusal where nothing
    was taken over yet."""
    address = await admit(*target)
    connection.admitted.add(address)
    try:
        upstream = await open_upstream(connection, address)
    except (OSError, TimeoutError) as error:
        raise _UNREACHABLE from error
    if stream.gone:
        upstream.close()
        return
    early = stream.detach()
    connection.http = None
    context = connection.context
    context.server = upstream.server
    patience = connection.loop.call_later(UPGRADE_SECONDS, connection.transport.abort)

    def established() -> None:
        patience.cancel()
        connection.resume_reading()

    layer: Layer = UpgradeLayer(context, head, established)
    if tls:
        context.server.sni = target[0]
        secure = ServerTLSLayer(context)
        secure.child_layer, layer = layer, secure
    ended = upstream.begin(target)
    try:
        connection.pause_reading()  # nothing more of the client's until there is somebody to send it to
        connection.become(layer, early)
        await ended
    finally:
        patience.cancel()
        if not ended.done():
            connection.transport.abort()
