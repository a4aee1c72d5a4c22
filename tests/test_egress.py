"""The guarded client of the control plane."""

from __future__ import annotations

import asyncio
import datetime
import gc
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpcore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from proxy import egress
from proxy.egress import Egress, EgressFailure
from tests.peers.certificates import server_context, write_ca_file

PUBLIC = "93.184.216.34"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
type Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Stage:
    """A fake network: names lead where a test says, and every dialled address leads to one local server."""

    def __init__(self) -> None:
        self.names: dict[str, list[list[str]]] = {}
        """Answers of successive look-ups; the last one stays."""
        self.lookups: list[str] = []
        self.dialled: list[tuple[str, int]] = []
        self.dead: set[str] = set()
        self.heads: list[bytes] = []
        self.port = 0

    def getaddrinfo(self, host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        self.lookups.append(host)
        answers = self.names.get(host)
        if answers is None:
            raise socket.gaierror(socket.EAI_NONAME, "unknown name")
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, port)) for address in found]

    @asynccontextmanager
    async def serving(self, serve: Serve, context: ssl.SSLContext | None = None) -> Any:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await serve(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                return
            finally:
                writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            server.close_clients()
            await server.wait_closed()
            await asyncio.sleep(0)

    def answering(self, answer: bytes) -> Serve:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(answer)
                await writer.drain()

        return serve

    def network(self) -> httpcore.AsyncNetworkBackend:
        return Rerouted(self)


class Rerouted(httpcore.AnyIOBackend):
    """Notes which address is dialled and connects to the local server."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:  # fmt: skip
        self.stage.dialled.append((host, port))
        if host in self.stage.dead:
            raise httpcore.ConnectError
        return await super().connect_tcp("127.0.0.1", self.stage.port, timeout, local_address, socket_options)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = Stage()
    made.names["mint.example"] = [[PUBLIC]]
    monkeypatch.setattr(socket, "getaddrinfo", made.getaddrinfo)
    return made


@asynccontextmanager
async def public(stage: Stage, folder: Path, url: str = "https://mint.example/base", **more: Any) -> Any:
    """An Egress as it is for the world outside, which trusts the tests' own authority."""
    client = Egress(url, ca_file=write_ca_file(folder), timeout_seconds=2, network=stage.network(), **more)
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def private(stage: Stage, path: str = "", **more: Any) -> Any:
    more.setdefault("timeout_seconds", 2)
    stage.names["127.0.0.1"] = [["127.0.0.1"]]
    client = Egress(f"http://127.0.0.1:{stage.port}{path}", private=True, **more)
    try:
        yield client
    finally:
        await client.aclose()


async def test_the_judged_address_is_the_one_dialled_and_the_name_stays(stage: Stage, tmp_path: Path) -> None:
    """One look-up for a connection; SNI, certificate and Host keep the name."""
    seen = []
    context = server_context("mint.example")
    context.sni_callback = lambda _, name, __: seen.append(name)
    stage.names["mint.example"] = [[PUBLIC], ["127.0.0.1"]]
    async with stage.serving(stage.answering(OK), context), public(stage, tmp_path) as client:
        answer = await client.request("GET", "/v1/info")
    assert (answer.status, answer.body, answer.json()) == (200, b"{}", {})
    assert stage.dialled == [(PUBLIC, 443)]
    assert stage.lookups == ["mint.example"]
    assert seen == ["mint.example"]
    assert stage.heads[0].startswith(b"GET /base/v1/info HTTP/1.1\r\n")
    assert b"\r\nhost: mint.example\r\n" in stage.heads[0].lower()


async def test_a_name_that_changes_to_an_inner_address_is_not_dialled_again(stage: Stage, tmp_path: Path) -> None:
    """Rebinding: every new connection is judged anew."""
    stage.names["mint.example"] = [[PUBLIC], ["127.0.0.1"]]
    closing = OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    async with stage.serving(stage.answering(closing), server_context("mint.example")), public(stage, tmp_path) as it:
        await it.request("GET", "/")
        with pytest.raises(EgressFailure, match="not a public address") as caught:
            await it.request("GET", "/")
    assert not caught.value.sent
    assert stage.dialled == [(PUBLIC, 443)]


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "::1",
     "fe80::1%1", "fd00::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a00:1", "2002:7f00:1::"],
)  # fmt: skip
async def test_inner_addresses_are_never_dialled(stage: Stage, tmp_path: Path, address: str) -> None:
    """However they are written, and though only one of a name's addresses is inner."""
    stage.names["mint.example"] = [[PUBLIC, address]]
    async with public(stage, tmp_path) as client:
        with pytest.raises(EgressFailure, match=r"mint\.example: it is not a public address") as caught:
            await client.request("POST", "/v1/swap", json={})
    assert not caught.value.sent
    assert stage.dialled == []


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]", "2130706433"])
async def test_inner_addresses_in_the_url_itself_are_never_dialled(tmp_path: Path, host: str) -> None:
    """Literals are judged like names; whatever getaddrinfo makes of a number, too."""
    dead = Stage()
    async with public(dead, tmp_path, f"https://{host}") as client:
        with pytest.raises(EgressFailure) as caught:
            await client.request("GET", "/")
    assert not caught.value.sent
    assert dead.dialled == []


