"""The HTTP proxy: CONNECT captured, tunnelled or refused, and absolute-form requests."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from proxy.errors import Refusal
from proxy.headers import Headers
from proxy.listeners.api import Arrival, ConnectVerdict, Downstream
from proxy.listeners.mitm import upstream as upstream_module
from proxy.listeners.mitm.admission import split_authority
from proxy.listeners.mitm.proxying import parse_credential
from proxy.listeners.mitm.tls import Certificates
from proxy.listeners.mitm.upstream import NotAdmitted, open_upstream
from tests.listeners.mitm.h2client import H2Client, client_context
from tests.listeners.mitm.harness import WAIT_SECONDS, Client, Policy, Running, running, until
from tests.listeners.mitm.proxied import CONNECT, REGULAR, captured, origin, our_ca, shout


def basic(text: str) -> bytes:
    return b"Proxy-Authorization: Basic " + base64.b64encode(text.encode()) + b"\r\n"


# Captured


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
async def test_captured_request_is_an_exchange(confdir: Path, protocol: str) -> None:
    """The client believes to talk to the host; serve knows which, and whose credential opened the way."""
    policy = Policy()
    async with running(confdir, listeners=REGULAR, policy=policy) as engine:
        client = await engine.connect()
        answer = await client.ask(CONNECT + basic("lld_key:") + b"\r\n", head_only=True)
        assert answer.status == 200
        await client.writer.start_tls(our_ca(confdir, protocol), server_hostname="api.test")
        if protocol == "h2":
            speaker = H2Client(client.reader, client.writer)
            stream = speaker.h2.get_next_available_stream_id()
            head = [(":method", "GET"), (":scheme", "https"), (":authority", "api.test"), (":path", "/v1/x")]
            speaker.h2.send_headers(stream, head, end_stream=True)
            speaker.flush()
            seen = await speaker.finished(stream)
        else:
            seen = (await client.ask(b"GET /v1/x HTTP/1.1\r\nHost: api.test\r\n\r\n")).json
        assert seen["captured"] == ["api.test", 443]
        assert (seen["kind"], seen["credential"]) == ("regular", "lld_key")
        assert (seen["tls"], seen["scheme"], seen["http2"]) == (True, "https", protocol == "h2")
        assert (seen["path"], seen["authority"]) == ("/v1/x", "api.test")
    assert policy.asked == [
        {
            "listener": "main",
            "peer": "127.0.0.1",
            "loopback": True,
            "host": "api.test",
            "port": 443,
            "credential": "lld_key",
        }
    ]


async def test_official_client_through_the_proxy(confdir: Path) -> None:
    """httpx with a proxy address and credentials, several requests over one tunnel."""
    async with running(confdir, listeners=REGULAR) as engine:
        host, port = engine.address()
        proxy = httpx.Proxy(f"http://lld_key:x@{host}:{port}")
        async with httpx.AsyncClient(proxy=proxy, verify=our_ca(confdir)) as client:
            for turn in range(3):
                seen = (await client.post(f"https://api.test/{turn}", content=b"x" * turn)).json()
                assert seen["captured"] == ["api.test", 443]
                assert seen["credential"] == "lld_key"
                assert seen["body"] == "x" * turn
                assert not [name for name, _ in seen["headers"] if name.lower() == "proxy-authorization"]
    assert len(engine.policy.asked) == 1


@pytest.mark.parametrize(
    "authority",
    ["other.test", "api.test:8443", "api.test.evil.test", "", "api.test@other.test", "api.test, other.test"],
)
async def test_another_authority_is_misdirected(confdir: Path, authority: str) -> None:
    """421: a connection opened to one host cannot carry requests to another."""
    async with running(confdir, listeners=REGULAR) as engine:
        client = await captured(engine, our_ca(confdir, "http/1.1"))
        answer = await client.ask(f"GET / HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        assert (answer.status, answer.code) == (421, "misdirected_request")


@pytest.mark.parametrize("authority", ["api.test", "API.test", "api.test:443", "api.test."])
async def test_spellings_of_the_same_authority_are_served(confdir: Path, authority: str) -> None:
    """Case, default port and the root's dot make no other host."""
    async with running(confdir, listeners=REGULAR) as engine:
        client = await captured(engine, our_ca(confdir, "http/1.1"))
        assert (await client.ask(f"GET / HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())).status == 200


@pytest.mark.parametrize("name", ["other.test", None])
async def test_another_name_in_the_client_hello_is_refused(confdir: Path, name: str | None) -> None:
    """No certificate is made for it."""
    async with running(confdir, listeners=REGULAR) as engine:
        client = await engine.connect()
        await client.ask(CONNECT + b"\r\n", head_only=True)
        context = our_ca(confdir)
        context.check_hostname = name is not None
        with pytest.raises((ssl.SSLError, OSError)):
            await client.writer.start_tls(context, server_hostname=name)
        assert engine.engine.active == 0


@pytest.mark.parametrize("method", ["may_speak_for", "as_captured"])
async def test_failing_hook_neither_decrypts_nor_tunnels(
    confdir: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """mitmproxy alone would go on after an exception in a hook."""
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))

    def fail(*_arguments: object) -> None:
        raise LookupError("hook")

    monkeypatch.setattr(Certificates, method, fail)
    async with running(confdir, listeners=REGULAR) as engine:
        client = await engine.connect()
        await client.ask(CONNECT + b"\r\n", head_only=True)
        with pytest.raises((ssl.SSLError, OSError)):
            await client.writer.start_tls(our_ca(confdir), server_hostname="api.test")
        await until(lambda: engine.open_connections == 0)
    assert any(isinstance(context.get("exception"), LookupError) for context in errors)


async def test_captured_address_needs_no_name(confdir: Path) -> None:
    """A ClientHello cannot name an address; the leaf does."""
    async with running(confdir, listeners=REGULAR) as engine:
        client = await captured(engine, our_ca(confdir, "http/1.1"), "127.0.0.9")
        assert (await client.ask(b"GET / HTTP/1.1\r\nHost: 127.0.0.9\r\n\r\n")).json["captured"] == ["127.0.0.9", 443]


async def test_plain_http_in_a_captured_tunnel_is_captured(confdir: Path) -> None:
    """Only because the policy captured it; the port is the CONNECT's."""
    async with running(confdir, listeners=REGULAR) as engine:
        client = await engine.connect()
        await client.ask(b"CONNECT ollama.test:80 HTTP/1.1\r\nHost: ollama.test\r\n\r\n", head_only=True)
        seen = (await client.ask(b"GET /x HTTP/1.1\r\nHost: ollama.test\r\n\r\n")).json
        assert (seen["captured"], seen["scheme"], seen["tls"]) == (["ollama.test", 80], "http", False)


async def test_garbage_in_a_captured_tunnel_is_refused(confdir: Path) -> None:
    """What is neither TLS nor HTTP goes nowhere."""
    async with running(confdir, listeners=REGULAR) as engine:
        client = await engine.connect()
        await client.ask(CONNECT + b"\r\n", head_only=True)
        assert (await client.ask(b"SSH-2.0-x\r\n\r\n")).status == 400


async def test_silence_in_a_captured_tunnel_is_closed(confdir: Path) -> None:
    """head_seconds, before and within the handshake."""
    async with running(confdir, listeners=REGULAR, head_seconds=0.3) as engine:
        quiet, started = await engine.connect(), await engine.connect()
        for client in (quiet, started):
            await client.ask(CONNECT + b"\r\n", head_only=True)
        started.send(b"\x16\x03\x01\x02\x00\x01")
        await quiet.eof()
        await started.eof()


async def test_connect_inside_a_captured_tunnel_is_refused(confdir: Path) -> None:
    """400; a capture is not a proxy."""
    async with running(confdir, listeners=REGULAR) as engine:
        client = await captured(engine, our_ca(confdir, "http/1.1"))
        answer = await client.ask(b"CONNECT other.test:443 HTTP/1.1\r\nHost: api.test\r\n\r\n")
        assert (answer.status, answer.code) == (400, "invalid_request")


async def test_websocket_upgrade_on_a_captured_host_is_marked(confdir: Path) -> None:
    """The gateway decides what becomes of it."""
    async with running(confdir, listeners=REGULAR) as engine:
        client = await captured(engine, our_ca(confdir, "http/1.1"))
        upgrade = b"GET /v1/realtime HTTP/1.1\r\nHost: api.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        assert (await client.ask(upgrade)).json["websocket"] is True
        other = upgrade.replace(b"websocket", b"h2c")
        assert (await client.ask(other)).status == 400


# Refused


def refuse_407(host: str, port: int) -> ConnectVerdict:
    headers = {"proxy-authenticate": 'Basic realm="tollway"'}
    return ConnectVerdict("refuse", refusal=Refusal("proxy_authentication_required", "Give a key.", headers=headers))


@pytest.mark.parametrize(
    "request_bytes", [CONNECT + b"\r\n", b"GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n"]
)
async def test_refused_target_is_answered_by_serve(confdir: Path, request_bytes: bytes) -> None:
    """407 with its challenge; the client may try again on the same connection."""
    async with running(confdir, listeners=REGULAR, policy=Policy(refuse_407)) as engine:
        client = await engine.connect()
        for _ in range(2):
            answer = await client.ask(request_bytes)
            assert (answer.status, answer.code) == (407, "proxy_authentication_required")
            assert answer.headers["proxy-authenticate"] == 'Basic realm="tollway"'


class Broken(Policy):
    """A policy that fails."""

    def __init__(self, how: Callable[[], Any]) -> None:
        super().__init__()
        self.how = how

    async def decide(self, **question: Any) -> ConnectVerdict:
        verdict: ConnectVerdict = self.how()
        return verdict


def raises() -> None:
    raise LookupError("policy")


def cancels() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    "how",
    [
        raises,
        cancels,
        lambda: ConnectVerdict("refuse"),
        lambda: ConnectVerdict("tunnel"),
        lambda: ConnectVerdict("nonsense"),
    ],
)
async def test_failing_policy_refuses(confdir: Path, how: Callable[[], Any]) -> None:
    """Neither decrypted nor tunnelled."""
    async with running(confdir, listeners=REGULAR, policy=Broken(how)) as engine:
        client = await engine.connect()
        answer = await client.ask(CONNECT + b"\r\n")
        assert (answer.status, answer.code) == (403, "target_not_allowed")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET https://api.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n", 400),
        (b"GET ftp://api.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n", 400),
        (b"GET http://user@api.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n", 400),
        (b"GET http:/// HTTP/1.1\r\nHost: api.test\r\n\r\n", 400),
        (b"GET http://api.test:x/ HTTP/1.1\r\nHost: api.test\r\n\r\n", 400),
        (b"GET http://api.test/#f HTTP/1.1\r\nHost: api.test\r\n\r\n", 400),
        (b"GET http://api.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n", 421),
        (b"CONNECT api.test HTTP/1.1\r\nHost: api.test\r\n\r\n", 400),
        (b"CONNECT api.test:0 HTTP/1.1\r\nHost: api.test\r\n\r\n", 400),
        (b"CONNECT api.test:99999 HTTP/1.1\r\nHost: api.test\r\n\r\n", 400),
        (b"CONNECT /path HTTP/1.1\r\nHost: api.test\r\n\r\n", 400),
        (b"GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", 400),
    ],
)
async def test_what_a_proxy_cannot_serve_is_refused_unasked(confdir: Path, request_bytes: bytes, status: int) -> None:
    """The policy is not even asked."""
    policy = Policy()
    async with running(confdir, listeners=REGULAR, policy=policy) as engine:
        client = await engine.connect()
        assert (await client.ask(request_bytes)).status == status
    assert policy.asked == []


