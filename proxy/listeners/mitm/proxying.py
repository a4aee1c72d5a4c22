"""The `regular` listener: what becomes of CONNECT and of absolute-form requests."""

from __future__ import annotations

import asyncio
import binascii
import re
from base64 import b64decode
from typing import TYPE_CHECKING, Final

from mitmproxy.proxy.layer import NextLayer
from mitmproxy.proxy.layers.tcp import TCPLayer

from proxy.errors import Refusal
from proxy.listeners.api import Arrival, ConnectVerdict
from proxy.listeners.mitm.admission import split_authority
from proxy.listeners.mitm.head import Head
from proxy.listeners.mitm.upstream import Upstream, open_upstream

if TYPE_CHECKING:
    from proxy.listeners.mitm.connection import ClientConnection
    from proxy.listeners.mitm.http1 import Http1Stream

DECIDE_SECONDS: Final = 10.0
ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
_ABSOLUTE: Final = re.compile(r"[hH][tT][tT][pP]://([^/?#]+)([^#]*)")

Target = tuple[str, int]


class Proxying:
    """One connection's CONNECT and absolute-form requests. Whatever fails, refuses."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._core = connection.core

    def arrive(self, stream: Http1Stream, head: Head) -> None:
        """Start what a head on this listener asks for."""
        credential = parse_credential(head.proxy_authorization)
        if credential is None:
            credential = self._connection.admission.credential
        if head.method == "CONNECT":
            target = split_authority(head.target, 0)
            if target is None:
                head.refusal = head.refusal or Refusal("invalid_request", "CONNECT needs HOST:PORT.", close=True)
            stream.launch(self._connect(stream, head, target, credential))
            return
        absolute = _ABSOLUTE.fullmatch(head.target)
        target = split_authority(absolute[1], 80) if absolute else None
        if head.refusal is None:
            head.refusal = _misplaced(head, target)
        path = (absolute[2] if absolute else head.target) or "/"
        if not path.startswith("/"):
            path = "/" + path
        stream.launch(self._absolute(stream, head, target, path, credential))

    async def _absolute(
        self, stream: Http1Stream, head: Head, target: Target | None, path: str, credential: str | None
    ) -> None:
        """http:// through the proxy: an ordinary exchange, once the policy knows the host."""
        if target is not None and head.refusal is None:
            verdict = await self._decide(target, credential)
            if verdict.action not in ("capture", "tunnel"):
                head.refusal = verdict.refusal or _REFUSED
        await self._serve(stream, head, target, path, credential)

    async def _connect(self, stream: Http1Stream, head: Head, target: Target | None, credential: str | None) -> None:
        upstream: Upstream | None = None
        verdict = ConnectVerdict("refuse", refusal=head.refusal)
        if target is not None and head.refusal is None:
            verdict = await self._decide(target, credential)
            if verdict.action == "tunnel" and verdict.address is not None:
                upstream, verdict = await self._open(verdict)
        if stream.gone:
            if upstream is not None:
                upstream.close()
        elif target is not None and verdict.action == "capture":
            self._capture(stream, target, credential)
        elif target is not None and upstream is not None:
            self._tunnel(stream, target, upstream)
        else:
            head.refusal = verdict.refusal or _REFUSED
            await self._serve(stream, head, target, "", credential)

    async def _decide(self, target: Target, credential: str | None) -> ConnectVerdict:
        """Ask the policy. An exception of it, or no word in time, refuses."""
        admission, connection = self._connection.admission, self._connection
        asked = self._core.loop.create_task(
            self._core.policy.decide(
                listener=connection.listener.name,
                peer=connection.ip,
                loopback=admission.loopback,
                host=target[0],
                port=target[1],
                credential=credential,
            )
        )
        try:
            await asyncio.wait({asked}, timeout=DECIDE_SECONDS)
        finally:
            asked.cancel()
        error = None if not asked.done() or asked.cancelled() else asked.exception()
        if not asked.done() or asked.cancelled() or error is not None:
            self._core.log.error("connect_policy_failed", host=target[0], port=target[1], exc_info=error)
            return ConnectVerdict("refuse", refusal=_REFUSED)
        verdict = asked.result()
        if verdict.action == "refuse" and verdict.refusal is None:
            return ConnectVerdict("refuse", refusal=_REFUSED)
        return verdict

    async def _open(self, verdict: ConnectVerdict) -> tuple[Upstream | None, ConnectVerdict]:
        address = verdict.address
        if address is None:
            return None, ConnectVerdict("refuse", refusal=_REFUSED)
        self._connection.admitted.add(address)
        try:
            upstream = await open_upstream(self._connection, address)
            if not upstream.closed:
                return upstream, verdict
            raise ConnectionResetError
        except (OSError, TimeoutError):
            refusal = Refusal("upstream_error", "The target of this tunnel cannot be reached.")
            return None, ConnectVerdict("refuse", refusal=refusal)

    def _capture(self, stream: Http1Stream, target: Target, credential: str | None) -> None:
        """From here on the client believes to talk to the target."""
        connection = self._connection
        connection.admission.captured = target
        connection.admission.credential = credential
        connection.send(ESTABLISHED)
        early = stream.detach()
        connection.http = None
        connection.deadline = connection.loop.time() + self._core.limits.head_seconds
        connection.resume_reading()
        connection.become(NextLayer(connection.context), early)

    def _tunnel(self, stream: Http1Stream, target: Target, upstream: Upstream) -> None:
        """Bytes both ways, unread."""
        connection = self._connection
        connection.send(ESTABLISHED)
        early = stream.detach()
        connection.http = None
        connection.context.server = upstream.server
        upstream.begin(target)
        connection.resume_reading()
        connection.become(TCPLayer(connection.context, ignore=True), early)

    async def _serve(
        self, stream: Http1Stream, head: Head, target: Target | None, path: str, credential: str | None
    ) -> None:
        origin = self._connection.admission.origin(target, credential)
        if head.refusal is not None and head.refusal.close:
            stream.close = True
        arrival = Arrival(origin, self._connection.admission.request(stream, path, head), head.refusal)
        await self._core.serve(arrival, stream)


def parse_credential(value: str | None) -> str | None:
    """User part of Basic, else its password, or the Bearer token. What cannot be parsed is a wrong credential."""
    if value is None:
        return None
    scheme, _, rest = value.partition(" ")
    rest = rest.strip()
    if scheme.lower() != "basic":
        return rest if scheme.lower() == "bearer" else value
    try:
        user, _, password = b64decode(rest, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return value
    return user or password


def _misplaced(head: Head, target: Target | None) -> Refusal | None:
    """What may not come to this listener in the clear."""
    if target is None:
        return Refusal("invalid_request", "This is an HTTP proxy: send CONNECT, or a request for http://HOST/PATH.")
    if head.upgrade:
        return Refusal("invalid_request", "Upgrade is not understood here.")
    if split_authority(head.headers.get("host", ""), 80) != target:
        return Refusal("misdirected_request", "The Host header names another host than the request line.")
    return None


_REFUSED: Final = Refusal("target_not_allowed", "This target is not allowed here.")