async def test_the_next_address_is_tried_where_one_is_dead(stage: Stage, tmp_path: Path) -> None:
    """In their order."""
    stage.names["mint.example"] = [["203.0.114.1", PUBLIC]]
    stage.dead.add("203.0.114.1")
    async with stage.serving(stage.answering(OK), server_context("mint.example")), public(stage, tmp_path) as client:
        assert (await client.request("GET", "/")).status == 200
    assert stage.dialled == [("203.0.114.1", 443), (PUBLIC, 443)]


async def test_a_certificate_for_another_name_is_refused_before_anything_is_sent(stage: Stage, tmp_path: Path) -> None:
    """And says why."""
    async with stage.serving(stage.answering(OK), server_context("other.example")), public(stage, tmp_path) as client:
        with pytest.raises(EgressFailure, match="certificate is not trusted") as caught:
            await client.request("POST", "/", json={})
    assert not caught.value.sent
    assert stage.heads == []


@pytest.mark.parametrize("url", ["http://mint.example", "ftp://mint.example", "mint.example", "https://", "https://a/#b",
                                 "https://[::1"])  # fmt: skip
def test_only_https_leads_outside(url: str) -> None:
    """Refused when it is made, in words that repeat nothing of the URL."""
    with pytest.raises(ValueError) as caught:
        Egress(url, timeout_seconds=1)
    assert "mint" not in str(caught.value)


async def test_a_leaf_without_key_identifiers_is_trusted_by_the_operators_file(stage: Stage, tmp_path: Path) -> None:
    """As Core Lightning makes its own; the authority's signature counts all the same."""
    context, ca_file = bare_chain(tmp_path)
    async with stage.serving(stage.answering(OK), context):
        client = Egress("https://mint.example", ca_file=ca_file, timeout_seconds=2, network=stage.network())
        assert (await client.request("GET", "/")).status == 200
        await client.aclose()


def bare_chain(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """An authority and a leaf, neither with key identifiers."""
    now = datetime.datetime.now(datetime.UTC)
    authority, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer, subject = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in ("root", "node"))

    def certificate(name: x509.Name, key: ec.EllipticCurvePrivateKey, *extensions: x509.ExtensionType) -> bytes:
        builder = x509.CertificateBuilder(issuer, name, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(9))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    (folder / "ca.pem").write_bytes(certificate(issuer, authority, x509.BasicConstraints(ca=True, path_length=None)))
    names = x509.SubjectAlternativeName([x509.DNSName("mint.example")])
    private = leaf.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.pem").write_bytes(certificate(subject, leaf, names) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context, folder / "ca.pem"


async def test_a_name_that_nobody_knows_is_a_failure(stage: Stage, tmp_path: Path) -> None:
    """Before anything was sent."""
    async with public(stage, tmp_path, "https://nowhere.example") as client:
        with pytest.raises(EgressFailure, match=r"nowhere\.example: gaierror") as caught:
            await client.request("GET", "/")
    assert not caught.value.sent


@pytest.mark.parametrize("status", [301, 302, 303, 304, 307, 308])
async def test_redirects_are_failures(stage: Stage, status: int) -> None:
    """Nobody follows them, wherever they lead."""
    answer = b"HTTP/1.1 %d x\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n" % status
    async with stage.serving(stage.answering(answer)), private(stage) as client:
        with pytest.raises(EgressFailure, match=f"redirect .status {status}") as caught:
            await client.request("GET", "/")
    assert caught.value.sent
    assert len(stage.heads) == 1


async def test_error_statuses_are_answers(stage: Stage) -> None:
    """What they mean is the caller's to say."""
    answer = b"HTTP/1.1 503 x\r\ncontent-length: 4\r\nretry-after: 3\r\n\r\nbusy"
    async with stage.serving(stage.answering(answer)), private(stage) as client:
        got = await client.request("GET", "/")
        assert (got.status, got.headers["Retry-After"], got.body) == (503, "3", b"busy")
        with pytest.raises(EgressFailure, match="is no JSON"):
            got.json()


@pytest.mark.parametrize("framing", [b"content-length: 3000", b"transfer-encoding: chunked"])
async def test_large_answers_are_cut_off(stage: Stage, framing: bytes) -> None:
    """With a length, and without one."""
    body = b"x" * 3000 if b"length" in framing else b"bb8\r\n" + b"x" * 3000 + b"\r\n0\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n" + body
    async with stage.serving(stage.answering(answer)), private(stage, answer_bytes_max=2999) as client:
        with pytest.raises(EgressFailure, match="larger than 2999 bytes") as caught:
            await client.request("GET", "/")
    assert caught.value.sent


