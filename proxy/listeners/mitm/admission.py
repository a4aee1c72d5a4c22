"""From a request head to an `Arrival`: who reached us how, and whether this head belongs here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.errors import Refusal
from proxy.exchange import ListenerKind, Origin
from proxy.listeners.api import Arrival
from proxy.listeners.mitm.head import Head
from proxy.listeners.mitm.stream import HeldRequest, Stream

if TYPE_CHECKING:
    from proxy.listeners.mitm.connection import ClientConnection
    from proxy.listeners.mitm.http1 import Http1Stream
    from proxy.listeners.mitm.http2 import Http2Stream

_LOOPBACK: Final = ("127.", "::ffff:127.")


class Admission:
    """One connection's answers to: what is this request, and may it come in this way."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        listener = connection.listener
        self.kind = ListenerKind(listener.kind)
        self.loopback = listener.loopback and (connection.ip == "::1" or connection.ip.startswith(_LOOPBACK))
        self.credential: str | None = None
        self.captured: tuple[str, int] | None = None
        """Host and port of the CONNECT that this connection is inside of."""
        self._origin: Origin | None = None

    def origin(self, captured: tuple[str, int] | None, credential: str | None) -> Origin:
        """How the client reached us; the same object for every request that came the same way."""
        origin = self._origin
        if origin is not None and captured is self.captured and credential is self.credential:
            return origin
        host, port = captured or (None, None)
        connection = self._connection
        origin = Origin(
            listener=connection.listener.name,
            kind=self.kind,
            peer=connection.ip,
            loopback=self.loopback,
            tls=connection.client.tls,
            http2=connection.client.alpn == b"h2",
            captured_host=host,
            captured_port=port,
            proxy_credential=credential,
        )
        if captured is self.captured and credential is self.credential:
            self._origin = origin
        return origin

    def http1(self, stream: Http1Stream, head: Head) -> None:
        """Start the exchange of an HTTP/1 head."""
        proxying = self._connection.proxying
        if proxying is not None and self.captured is None:
            proxying.arrive(stream, head)
            return
        if head.refusal is None:
            head.refusal = self.check(head.method, head.target, head.headers.get("host"))
        websocket = False
        if head.refusal is None and head.upgrade:
            websocket = head.upgrade == "websocket" and head.method == "GET" and self.captured is not None
            if not websocket:
                head.refusal = Refusal("invalid_request", "Upgrade is not understood here.")
        if head.refusal is not None and head.refusal.close:
            stream.close = True
        origin = self.origin(self.captured, self.credential)
        arrival = Arrival(origin, self.request(stream, head.target, head), head.refusal, websocket)
        stream.launch(self._connection.core.serve(arrival, stream))

    def http2(self, stream: Http2Stream, head: Head) -> None:
        """Start the exchange of an HTTP/2 head."""
        if head.refusal is None:
            head.refusal = self.check(head.method, head.target, head.headers.get("host"))
        origin = self.origin(self.captured, self.credential)
        arrival = Arrival(origin, self.request(stream, head.target, head), head.refusal)
        stream.launch(self._connection.core.serve(arrival, stream))

    def check(self, method: str, target: str, authority: str | None) -> Refusal | None:
        """What HTTP/1 and HTTP/2 requests have in common."""
        if method == "CONNECT":
            return Refusal("invalid_request", "CONNECT is not understood here.", close=True)
        if not target.startswith("/") and target != "*":
            return Refusal("invalid_request", "The request target must be a path.")
        if "#" in target:
            return Refusal("invalid_path", "A request target has no fragment.")
        if self.captured is not None and not self._is_captured(authority):
            return Refusal("misdirected_request", "This connection was opened to another host.")
        return None

    def _is_captured(self, authority: str | None) -> bool:
        assumed = 443 if self._connection.client.tls else 80
        return split_authority(authority or "", assumed) == self.captured

    def request(self, stream: Stream, target: str, head: Head) -> HeldRequest:
        """The head as the gateway sees it."""
        path, _, query = target.partition("?")
        return HeldRequest(
            method=head.method,
            path=path,
            query=query,
            headers=head.headers,
            authority=head.headers.get("host", ""),
            scheme="https" if self._connection.client.tls else "http",
            reader=stream,
        )


def split_authority(authority: str, port: int) -> tuple[str, int] | None:
    """HOST[:PORT] in lower case, brackets of IPv6 taken off; None where it is malformed."""
    host, separator, digits = authority.lower().rpartition(":")
    if not separator or digits.endswith("]"):
        host, digits = authority.lower(), str(port)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        return None
    if not host or not digits.isascii() or not digits.isdigit() or not 0 < int(digits) < 65536:
        return None
    if "@" in host or "/" in host or "," in host:
        return None
    return host.rstrip("."), int(digits)
