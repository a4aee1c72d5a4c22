"""What the HTTP proxy does with hosts that are nobody's provider: tunnelled unread, refused, or behind 407."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any

import httpx
import pytest

from tests.listeners.mitm.harness import Answer, Client
from tests.listeners.mitm.proxied import origin, shout
from tests.peers.certificates import server_context
from tests.support.ways import Dialler, Ways, credentials, origin_ca, our_ca, own_address

UNKNOWN_KEY = "lld_" + "0" * 32


def absolute(url: str, *fields: str) -> bytes:
    """A GET as it is sent to an HTTP proxy."""
    host = url.removeprefix("http://").partition("/")[0]
    return "\r\n".join((f"GET {url} HTTP/1.1", f"Host: {host}", *fields, "", "")).encode()


async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads to the end, then says how much it was, and closes."""
    count = 0
    while data := await reader.read(1 << 16):
        count += len(data)
    writer.write(b"%d" % count)
    writer.close()


async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A small web server: answers with the head it got."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Origin: yes\r\n\r\n%b" % (len(head), head))


# -- tunnels


async def test_the_origins_own_certificate_reaches_the_client(ways: Ways, dial: Dialler) -> None:
    """Who trusts only the origin's authority is connected, and one who trusts only ours is not."""
    async with origin(shout, server_context("localhost")) as port:
        client, answer = await dial.connect("capture", f"127.0.0.1:{port}")
        assert answer.status == 200
        await client.writer.start_tls(origin_ca(), server_hostname="localhost")
        issuer = dict(part[0] for part in client.writer.get_extra_info("peercert")["issuer"])
        assert issuer["organizationName"] == "Tollway tests"
        client.send(b"end to end")
        assert await client.reader.readexactly(10) == b"END TO END"
        other, _ = await dial.connect("capture", f"127.0.0.1:{port}")
        with pytest.raises(ssl.SSLCertVerificationError):
            await other.writer.start_tls(our_ca(ways), server_hostname="localhost")


async def test_bytes_pass_both_ways_whatever_they_are(dial: Dialler) -> None:
    """Not only TLS: a tunnel is not looked into. 2 MB up, the same down."""
    sent = bytes(range(256)) * 8192
    async with origin(shout) as port:
        client, _ = await dial.connect("capture", f"127.0.0.1:{port}")
        client.send(sent)
        assert await client.reader.readexactly(len(sent)) == sent.upper()


async def test_half_close_reaches_the_origin_and_its_answer_comes_back(dial: Dialler) -> None:
    """FIN one way leaves the other open."""
    async with origin(swallow) as port:
        client, _ = await dial.connect("capture", f"127.0.0.1:{port}")
        client.send(b"x" * 300_000)
        client.writer.write_eof()
        assert await client.eof() == b"300000"


async def test_other_targets_are_refused_where_the_listener_says_so(ways: Ways, dial: Dialler) -> None:
    """403 and no connection; a provider is still captured there."""
    before = ways.plain.connections
    for target in (f"127.0.0.1:{ways.provider.port}", "198.51.100.7:443", "api.openai.com:8443"):
        _, answer = await dial.connect("closed", target)
        assert (answer.status, answer.code) == (403, "target_not_allowed")
    _, captured = await dial.connect("closed", "api.openai.com:443")
    assert captured.status == 200
    assert ways.plain.connections == before


async def test_refused_connect_keeps_the_connection(dial: Dialler) -> None:
    """The framing is intact, so the next CONNECT on it may be a better one."""
    async with origin(shout) as port:
        client, answer = await dial.connect("guarded", f"127.0.0.1:{port}")
        assert answer.status == 403
        again = await client.ask(
            b"CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com:443\r\n\r\n", head_only=True
        )
        assert again.status == 200


