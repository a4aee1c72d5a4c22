"""Websocket upgrades of captured traffic, over TLS on both sides."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from proxy.errors import Refusal
from proxy.headers import Headers
from proxy.listeners.api import Arrival, Downstream
from proxy.listeners.mitm import websocket as websocket_module
from proxy.listeners.mitm.websocket import admit
from tests.listeners.mitm.harness import WAIT_SECONDS, Client, running, until
from tests.listeners.mitm.proxied import REGULAR, captured, origin, our_ca

UPGRADE = (
    b"GET /v1/realtime?model=m HTTP/1.1\r\nHost: api.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer theirs\r\n\r\n"
)
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: a\r\nServer: provider\r\nSet-Cookie: a=b\r\n\r\n"
)


class Provider:
    """Answers the upgrade as told, then sends back what it gets, in capitals."""

    def __init__(self, answer: bytes = SWITCHED) -> None:
        self.answer = answer
        self.head = b""
        self.received = b""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.head = await reader.readuntil(b"\r\n\r\n")
        writer.write(self.answer)
        while data := await reader.read(65536):
            self.received += data
            writer.write(data.upper())
        writer.close()


class Forwarding:
    """A driver that hands the connection over."""

    def __init__(self, port: int, *, tls: bool, host: str = "127.0.0.1") -> None:
        self.port, self.tls, self.host = port, tls, host
        self.returned = asyncio.Event()

    async def serve(self, arrival: Arrival, downstream: Downstream) -> None:
        assert arrival.websocket
        headers = Headers({"authorization": "Bearer ours", "Connection": "x", "host": "y"})
        for name in ("sec-websocket-key", "sec-websocket-version"):
            headers[name] = arrival.request.headers[name]
        await downstream.forward(self.host, self.port, tls=self.tls, headers=headers)
        self.returned.set()


@pytest.fixture
def provider_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def authorities(authority: trustme.CA, tmp_path: Path) -> Path:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return tmp_path / "ca.pem"


async def ended(script: Forwarding) -> None:
    await asyncio.wait_for(script.returned.wait(), WAIT_SECONDS)


async def test_upgrade_is_handed_over(confdir: Path, provider_tls: ssl.SSLContext, authorities: Path) -> None:
    """The provider gets our head and nobody else's; after its 101 bytes go both ways, are counted, and end."""
    provider = Provider()
    async with origin(provider.handle, provider_tls) as port:
        script = Forwarding(port, tls=True)
        async with running(confdir, script.serve, listeners=REGULAR, authorities=authorities) as engine:
            client = await captured(engine, our_ca(confdir, "http/1.1"))
            answer = await client.ask(UPGRADE)
            assert answer.status == 101
            assert dict(answer.headers) == {
                "connection": "Upgrade", "upgrade": "websocket", "Sec-WebSocket-Accept": "a",
            }  # fmt: skip
            lines = provider.head.decode().split("\r\n")
            assert lines[0] == "GET /v1/realtime?model=m HTTP/1.1"
            assert sorted(lines[1:-2]) == [
                "authorization: Bearer ours",
                "connection: Upgrade",
                f"host: 127.0.0.1:{port}",
                "sec-websocket-key: k",
                "sec-websocket-version: 13",
                "upgrade: websocket",
            ]
            client.send(b"\x81\x05hello")
            assert await client.reader.readexactly(7) == b"\x81\x05HELLO"
            client.close()
            await ended(script)
            assert engine.engine.traffic.tunnels == 1
            assert engine.engine.traffic.tunnel_bytes_up > 0
            await until(lambda: engine.open_connections == 0)


async def test_plain_upgrade_is_handed_over(confdir: Path) -> None:
    """A local provider without TLS; what the client sends early arrives after the 101."""
    provider = Provider()
    async with origin(provider.handle) as port:
        script = Forwarding(port, tls=False)
        async with running(confdir, script.serve, listeners=REGULAR) as engine:
            client = await captured(engine, our_ca(confdir, "http/1.1"))
            assert (await client.ask(UPGRADE + b"early")).status == 101
            assert await client.reader.readexactly(5) == b"EARLY"
            client.close()
            await ended(script)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nServer: provider\r\n\r\nno", 401),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", 502),
        (b"garbage\r\n\r\n", 502),
        (b"x" * 100_000, 502),
    ],
)
async def test_provider_that_does_not_switch_gets_nothing_more(confdir: Path, answer: bytes, status: int) -> None:
    """The client gets a refusal in our envelope; its further bytes never reach the provider."""
    provider = Provider(answer)
    async with origin(provider.handle) as port:
        script = Forwarding(port, tls=False)
        async with running(confdir, script.serve, listeners=REGULAR) as engine:
            client = await captured(engine, our_ca(confdir, "http/1.1"))
            refused = await client.ask(UPGRADE + b"GET /v1/models HTTP/1.1\r\nHost: api.test\r\n\r\n")
            assert (refused.status, refused.code) == (status, "upstream_error")
            assert "provider" not in str(refused.headers).lower()
            await client.eof()
            await ended(script)
            assert provider.received == b""


async def test_unverified_provider_gets_nothing(confdir: Path, provider_tls: ssl.SSLContext) -> None:
    """Its certificate is checked against the public authorities: no head, no credential."""
    provider = Provider()
    async with origin(provider.handle, provider_tls) as port:
        script = Forwarding(port, tls=True)
        async with running(confdir, script.serve, listeners=REGULAR) as engine:
            client = await captured(engine, our_ca(confdir, "http/1.1"))
            refused = await client.ask(UPGRADE)
            assert (refused.status, refused.code) == (503, "upstream_unavailable")
            await ended(script)
            assert provider.head == b""


async def test_unreachable_provider_is_answered(confdir: Path) -> None:
    """503 in the envelope."""
    async with origin(Provider().handle) as port:
        gone = port
    script = Forwarding(gone, tls=False)
    async with running(confdir, script.serve, listeners=REGULAR) as engine:
        client = await captured(engine, our_ca(confdir, "http/1.1"))
        refused = await client.ask(UPGRADE)
        assert (refused.status, refused.code) == (503, "upstream_unavailable")


async def test_name_of_an_inner_address_is_refused() -> None:
    """A name that resolves to loopback may have been rebound; an address was configured."""
    with pytest.raises(Refusal) as caught:
        await admit("localhost", 443)
    assert caught.value.code == "target_not_allowed"
    assert await admit("127.0.0.1", 443) == ("127.0.0.1", 443)


async def test_silent_provider_is_given_up(confdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer to the upgrade in time."""
    monkeypatch.setattr(websocket_module, "UPGRADE_SECONDS", 0.2)
    async with origin(Provider(b"").handle) as port:
        script = Forwarding(port, tls=False)
        async with running(confdir, script.serve, listeners=REGULAR) as engine:
            client = await captured(engine, our_ca(confdir, "http/1.1"))
            client.send(UPGRADE)
            await ended(script)
            await until(lambda: engine.open_connections == 0)


async def test_drain_cuts_a_running_websocket(confdir: Path) -> None:
    """It has a driver: close() waits for it, then ends it and both connections."""
    provider = Provider()
    async with origin(provider.handle) as port:
        script = Forwarding(port, tls=False)
        async with running(confdir, script.serve, listeners=REGULAR) as engine:
            client: Client = await captured(engine, our_ca(confdir, "http/1.1"))
            assert (await client.ask(UPGRADE)).status == 101
            await engine.engine.close(0.1)
            assert engine.engine.active == 0
            assert await client.eof() == b""
