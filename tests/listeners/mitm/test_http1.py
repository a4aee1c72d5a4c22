"""HTTP/1 exchanges over real sockets: requests as they arrive, answers as they leave."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from proxy.headers import Headers
from proxy.listeners.api import Arrival, Downstream
from proxy.listeners.mitm.answer import BadAnswer
from tests.listeners.mitm.harness import answer_refusals, echo, listener, running, until

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"


def post(body: bytes, path: bytes = b"/a") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (path, len(body), body)


async def test_request_reaches_serve_as_it_was_sent(confdir: Path) -> None:
    """Method, path, query, headers, body and the way in."""
    async with running(confdir) as engine:
        client = await engine.connect()
        answer = await client.ask(
            b"POST /v1/%C3%A9//x?a=b?c HTTP/1.1\r\nHost: Api.Test:80\r\nA: 1\r\na: 2\r\nContent-Length: 3\r\n\r\nabc"
        )
        seen = answer.json
        assert (seen["method"], seen["path"], seen["query"]) == ("POST", "/v1/%C3%A9//x", "a=b?c")
        assert seen["authority"] == "Api.Test:80"
        assert seen["headers"] == [["Host", "Api.Test:80"], ["A", "1"], ["a", "2"], ["Content-Length", "3"]]
        assert seen["body"] == "abc"
        assert (seen["listener"], seen["kind"], seen["peer"], seen["loopback"]) == (
            "main",
            "reverse",
            "127.0.0.1",
            True,
        )
        assert (seen["scheme"], seen["tls"], seen["http2"]) == ("http", False, False)
        assert seen["captured"] == [None, None]


async def test_connection_is_kept_between_requests(confdir: Path) -> None:
    """Many requests, bodies sized, chunked and absent, over one connection."""
    async with running(confdir) as engine:
        client = await engine.connect()
        for turn in range(20):
            assert (await client.ask(post(b"x" * turn))).json["body"] == "x" * turn
            assert (await client.ask(GET)).json["body"] == ""
            chunked = (
                b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
            )
            assert (await client.ask(chunked)).json["body"] == "abcde"
        assert engine.engine.traffic.connections == 1


async def test_requests_may_arrive_byte_by_byte(confdir: Path) -> None:
    """No matter how the network cuts them."""
    async with running(confdir) as engine:
        client = await engine.connect()
        data = b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: 1\r\n\r\n" + GET
        for index in range(len(data)):
            client.send(data[index : index + 1])
            await asyncio.sleep(0)
        assert (await client.answer()).json["body"] == "abc"
        assert (await client.answer()).json["method"] == "GET"


async def test_pipelined_requests_are_answered_in_order(confdir: Path) -> None:
    """One at a time, each in its turn, larger ones held back by the socket."""

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        await asyncio.sleep(0.001)
        await echo(arrival, downstream)

    async with running(confdir, serve) as engine:
        client = await engine.connect()
        bodies = [bytes([65 + turn]) * (turn * 40_000) for turn in range(8)]
        client.send(b"".join(post(body, b"/%d" % turn) for turn, body in enumerate(bodies)))
        for turn, body in enumerate(bodies):
            seen = (await client.answer()).json
            assert seen["path"] == f"/{turn}"
            assert seen["body"] == body.decode()


async def test_request_trailers_are_dropped(confdir: Path) -> None:
    """They do not crash the layer, and the next request works."""
    async with running(confdir) as engine:
        client = await engine.connect()
        chunked = (
            b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nAuthorization: x\r\n\r\n"
        )
        seen = (await client.ask(chunked)).json
        assert seen["body"] == "a"
        assert seen["headers"] == [["Host", "h"], ["Transfer-Encoding", "chunked"]]
        assert (await client.ask(GET)).status == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: h\r\nA: \x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n",
    ],
)
async def test_refused_head_with_lost_framing_is_answered_by_serve_and_closed(
    confdir: Path, request_bytes: bytes
) -> None:
    """The refusal passes the gateway, so it has its request id; what follows on the connection is not read."""
    served: list[Arrival] = []

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        served.append(arrival)
        assert await answer_refusals(arrival, downstream)

    async with running(confdir, serve) as engine:
        client = await engine.connect()
        answer = await client.ask(request_bytes + GET)
        assert answer.status == 400
        assert answer.headers["connection"] == "close"
        assert answer.json["error"]["type"] == "invalid_request_error"
        assert await client.eof() == b""
        assert len(served) == 1


@pytest.mark.parametrize(
    ("request_bytes", "code"),
    [
        (b"GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", "invalid_header"),
        (b"GET / HTTP/1.1\r\nA: b\r\n\r\n", "invalid_header"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n", "invalid_header"),
        (b"GET http://h/ HTTP/1.1\r\nHost: h\r\n\r\n", "invalid_request"),
        (b"GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", "invalid_path"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "invalid_request"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", "invalid_request"),
    ],
)
async def test_refused_head_with_intact_framing_leaves_the_connection(
    confdir: Path, request_bytes: bytes, code: str
) -> None:
    """400 by way of serve, then the next request."""
    async with running(confdir) as engine:
        client = await engine.connect()
        answer = await client.ask(request_bytes)
        assert (answer.status, answer.code) == (400, code)
        assert (await client.ask(GET)).status == 200


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\r\n\r\n", b"HELLO\r\n\r\n", b"GET / HTTP/1.1\n\n", b"PRI * HTTP/2.0\r\n\r\n"]
)
async def test_what_is_no_request_gets_an_envelope_that_names_nobody(confdir: Path, garbage: bytes) -> None:
    """400 in the error envelope, closed; neither mitmproxy nor an address of ours is named."""
    async with running(confdir) as engine:
        client = await engine.connect()
        client.send(garbage)
        raw = await client.eof()
        assert raw.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b'"code":"invalid_request"' in raw
        assert b"mitmproxy" not in raw.lower()
        assert b"127.0.0.1" not in raw


@pytest.mark.parametrize(
    "chunk", [b"zz\r\n", b"-1\r\n", b"0x3\r\nabc\r\n", b"3\r\nabcd\r\n", b"1\nX", b"f" * 40 + b"\r\n"]
)
async def test_bad_chunk_is_refused_and_closed(confdir: Path, chunk: bytes) -> None:
    """Whoever reads the body gets the refusal; the connection is not reused."""
    async with running(confdir) as engine:
        client = await engine.connect()
        answer = await client.ask(
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk + b"\r\n\r\n"
        )
        assert (answer.status, answer.code) == (400, "invalid_request")
        assert answer.headers["connection"] == "close"
        assert await client.eof() == b""


async def test_endless_chunk_header_is_refused(confdir: Path) -> None:
    """A chunk extension without end is not collected."""
    async with running(confdir) as engine:
        client = await engine.connect()
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 200_000)
        assert (await client.answer()).code == "invalid_request"


async def test_expect_is_answered_when_the_body_is_first_read(confdir: Path) -> None:
    """100 Continue goes out with the first read, not before."""
    read, body = asyncio.Event(), b""

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        nonlocal body
        await read.wait()
        body = await arrival.request.body(100)
        await downstream.respond(200, Headers(), b"", close=False)

    async with running(confdir, serve) as engine:
        client = await engine.connect()
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        await until(lambda: engine.engine.active == 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.read(1), 0.05)
        read.set()
        assert (await client.head()).status == 100
        assert (await client.ask(b"ok")).status == 200
        assert body == b"ok"


async def test_refusal_before_the_body_skips_the_continue(confdir: Path) -> None:
    """The client learns the final status without sending its body, and the connection closes."""

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        await downstream.respond(401, Headers(), b"no", close=False)

    async with running(confdir, serve) as engine:
        client = await engine.connect()
        answer = await client.ask(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert (answer.status, answer.headers["connection"]) == (401, "close")
        assert await client.eof() == b""


async def test_head_request_gets_no_body(confdir: Path) -> None:
    """Its length is told, its body not sent, streamed or not."""

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        if arrival.request.path == "/whole":
            await downstream.respond(200, Headers(), b"hello", close=False)
        else:
            await downstream.start(200, Headers())
            await downstream.write(b"hello")
            await downstream.end()

    async with running(confdir, serve) as engine:
        client = await engine.connect()
        whole = await client.ask(b"HEAD /whole HTTP/1.1\r\nHost: h\r\n\r\n", head_only=True)
        assert whole.headers["content-length"] == "5"
        streamed = await client.ask(b"HEAD /streamed HTTP/1.1\r\nHost: h\r\n\r\n", head_only=True)
        assert streamed.headers["transfer-encoding"] == "chunked"
        assert (await client.ask(b"HEAD /whole HTTP/1.1\r\nHost: h\r\n\r\n", head_only=True)).status == 200


@pytest.mark.parametrize("status", [204, 304])
async def test_bodiless_statuses_end_with_their_head(confdir: Path, status: int) -> None:
    """No length, no chunks, no body; the next answer is found."""

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        if arrival.request.path == "/whole":
            await downstream.respond(status, Headers(), b"hello", close=False)
        else:
            await downstream.start(status, Headers())
            await downstream.write(b"hello")
            await downstream.end()

    async with running(confdir, serve) as engine:
        client = await engine.connect()
        for path in (b"/whole", b"/streamed") * 2:
            answer = await client.ask(b"GET " + path + b" HTTP/1.1\r\nHost: h\r\n\r\n")
            assert answer.status == status
            assert "content-length" not in answer.headers
            assert "transfer-encoding" not in answer.headers


async def test_streamed_answer_is_chunked_and_prompt(confdir: Path) -> None:
    """Every write is a chunk of its own, and arrives before the next is made."""
    step = asyncio.Semaphore(0)

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        await downstream.start(200, Headers({"content-type": "text/event-stream"}))
        for turn in range(5):
            await downstream.write(b"data: %d\n\n" % turn)
            await step.acquire()
        await downstream.write(b"")
        await downstream.end()

    async with running(confdir, serve) as engine:
        client = await engine.connect()
        client.send(GET)
        head = await client.head()
        assert head.headers["transfer-encoding"] == "chunked"
        for turn in range(5):
            assert await client.chunk() == b"data: %d\n\n" % turn
            step.release()
        assert await client.chunk() == b""
        for _ in range(5):
            step.release()
        assert len((await client.ask(GET)).chunks) == 5


async def test_streamed_answer_with_a_length_is_not_chunked(confdir: Path) -> None:
    """A known length is the framing."""

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        await downstream.start(200, Headers({"content-length": "6"}))
        await downstream.write(b"abc")
        await downstream.write(b"def")
        await downstream.end()

    async with running(confdir, serve) as engine:
        client = await engine.connect()
        for _ in range(2):
            answer = await client.ask(GET)
            assert answer.body == b"abcdef"
            assert "transfer-encoding" not in answer.headers


async def test_http10_stream_ends_with_the_connection(confdir: Path) -> None:
    """No chunks for a client that does not know them."""

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        await downstream.start(200, Headers())
        await downstream.write(b"abc")
        await downstream.end()

    async with running(confdir, serve) as engine:
        client = await engine.connect()
        answer = await client.ask(b"GET / HTTP/1.0\r\n\r\n")
        assert answer.body == b"abc"
        assert answer.headers["connection"] == "close"


async def test_framing_headers_of_the_answer_are_ours(confdir: Path) -> None:
    """What an upstream said about its own connection does not reach the client."""

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        said = {"Connection": "close", "Transfer-Encoding": "gzip", "Keep-Alive": "x", "Content-Length": "99", "A": "b"}
        await downstream.respond(200, Headers(said), b"hello", close=False)

    async with running(confdir, serve) as engine:
        client = await engine.connect()
        answer = await client.ask(GET)
        assert dict(answer.headers) == {"A": "b", "content-length": "5"}
        assert (await client.ask(GET)).body == b"hello"


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\rb", "a\0b", "\ud800"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_bad_answer_header_raises_and_sends_nothing(confdir: Path, value: str, streamed: bool) -> None:
    """No response splitting; the caller may still answer something else."""

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        with pytest.raises(BadAnswer):
            if streamed:
                await downstream.start(200, Headers({"x": value}))
            else:
                await downstream.respond(200, Headers({"x": value}), b"", close=False)
        await downstream.respond(500, Headers(), b"", close=False)

    async with running(confdir, serve) as engine:
        client = await engine.connect()
        assert (await client.ask(GET)).status == 500


async def test_close_is_said_and_done(confdir: Path) -> None:
    """Asked for by the client or by the answer: header, FIN, closed."""

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        await downstream.respond(200, Headers(), b"x", close=arrival.request.path == "/close")

    async with running(confdir, serve) as engine:
        for request in (
            b"GET /close HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        ):
            client = await engine.connect()
            answer = await client.ask(request)
            assert answer.headers["connection"] == "close"
            assert await client.eof() == b""
            client.close()
        await until(lambda: engine.open_connections == 0)


async def test_large_whole_answer_arrives_whole(confdir: Path) -> None:
    """Megabytes in one respond(), then the next answer."""
    body = bytes(range(256)) * (40 << 10)

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        await downstream.respond(200, Headers(), body, close=False)

    async with running(confdir, serve) as engine:
        client = await engine.connect()
        for _ in range(2):
            assert (await client.ask(GET)).body == body


async def test_whole_answer_is_one_segment(confdir: Path) -> None:
    """Head and body leave in one write, and Nagle's algorithm is off."""
    nodelay: list[int] = []

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        await downstream.respond(200, Headers(), b"hello", close=False)

    async with running(confdir, serve) as engine:
        loop = asyncio.get_running_loop()
        with socket.create_connection(engine.address()) as raw:
            raw.setblocking(False)
            await loop.sock_sendall(raw, GET)
            received = await asyncio.wait_for(loop.sock_recv(raw, 65536), 5)
            assert received.endswith(b"\r\n\r\nhello")
            for connection in engine.connections:
                sock = connection.transport.get_extra_info("socket")
                nodelay.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        assert nodelay and all(nodelay)