PRIVATE = [
    "127.0.0.1", "127.1", "127.000.000.001", "0177.0.0.1", "0x7f.0.0.1", "0x7f000001", "2130706433", "localhost",
    "LocalHost", "localhost.", "0.0.0.0", "0", "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1",
    "169.254.169.254", "2852039166", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
    "[::ffff:169.254.169.254]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1]", "[fd00::1]",
    "[ff02::1]", "224.0.0.1", "255.255.255.255",
]  # fmt: skip


@pytest.mark.parametrize("host", PRIVATE)
async def test_private_targets_are_refused_unless_listed(ways: Ways, dial: Dialler, host: str) -> None:
    """By CONNECT and in absolute form, in every spelling; nothing is connected to."""
    before = (ways.plain.connections, ways.provider.connections)
    port = ways.provider.port
    client, answer = await dial.connect("guarded", f"{host}:{port}")
    assert (answer.status, answer.code) == (403, "target_not_allowed")
    answer = await client.ask(absolute(f"http://{host}:{port}/latest/meta-data/"))
    assert (answer.status, answer.code) == (403, "target_not_allowed")
    assert (ways.plain.connections, ways.provider.connections) == before


@pytest.mark.parametrize(
    "target", ["127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", ":443", "user@127.0.0.1:80", "a b:1"]
)
async def test_malformed_target_is_refused(dial: Dialler, target: str) -> None:
    """400, and the connection is closed: nobody knows what the client means to send next."""
    client = await dial.open("capture")
    client.send(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    answer = await client.answer()
    assert answer.status == 400
    assert await client.eof() == b""


# -- who may use the proxy


@pytest.fixture(params=["captured", "tunnel", "absolute", "absolute-captured"])
async def attempt(request: pytest.FixtureRequest, ways: Ways, dial: Dialler) -> Any:
    """One way to use the proxy off loopback, with given header lines, from a given address."""
    async with origin(web) as port:

        async def go(*fields: str, host: str | None = None) -> tuple[Client, Answer]:
            if request.param == "captured":
                return await dial.connect("office", "api.openai.com:443", *fields, host=host)
            if request.param == "tunnel":
                return await dial.connect("office", f"127.0.0.1:{port}", *fields, host=host)
            client = await dial.open("office", host=host)
            at = port if request.param == "absolute" else ways.plain.port
            return client, await client.ask(absolute(f"http://127.0.0.1:{at}/v1/models", *fields))

        yield go


@pytest.mark.parametrize("host", sorted({"127.0.0.1", own_address()}))
@pytest.mark.parametrize(
    "fields",
    [
        (),
        (credentials(UNKNOWN_KEY),),
        (credentials(""),),
        (credentials("somebody", "else"),),
        ("Proxy-Authorization: Basic !!!",),
        ("Proxy-Authorization: Bearer nonsense",),
        ("Authorization: Bearer sk-a-provider-key",),
    ],
    ids=["none", "unknown", "empty", "foreign", "malformed", "bearer", "provider"],
)
async def test_off_loopback_everything_needs_valid_proxy_credentials(
    ways: Ways, attempt: Any, host: str, fields: tuple[str, ...]
) -> None:
    """407 with Proxy-Authenticate for capture, tunnels and absolute form, whoever connects; nothing goes out."""
    before = (ways.plain.connections, ways.provider.connections)
    _, answer = await attempt(*fields, host=host)
    assert (answer.status, answer.code) == (407, "proxy_authentication_required")
    assert answer.headers["proxy-authenticate"].startswith("Basic realm=")
    assert (ways.plain.connections, ways.provider.connections) == before


async def test_valid_proxy_credentials_open_every_way(ways: Ways, attempt: Any) -> None:
    """As user, as password, and as Bearer."""
    for line in (credentials(ways.key), credentials("", ways.key), f"Proxy-Authorization: Bearer {ways.key}"):
        _, answer = await attempt(line)
        assert answer.status == 200


async def test_revoked_key_is_407_within_a_second(ways: Ways, attempt: Any) -> None:
    """`tollway keys revoke` beside the running proxy."""
    gateway = ways.world.gateway
    key = gateway.make_key(user="leaver")
    _, answer = await attempt(credentials(key))
    assert answer.status == 200
    gateway.cli("keys", "revoke", key)
    seen = {200}
    async with asyncio.timeout(3):
        while answer.status != 407:
            _, answer = await attempt(credentials(key))
            seen.add(answer.status)
    assert seen <= {200, 401, 407}  # 401: revoked between the policy's look at the key and the chain's


async def test_client_that_answers_the_challenge_is_served(ways: Ways, dial: Dialler) -> None:
    """407, then the same with credentials on the same connection."""
    async with origin(shout) as port:
        client, answer = await dial.connect("office", f"127.0.0.1:{port}")
        assert answer.status == 407
        line = credentials(ways.key)
        client.send(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{line}\r\n\r\n".encode())
        assert (await client.head()).status == 200
        client.send(b"in")
        assert await client.reader.readexactly(2) == b"IN"


async def test_wrong_credentials_are_refused_on_loopback_too(dial: Dialler) -> None:
    """A typo is answered, not ignored."""
    _, answer = await dial.connect("capture", "api.openai.com:443", credentials(UNKNOWN_KEY))
    assert answer.status == 407


# -- plain HTTP to other hosts


async def test_plain_http_to_a_listed_host_passes(ways: Ways, dial: Dialler) -> None:
    """Its headers go as they are but for what was meant for us; the connection serves the next request."""
    async with origin(web) as port:
        client = await dial.open("capture")
        lines = ("X-Mine: 1", "Cookie: a=b", "Proxy-Connection: keep-alive", credentials(ways.key))
        for _ in range(2):
            answer = await client.ask(absolute(f"http://127.0.0.1:{port}/path?q=%20", *lines))
            assert (answer.status, answer.headers["x-origin"]) == (200, "yes")
            head = answer.body.decode().lower()
            assert head.startswith("get /path?q=%20 http/1.1\r\n")
            assert f"host: 127.0.0.1:{port}\r\n" in head
            assert "x-mine: 1" in head and "cookie: a=b" in head
            assert "proxy-" not in head and ways.key not in head


async def test_key_of_ours_never_reaches_a_plain_host(ways: Ways, dial: Dialler) -> None:
    """In whatever header an application put it."""
    async with origin(web) as port:
        client = await dial.open("capture")
        basic = credentials(ways.key).removeprefix("Proxy-")
        for line in (f"Authorization: Bearer {ways.key}", basic, f"X-API-Key: {ways.key}"):
            answer = await client.ask(absolute(f"http://127.0.0.1:{port}/", line))
            head = answer.body.decode()
            assert answer.status == 200
            assert ways.key not in head and line.partition(": ")[2] not in head


async def test_host_that_differs_from_the_request_line_is_misdirected(dial: Dialler) -> None:
    """Two parsers could take different ones."""
    async with origin(web) as port:
        client = await dial.open("capture")
        request = f"GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n"
        assert (await client.ask(request.encode())).status == 421


async def test_httpx_through_a_proxy_that_asks_for_credentials(ways: Ways) -> None:
    """A stock client, its proxy given as http://KEY@host:port, tunnels to an HTTPS origin."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = json.dumps({"from": "origin"}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    async with origin(serve, server_context("127.0.0.1")) as port:
        proxy = ways.url("office").replace("://", f"://{ways.key}:@")
        async with httpx.AsyncClient(proxy=proxy, verify=origin_ca()) as client:
            answer = await client.get(f"https://127.0.0.1:{port}/")
            assert answer.json() == {"from": "origin"}
        async with httpx.AsyncClient(proxy=ways.url("office"), verify=origin_ca()) as anonymous:
            with pytest.raises(httpx.ProxyError, match="407"):
                await anonymous.get(f"https://127.0.0.1:{port}/")