# Absolute form


async def test_absolute_form_is_an_exchange(confdir: Path) -> None:
    """http:// through the proxy: the path is the gateway's, the host is in the origin."""
    policy = Policy()
    async with running(confdir, listeners=REGULAR, policy=policy) as engine:
        client = await engine.connect()
        request = (
            b"POST http://Ollama.test:11434/api/x?q=1 HTTP/1.1\r\nHost: ollama.test:11434\r\nContent-Length: 2\r\n"
        )
        seen = (await client.ask(request + basic(":lld_pass") + b"\r\nok")).json
        assert (seen["captured"], seen["path"], seen["query"]) == (["ollama.test", 11434], "/api/x", "q=1")
        assert (seen["body"], seen["credential"]) == ("ok", "lld_pass")
        seen = (await client.ask(b"GET http://other.test HTTP/1.1\r\nHost: other.test\r\n\r\n")).json
        assert (seen["captured"], seen["path"], seen["credential"]) == (["other.test", 80], "/", None)
    assert [(asked["host"], asked["port"], asked["credential"]) for asked in policy.asked] == [
        ("ollama.test", 11434, "lld_pass"),
        ("other.test", 80, None),
    ]


@pytest.mark.parametrize(
    ("value", "credential"),
    [
        (None, None),
        ("Basic " + base64.b64encode(b"lld_a:").decode(), "lld_a"),
        ("basic " + base64.b64encode(b"lld_a:ignored").decode(), "lld_a"),
        ("Basic " + base64.b64encode(b":lld_b").decode(), "lld_b"),
        ("Bearer lld_c", "lld_c"),
        ("Basic !!!", "Basic !!!"),
        ("Digest x", "Digest x"),
    ],
)
def test_proxy_credential_is_found(value: str | None, credential: str | None) -> None:
    """User part, else password, else the bearer token; what cannot be parsed is wrong, not absent."""
    assert parse_credential(value) == credential