async def test_compressed_answers_are_refused(stage: Stage) -> None:
    """A few bytes could become gigabytes."""
    answer = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nxx"
    async with stage.serving(stage.answering(answer)), private(stage) as client:
        with pytest.raises(EgressFailure, match="compressed"):
            await client.request("GET", "/")
    assert b"accept-encoding: identity" in stage.heads[0].lower()


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"])
async def test_a_trickle_does_not_outlive_the_time_limit(stage: Stage, start: bytes) -> None:
    """A byte now and then, in the head or in the body, is too slow all the same."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(start)
        for byte in (b"HTTP/1.1 200 OK\r\nx: " if not start else b"") + b"y" * 900:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.01)

    async with stage.serving(serve), private(stage, timeout_seconds=0.2) as client:
        with pytest.raises(EgressFailure, match=r"no whole answer within 0.2 s") as caught:
            await client.request("POST", "/", json={})
    assert caught.value.sent


async def test_a_slow_lookup_counts_and_nothing_was_sent(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """One limit covers all of it."""

    async def slow(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(egress.addresses, "resolve", slow)
    async with private(stage, timeout_seconds=0.05) as client:
        with pytest.raises(EgressFailure, match="no whole answer") as caught:
            await client.request("POST", "/", json={})
    assert not caught.value.sent


async def test_a_refused_connection_has_sent_nothing(stage: Stage) -> None:
    """Nobody listens there."""
    async with stage.serving(stage.answering(OK)):
        pass
    async with private(stage) as client:
        with pytest.raises(EgressFailure) as caught:
            await client.request("POST", "/", json={})
    assert not caught.value.sent


@pytest.mark.parametrize("read", [0, 1])
async def test_a_connection_cut_after_it_was_made_may_have_sent(stage: Stage, read: int) -> None:
    """With or without a byte read on the other side: from here the two look the same."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(read)
        writer.transport.abort()

    async with stage.serving(serve), private(stage) as client:
        with pytest.raises(EgressFailure) as caught:
            await client.request("POST", "/", json={})
    assert caught.value.sent


async def test_tls_that_breaks_has_sent_nothing(stage: Stage, tmp_path: Path) -> None:
    """The other side closes in the handshake."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)

    async with stage.serving(serve), public(stage, tmp_path) as client:
        with pytest.raises(EgressFailure) as caught:
            await client.request("POST", "/", json={})
    assert not caught.value.sent


async def test_answers_that_are_not_http_are_failures(stage: Stage) -> None:
    """And say nothing of what came."""
    async with stage.serving(stage.answering(b"SSH-2.0-secret\r\n\r\n")), private(stage) as client:
        with pytest.raises(EgressFailure) as caught:
            await client.request("GET", "/")
    assert caught.value.sent
    assert "secret" not in str(caught.value)


async def test_no_cookie_and_no_proxy_of_the_environment(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request stands alone, on a connection that is kept."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    answer = OK.replace(b"\r\n\r\n", b"\r\nset-cookie: a=b\r\n\r\n")
    async with stage.serving(stage.answering(answer)), private(stage) as client:
        await client.request("GET", "/")
        await client.request("GET", "/")
    assert len(stage.heads) == 2
    assert b"cookie" not in stage.heads[1].lower()
    assert stage.lookups == ["127.0.0.1"]


async def test_paths_queries_headers_and_credentials_of_the_url(stage: Stage) -> None:
    """A base URL may hold a path, a query with a key, and user and password; none of them shows in a failure."""
    stage.names["127.0.0.1"] = [["127.0.0.1"]]
    async with stage.serving(stage.answering(OK)):
        url = f"http://us%3Aer:pa@127.0.0.1:{stage.port}/v3/?apikey=KEY"
        client = Egress(url, private=True, timeout_seconds=2, headers={"X-One": "1"})
        await client.request("POST", "/a", json={"b": 1}, params={"c": "d&e"}, headers={"x-one": "2"})
        await client.request("POST", "", content=b"raw")
        await client.aclose()
    first = stage.heads[0].lower()
    assert stage.heads[0].startswith(b"POST /v3/a?apikey=KEY&c=d%26e HTTP/1.1\r\n")
    assert b"authorization: basic dxm6zxi6cge=\r\n" in first
    assert b"x-one: 2\r\n" in first and b"x-one: 1" not in first
    assert b"content-type: application/json\r\n" in first and b"content-length: 7\r\n" in first
    failed = Egress(f"http://user:pa@127.0.0.1:{stage.port}/?apikey=KEY", private=True, timeout_seconds=2)
    with pytest.raises(EgressFailure) as caught:
        await failed.request("GET", "/path")
    assert not any(word in str(caught.value) for word in ("KEY", "pa@", "path"))
    await failed.aclose()


async def test_a_cancelled_request_leaves_the_client_usable(stage: Stage) -> None:
    """Its connection is not given to the next one."""
    begun = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/hang" in head:
            begun.set()
            await reader.read()
        else:
            writer.write(OK)
            await writer.drain()

    async with stage.serving(serve), private(stage) as client:
        hanging = asyncio.ensure_future(client.request("GET", "/hang"))
        await begun.wait()
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        assert (await client.request("GET", "/")).status == 200
    gc.collect()