@pytest.mark.parametrize("early", [True, False])
async def test_driver_that_sends_nothing_is_answered_for(confdir: Path, early: bool) -> None:
    """500 where nothing was sent; a cut answer where something was."""

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        if not early:
            await downstream.start(200, Headers())
            await downstream.write(b"x")

    async with running(confdir, serve) as engine:
        client = await engine.connect()
        client.send(GET)
        raw = await client.eof()
        if early:
            assert raw.startswith(b"HTTP/1.1 500 ")
            assert b'"code":"internal_error"' in raw
        else:
            assert raw.endswith(b"1\r\nx\r\n")


async def test_admin_listener_is_told_apart(confdir: Path) -> None:
    """Several listeners at once; each request knows its own."""
    async with running(confdir, listeners=(listener(), listener("back", "admin"))) as engine:
        for name, kind in (("main", "reverse"), ("back", "admin")):
            client = await engine.connect(name)
            seen = (await client.ask(GET)).json
            assert (seen["listener"], seen["kind"]) == (name, kind)


async def test_one_l402_credential_may_come_under_both_names(confdir: Path) -> None:
    """Aperture's client sends two Authorization lines, LSAT and L402, with one token; two tokens are refused."""
    request = b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: LSAT m:%b\r\nAuthorization: L402 m:p\r\n\r\n"
    async with running(confdir) as engine:
        client = await engine.connect()
        seen = (await client.ask(request % b"p")).json["headers"]
        assert [value for name, value in seen if name == "Authorization"] == ["LSAT m:p", "L402 m:p"]
        refused = await client.ask(request % b"q")
        assert (refused.status, refused.json["error"]["code"]) == (400, "invalid_header")