@pytest.mark.parametrize(
    ("authority", "target"),
    [
        ("a.test", ("a.test", 80)),
        ("A.Test:81", ("a.test", 81)),
        ("[::1]:81", ("::1", 81)),
        ("[::1]", ("::1", 80)),
        ("::1", None),
        ("a.test:", None),
        ("a.test:x", None),
        ("a.test:٣", None),
        ("", None),
        ("u@a.test", None),
    ],
)
def test_authorities_are_split_strictly(authority: str, target: tuple[str, int] | None) -> None:
    """Lower case, no brackets, a decimal port."""
    assert split_authority(authority, 80) == target


# Tunnels


def tunnel_to(port: int) -> Policy:
    return Policy(lambda host, _port: ConnectVerdict("tunnel", address=("127.0.0.1", port)))


async def tunnelled(engine: Running) -> Client:
    client = await engine.connect()
    assert (await client.ask(CONNECT + b"\r\n", head_only=True)).status == 200
    return client


async def test_tunnel_carries_bytes_and_half_closes(confdir: Path) -> None:
    """Both ways, unread; a FIN passes and the other way stays open; counted, and nothing is kept."""
    async with origin(shout) as port, running(confdir, listeners=REGULAR, policy=tunnel_to(port)) as engine:
        client = await tunnelled(engine)
        client.send(b"hello \x00\xff")
        assert await client.reader.readexactly(8) == b"HELLO \x00\xff"
        client.send(b"bye")
        client.writer.write_eof()
        assert await client.eof() == b"BYE"
        client.close()
        await until(lambda: engine.open_connections == 0)
        traffic = engine.engine.traffic
        assert (traffic.tunnels, traffic.tunnel_bytes_up, traffic.tunnel_bytes_down) == (1, 11, 11)
        assert [fields for event, fields in engine.log.lines if event == "tunnel_ended"] == [
            {"host": "api.test", "port": 443, "bytes_up": 11, "bytes_down": 11, "listener": "main", "peer": "127.0.0.1"}
        ]
        assert engine.engine.active == 0


async def test_tunnelled_client_sees_the_origins_own_certificate(confdir: Path, authority: trustme.CA) -> None:
    """Not one of ours: nothing is decrypted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("api.test").configure_cert(context)
    async with origin(shout, context) as port, running(confdir, listeners=REGULAR, policy=tunnel_to(port)) as engine:
        client = await tunnelled(engine)
        await client.writer.start_tls(client_context(authority), server_hostname="api.test")
        issuer = client.writer.get_extra_info("peercert")["issuer"]
        assert "trustme" in str(issuer)
        client.send(b"hi")
        assert await client.reader.readexactly(2) == b"HI"


async def test_server_that_speaks_first_is_heard(confdir: Path) -> None:
    """A greeting that arrives with the connection is not lost."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        await reader.read()
        writer.close()

    async with origin(greet) as port, running(confdir, listeners=REGULAR, policy=tunnel_to(port)) as engine:
        client = await tunnelled(engine)
        assert await client.reader.readline() == b"220 hello\r\n"


async def test_client_that_speaks_early_is_heard(confdir: Path) -> None:
    """Bytes sent behind the CONNECT, before its answer."""
    async with origin(shout) as port, running(confdir, listeners=REGULAR, policy=tunnel_to(port)) as engine:
        client = await engine.connect()
        assert (await client.ask(CONNECT + b"\r\nearly", head_only=True)).status == 200
        assert await client.reader.readexactly(5) == b"EARLY"


@pytest.mark.parametrize("side", ["client", "server"])
async def test_slow_side_of_a_tunnel_holds_the_other_back(confdir: Path, side: str) -> None:
    """Bytes wait in the sockets, not in our memory."""
    taken = asyncio.Event()

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if side == "server":
            await taken.wait()
            while await reader.read(1 << 20):
                continue
        else:
            for _ in range(1024):
                writer.write(b"x" * 65536)
                await writer.drain()
        writer.close()

    async with origin(pour) as port, running(confdir, listeners=REGULAR, policy=tunnel_to(port)) as engine:
        client = await tunnelled(engine)
        if side == "server":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    for _ in range(1024):
                        client.send(b"x" * 65536)
                        await client.writer.drain()
        else:
            await asyncio.sleep(0.5)
        connection = engine.connections[0]
        assert connection.upstream is not None
        pending = connection.transport.get_write_buffer_size() + connection.upstream.transport.get_write_buffer_size()
        assert pending < 1 << 20
        taken.set()


async def test_lost_server_ends_the_tunnel(confdir: Path) -> None:
    """And a lost client does."""
    closed = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readexactly(1) == b"c":
            writer.transport.abort()
        else:
            await reader.read()
            closed.set()
            writer.close()

    async with origin(hang) as port, running(confdir, listeners=REGULAR, policy=tunnel_to(port)) as engine:
        cut, leaves = await tunnelled(engine), await tunnelled(engine)
        cut.send(b"c")
        assert await cut.eof() == b""
        leaves.send(b"x")
        leaves.reset()
        await asyncio.wait_for(closed.wait(), WAIT_SECONDS)
        await until(lambda: engine.open_connections == 1)


async def test_idle_tunnel_is_closed(confdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After TUNNEL_IDLE_SECONDS without a byte in either direction."""
    monkeypatch.setattr(upstream_module, "TUNNEL_IDLE_SECONDS", 0.3)
    async with (
        origin(shout) as port,
        running(confdir, listeners=REGULAR, policy=tunnel_to(port), head_seconds=0.2) as engine,
    ):
        client = await tunnelled(engine)
        for _ in range(5):
            client.send(b"x")
            await client.reader.readexactly(1)
            await asyncio.sleep(0.1)
        assert await client.eof() == b""


async def test_unreachable_target_is_answered(confdir: Path) -> None:
    """502, before any 200."""
    async with origin(shout) as port:
        gone = port
    async with running(confdir, listeners=REGULAR, policy=tunnel_to(gone)) as engine:
        client = await engine.connect()
        answer = await client.ask(CONNECT + b"\r\n")
        assert (answer.status, answer.code) == (502, "upstream_error")


async def test_only_admitted_addresses_are_opened(confdir: Path) -> None:
    """Admitted for this very connection, by nobody else."""
    async with origin(shout) as port, running(confdir, listeners=REGULAR, policy=tunnel_to(port)) as engine:
        await tunnelled(engine)
        other = await engine.connect()
        await until(lambda: engine.open_connections == 2)
        admitted = [connection for connection in engine.connections if connection.admitted]
        strangers = [connection for connection in engine.connections if not connection.admitted]
        assert [connection.admitted for connection in admitted] == [{("127.0.0.1", port)}]
        with pytest.raises(NotAdmitted):
            await open_upstream(strangers[0], ("127.0.0.1", port))
        other.close()


async def test_client_that_leaves_while_the_policy_thinks(confdir: Path) -> None:
    """Nothing is opened for it."""
    asked, go = asyncio.Event(), asyncio.Event()
    opened: list[bool] = []

    class Slow(Policy):
        async def decide(self, **question: Any) -> ConnectVerdict:
            asked.set()
            await go.wait()
            return ConnectVerdict("tunnel", address=("127.0.0.1", port))

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(True)
        writer.close()

    async with origin(note) as port, running(confdir, listeners=REGULAR, policy=Slow()) as engine:
        client = await engine.connect()
        client.send(CONNECT + b"\r\n")
        await asyncio.wait_for(asked.wait(), WAIT_SECONDS)
        client.reset()
        await until(lambda: engine.open_connections == 0)
        go.set()
        await until(lambda: engine.engine.active == 0)
        assert not opened


async def test_tunnels_do_not_hold_a_drain_up(confdir: Path) -> None:
    """They have no driver: close() ends them once the exchanges are done."""
    async with origin(shout) as port, running(confdir, listeners=REGULAR, policy=tunnel_to(port)) as engine:
        client = await tunnelled(engine)
        await asyncio.wait_for(engine.engine.close(60), WAIT_SECONDS)
        assert await client.eof() == b""


async def test_leaf_is_made_once_a_host(confdir: Path) -> None:
    """The second connection gets the same certificate, signed by our CA."""

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        await downstream.respond(200, Headers(), b"", close=False)

    async with running(confdir, serve, listeners=REGULAR) as engine:
        seen = []
        for _ in range(2):
            client = await captured(engine, our_ca(confdir, "http/1.1"))
            seen.append(client.writer.get_extra_info("ssl_object").getpeercert(True))
        assert seen[0] == seen[1]
