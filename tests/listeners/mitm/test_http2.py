"""HTTP/2 over TLS with a certificate of our own."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import h2.errors
import httpx
import pytest
import trustme

from proxy.config.schema import Listener
from proxy.errors import Refusal
from proxy.headers import Headers
from proxy.listeners.api import Arrival, Downstream
from proxy.listeners.mitm.answer import BadAnswer
from tests.listeners.mitm.h2client import H2Client, client_context
from tests.listeners.mitm.harness import WAIT_SECONDS, Handler, echo, listener, running, until


@pytest.fixture
def listeners(certificate: tuple[Path, Path]) -> tuple[Listener, ...]:
    return (listener(cert_file=certificate[0], key_file=certificate[1]),)


@pytest.fixture
def trust(authority: trustme.CA) -> ssl.SSLContext:
    return client_context(authority)


@pytest.mark.parametrize(
    ("offered", "spoken"),
    [((), None), (("http/1.1",), "http/1.1"), (("h2",), "h2"), (("http/1.1", "h2"), "h2"), (("x",), None)],
)
async def test_alpn_prefers_http2(
    confdir: Path, listeners: tuple[Listener, ...], authority: trustme.CA, offered: tuple[str, ...], spoken: str | None
) -> None:
    """Where the client offers it; HTTP/1.1 without any word of it."""
    async with running(confdir, listeners=listeners) as engine:
        client = await engine.connect(tls=client_context(authority, *offered), server_hostname="localhost")
        assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == spoken
        if spoken != "h2":
            seen = (await client.ask(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n")).json
            assert (seen["tls"], seen["http2"], seen["scheme"]) == (True, False, "https")


async def test_official_client_speaks_http2(
    confdir: Path, listeners: tuple[Listener, ...], authority: trustme.CA
) -> None:
    """httpx, several requests at once, bodies both ways."""
    async with running(confdir, listeners=listeners) as engine:
        base = f"https://localhost:{engine.address()[1]}"
        async with httpx.AsyncClient(verify=client_context(authority), http2=True, base_url=base) as client:
            answers = await asyncio.gather(
                *[client.post(f"/{turn}?q", content=b"x" * 1000 * turn) for turn in range(10)]
            )
        for turn, answer in enumerate(answers):
            assert answer.http_version == "HTTP/2"
            seen = answer.json()
            assert (seen["path"], seen["query"], len(seen["body"])) == (f"/{turn}", "q", 1000 * turn)
            assert (seen["tls"], seen["http2"], seen["scheme"]) == (True, True, "https")
            assert seen["authority"] == f"localhost:{engine.address()[1]}"
        assert engine.engine.traffic.connections == 1


async def test_plain_http2_is_not_spoken(confdir: Path) -> None:
    """No h2c: HTTP/2 comes over TLS only."""
    async with running(confdir) as engine:
        client = await engine.connect()
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert (await client.eof()).startswith(b"HTTP/1.1 400 ")


async def test_streamed_answer_arrives_piece_by_piece(
    confdir: Path, listeners: tuple[Listener, ...], trust: ssl.SSLContext
) -> None:
    """Each write reaches the client before the next is made."""
    step = asyncio.Semaphore(0)

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        await downstream.start(200, Headers({"Content-Type": "text/event-stream", "Connection": "close"}))
        for turn in range(3):
            await downstream.write(b"%d" % turn)
            await step.acquire()
        await downstream.end()

    async with running(confdir, serve, listeners=listeners) as engine:
        client = await H2Client.open(engine, trust)
        stream = client.request()
        for turn in range(3):
            await client.pump(lambda turn=turn: len(client.body[stream]) == turn + 1)  # type: ignore[misc]
            step.release()
        await client.finished(stream)
        assert client.headers[stream] == {":status": "200", "content-type": "text/event-stream"}
        assert client.body[stream] == b"012"


async def test_reset_stream_is_told_at_once_and_siblings_live(
    confdir: Path, listeners: tuple[Listener, ...], trust: ssl.SSLContext
) -> None:
    """RST_STREAM ends one exchange only."""
    gone, go = asyncio.Event(), asyncio.Event()

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        if arrival.request.path == "/left":
            downstream.on_gone(gone.set)
            await gone.wait()
            await downstream.respond(200, Headers(), b"", close=False)
            return
        await go.wait()
        await downstream.respond(200, Headers(), b"here", close=False)

    async with running(confdir, serve, listeners=listeners) as engine:
        client = await H2Client.open(engine, trust)
        left, stays = client.request("/left"), client.request("/stays")
        await until(lambda: engine.engine.active == 2)
        client.h2.reset_stream(left, h2.errors.ErrorCodes.CANCEL)
        client.flush()
        await asyncio.wait_for(gone.wait(), WAIT_SECONDS)
        go.set()
        await client.finished(stays)
        assert client.body[stays] == b"here"


async def test_lost_connection_is_told_to_every_stream(
    confdir: Path, listeners: tuple[Listener, ...], trust: ssl.SSLContext
) -> None:
    """Even where one of them takes it badly."""
    told: list[str] = []
    cancelled: list[str] = []
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        path = arrival.request.path

        def gone() -> None:
            told.append(path)
            if path == "/1":
                raise LookupError("callback")

        downstream.on_gone(gone)
        try:
            while not downstream.gone:
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            cancelled.append(path)

    async with running(confdir, serve, listeners=listeners) as engine:
        client = await H2Client.open(engine, trust)
        for turn in range(4):
            client.request(f"/{turn}")
        await until(lambda: engine.engine.active == 4)
        client.writer.transport.abort()
        await until(lambda: engine.engine.active == 0)
        assert sorted(told) == ["/0", "/1", "/2", "/3"]
        assert cancelled == ["/1"]


async def test_graceful_goaway_of_the_client_lets_streams_end(
    confdir: Path, listeners: tuple[Listener, ...], trust: ssl.SSLContext
) -> None:
    """It means: no more from me, not: stop. The connection ends with the last answer."""
    go, told = asyncio.Event(), []

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        downstream.on_gone(lambda: told.append(True))
        await downstream.start(200, Headers())
        await downstream.write(b"one")
        await go.wait()
        await downstream.write(b"two")
        await downstream.end()

    async with running(confdir, serve, listeners=listeners) as engine:
        client = await H2Client.open(engine, trust)
        stream = client.request()
        await client.pump(lambda: client.body[stream] == b"one")
        client.writer.write(b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + b"\x00" * 8)  # GOAWAY, last stream 0, NO_ERROR
        client.writer.write(b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + b"12345678")  # PING, to know that it was read
        await client.writer.drain()
        await asyncio.sleep(0.05)
        go.set()
        await client.finished(stream)
        assert client.body[stream] == b"onetwo"
        await client.pump(lambda: client.closed)
        assert client.closed
        assert not told


@pytest.mark.parametrize("path", ["/drain", "/close"])
async def test_drain_says_goaway_and_finishes_streams(
    confdir: Path, listeners: tuple[Listener, ...], trust: ssl.SSLContext, path: str
) -> None:
    """stop_accepting: running streams end regularly, later ones are refused."""
    go = asyncio.Event()

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        await go.wait()
        await downstream.respond(200, Headers(), b"done", close=path == "/close")

    async with running(confdir, serve, listeners=listeners) as engine:
        client = await H2Client.open(engine, trust)
        stream = client.request(path)
        await until(lambda: engine.engine.active == 1)
        late = client.h2.get_next_available_stream_id()
        engine.engine.stop_accepting()
        go.set()
        await client.finished(stream)
        assert client.body[stream] == b"done"
        await client.pump(lambda: client.closed)
        assert client.goaway == 0
        assert late not in client.headers


async def test_early_answer_stops_the_upload_and_keeps_the_connection(
    confdir: Path, listeners: tuple[Listener, ...], trust: ssl.SSLContext
) -> None:
    """RST_STREAM(NO_ERROR) after the answer (RFC 9113, 8.1); the next stream is served."""

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        if arrival.request.path == "/refused":
            await downstream.respond(413, Headers(), b"too large", close=True)
        else:
            await echo(arrival, downstream)

    async with running(confdir, serve, listeners=listeners) as engine:
        client = await H2Client.open(engine, trust)
        stream = client.request("/refused", "POST", end=False)
        client.data(stream, b"x" * 10_000)
        await client.pump(lambda: stream in client.resets)
        assert client.headers[stream][":status"] == "413"
        assert client.body[stream] == b"too large"
        assert client.resets[stream] == h2.errors.ErrorCodes.NO_ERROR
        assert (await client.finished(client.request("/next")))["path"] == "/next"


async def test_upload_nobody_reads_is_held_back_by_its_window(
    confdir: Path, listeners: tuple[Listener, ...], trust: ssl.SSLContext
) -> None:
    """The window is widened by reading only; another stream on the connection is not held up."""
    go = asyncio.Event()

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        if arrival.request.path == "/wait":
            await go.wait()
        body = await arrival.request.body(64 << 20)
        await downstream.respond(200, Headers(), str(len(body)).encode(), close=False)

    async with running(confdir, serve, listeners=listeners) as engine:
        client = await H2Client.open(engine, trust)
        waiting = client.request("/wait", "POST", end=False)
        await client.pump(lambda: client.h2.remote_settings.initial_window_size > 65535)
        total, sent = 4 << 20, 0
        while (room := client.h2.local_flow_control_window(waiting)) > 0:
            size = min(room, client.h2.max_outbound_frame_size)
            client.data(waiting, b"x" * size)
            sent += size
        assert sent < 1 << 20
        other = client.request("/other", "POST", end=False)
        client.data(other, b"abc", end=True)
        await client.finished(other)
        assert client.body[other] == b"3"
        assert client.h2.local_flow_control_window(waiting) == 0
        go.set()
        while sent < total:
            await client.pump(lambda: client.h2.local_flow_control_window(waiting) > 0)
            size = min(client.h2.local_flow_control_window(waiting), client.h2.max_outbound_frame_size, total - sent)
            client.data(waiting, b"x" * size)
            sent += size
        client.h2.end_stream(waiting)
        client.flush()
        await client.finished(waiting)
        assert client.body[waiting] == str(total).encode()


def flood(pieces: int) -> tuple[Handler, dict[str, int], asyncio.Event]:
    counts, ended = {"taken": 0, "gone": 0}, asyncio.Event()

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        if arrival.request.path != "/flood":
            await echo(arrival, downstream)
            return
        downstream.on_gone(lambda: None)
        await downstream.start(200, Headers())
        for _ in range(pieces):
            await downstream.write(b"x" * 16384)
            counts["gone"] += downstream.gone
            if downstream.gone:
                break
            counts["taken"] += 1
        await downstream.end()
        ended.set()

    return serve, counts, ended


async def test_narrow_window_holds_the_driver_back(
    confdir: Path, listeners: tuple[Listener, ...], trust: ssl.SSLContext
) -> None:
    """Neither the socket nor the stream's buffer piles up; siblings go on; wider, everything arrives."""
    serve, counts, ended = flood(256)
    async with running(confdir, serve, listeners=listeners) as engine:
        client = await H2Client.open(engine, trust, window=65535)
        stream = client.request("/flood")
        await client.pump(lambda: len(client.body[stream]) == 65535)
        assert (await client.finished(client.request("/sibling")))["path"] == "/sibling"
        assert counts["taken"] < 20
        client.acknowledge = True
        client.h2.increment_flow_control_window(8 << 20, stream)
        client.flush()
        await client.finished(stream)
        assert len(client.body[stream]) == 256 * 16384
        await asyncio.wait_for(ended.wait(), WAIT_SECONDS)


async def test_window_that_stays_shut_ends_the_stream(
    confdir: Path, listeners: tuple[Listener, ...], trust: ssl.SSLContext
) -> None:
    """After stall_seconds the client of that stream counts as gone; its other streams live."""
    serve, counts, ended = flood(256)
    async with running(confdir, serve, listeners=listeners, stall_seconds=0.3) as engine:
        client = await H2Client.open(engine, trust, window=65535)
        stream = client.request("/flood")
        await asyncio.wait_for(ended.wait(), WAIT_SECONDS)
        assert counts["gone"] == 1
        await client.pump(lambda: stream in client.resets)
        assert (await client.finished(client.request("/sibling")))["path"] == "/sibling"


async def test_large_whole_answer_waits_for_the_window(
    confdir: Path, listeners: tuple[Listener, ...], trust: ssl.SSLContext
) -> None:
    """respond() of a megabyte into a narrow window: complete, in order, ended once."""
    body = bytes(range(256)) * 4096

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        await downstream.respond(200, Headers(), body, close=False)

    async with running(confdir, serve, listeners=listeners) as engine:
        client = await H2Client.open(engine, trust, window=1000)
        client.acknowledge = True
        stream = client.request()
        await client.finished(stream)
        assert client.body[stream] == body
        assert client.headers[stream]["content-length"] == str(len(body))
        assert stream not in client.resets


async def test_trailers_and_padding_are_taken(
    confdir: Path, listeners: tuple[Listener, ...], trust: ssl.SSLContext
) -> None:
    """Request trailers are dropped, padding is none of the body."""
    async with running(confdir, listeners=listeners) as engine:
        client = await H2Client.open(engine, trust)
        stream = client.request("/a", "POST", end=False)
        client.h2.send_data(stream, b"abc", pad_length=100)
        client.h2.send_headers(stream, [("x-checksum", "1")], end_stream=True)
        client.flush()
        assert (await client.finished(stream))["body"] == "abc"


async def test_expect_is_answered_when_the_body_is_first_read(
    confdir: Path, listeners: tuple[Listener, ...], trust: ssl.SSLContext
) -> None:
    """As on HTTP/1."""
    async with running(confdir, listeners=listeners) as engine:
        client = await H2Client.open(engine, trust)
        stream = client.request("/a", "POST", end=False, fields=(("expect", "100-continue"),))
        await client.pump(lambda: stream in client.informational)
        assert client.informational[stream] == "100"
        client.data(stream, b"abc", end=True)
        assert (await client.finished(stream))["body"] == "abc"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ((("authorization", "a"), ("authorization", "b")), "invalid_header"),
        ((("x-api-key", "a"), ("x-api-key", "b")), "invalid_header"),
        (tuple(("a", "b") for _ in range(30)), "headers_too_large"),
    ],
)
async def test_refused_head_is_answered_by_serve(
    confdir: Path,
    listeners: tuple[Listener, ...],
    trust: ssl.SSLContext,
    fields: tuple[tuple[str, str], ...],
    code: str,
) -> None:
    """In the envelope, on its own stream; the connection lives."""
    async with running(confdir, listeners=listeners, head_count_max=20) as engine:
        client = await H2Client.open(engine, trust)
        refused = await client.finished(client.request(fields=fields))
        assert refused["error"]["code"] == code
        assert (await client.finished(client.request()))["path"] == "/a"


async def test_bad_answer_header_raises(confdir: Path, listeners: tuple[Listener, ...], trust: ssl.SSLContext) -> None:
    """And another answer may still be given."""

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        with pytest.raises(BadAnswer):
            await downstream.respond(200, Headers({"x": "a\r\nb: c"}), b"", close=False)
        await downstream.respond(500, Headers(), b"", close=False)

    async with running(confdir, serve, listeners=listeners) as engine:
        client = await H2Client.open(engine, trust)
        stream = client.request()
        await client.finished(stream)
        assert client.headers[stream][":status"] == "500"


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_answers_without_a_body(
    confdir: Path, listeners: tuple[Listener, ...], trust: ssl.SSLContext, method: str
) -> None:
    """HEAD keeps its length; 204 and 304 have none."""

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        status = 200 if method == "HEAD" else int(arrival.request.path[1:4])
        if arrival.request.path.endswith("s"):
            await downstream.start(status, Headers())
            await downstream.write(b"hello")
            await downstream.end()
        else:
            await downstream.respond(status, Headers(), b"hello", close=False)

    async with running(confdir, serve, listeners=listeners) as engine:
        client = await H2Client.open(engine, trust)
        for path in ("/204", "/204s", "/304", "/304s"):
            stream = client.request(path, method)
            await client.finished(stream)
            assert client.body[stream] == b""
            length = client.headers[stream].get("content-length")
            assert length == ("5" if method == "HEAD" and not path.endswith("s") else None)


async def test_aborted_stream_is_reset(confdir: Path, listeners: tuple[Listener, ...], trust: ssl.SSLContext) -> None:
    """Never a regular end; the connection lives."""

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        if arrival.request.path != "/cut":
            await echo(arrival, downstream)
            return
        await downstream.start(200, Headers())
        await downstream.write(b"first")
        downstream.abort()
        await downstream.end()

    async with running(confdir, serve, listeners=listeners) as engine:
        client = await H2Client.open(engine, trust)
        stream = client.request("/cut")
        await client.finished(stream)
        assert client.resets[stream] == h2.errors.ErrorCodes.INTERNAL_ERROR
        assert stream not in client.ended
        assert (await client.finished(client.request()))["path"] == "/a"


async def test_driver_that_sends_nothing_is_answered_for(
    confdir: Path, listeners: tuple[Listener, ...], trust: ssl.SSLContext
) -> None:
    """500 in the envelope."""

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        return

    async with running(confdir, serve, listeners=listeners) as engine:
        client = await H2Client.open(engine, trust)
        assert (await client.finished(client.request()))["error"]["code"] == "internal_error"


async def test_stalled_upload_is_refused(confdir: Path, listeners: tuple[Listener, ...], trust: ssl.SSLContext) -> None:
    """408 on its stream."""

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        with pytest.raises(Refusal) as caught:
            await arrival.request.body(100)
        assert caught.value.code == "request_timeout"
        await downstream.respond(408, Headers(), b"", close=True)

    async with running(confdir, serve, listeners=listeners, body_idle_seconds=0.2) as engine:
        client = await H2Client.open(engine, trust)
        stream = client.request("/a", "POST", end=False)
        await client.pump(lambda: stream in client.resets)
        assert client.headers[stream][":status"] == "408"


async def test_idle_connection_gets_goaway(
    confdir: Path, listeners: tuple[Listener, ...], trust: ssl.SSLContext
) -> None:
    """After keepalive_seconds without a stream; pings buy no time."""
    async with running(confdir, listeners=listeners, keepalive_seconds=0.3) as engine:
        client = await H2Client.open(engine, trust)
        await client.finished(client.request())
        client.h2.ping(b"12345678")
        client.flush()
        await client.pump(lambda: client.closed)
        assert client.goaway == 0


Abuse = Callable[[H2Client], None]


def rapid_reset(client: H2Client) -> None:
    for _ in range(400):
        stream = client.request()
        client.h2.reset_stream(stream)
    client.flush()


def pings(client: H2Client) -> None:
    for _ in range(3000):
        client.h2.ping(b"12345678")
    client.flush()


def settings(client: H2Client) -> None:
    client.writer.write(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" * 3000)


def empty_data(client: H2Client) -> None:
    stream = client.request("/wait", "POST", end=False)
    client.writer.write((b"\x00\x00\x00\x00\x00" + stream.to_bytes(4, "big")) * 3000)


def unknown_frames(client: H2Client) -> None:
    client.writer.write(b"\x00\x00\x00\x99\x00\x00\x00\x00\x00" * 3000)


def priorities(client: H2Client) -> None:
    client.writer.write(b"\x00\x00\x05\x02\x00\x00\x00\x00\x05\x00\x00\x00\x00\x10" * 3000)


def continuations(client: H2Client) -> None:
    client.writer.write(b"\x00\x00\x01\x01\x00\x00\x00\x00\x01\x00")
    client.writer.write(b"\x00\x00\x01\x09\x00\x00\x00\x00\x01\x00" * 3000)


def header_bomb(client: H2Client) -> None:
    client.request(fields=(("x", "y" * 4000), *[("x", "y" * 4000)] * 60))


def many_streams(client: H2Client) -> None:
    client.h2.remote_settings.max_concurrent_streams = 1000
    client.h2.remote_settings.acknowledge()
    for _ in range(200):
        client.request("/wait")


def garbage(client: H2Client) -> None:
    client.writer.write(b"\xff" * 100)


@pytest.mark.parametrize(
    "abuse",
    [
        rapid_reset,
        pings,
        settings,
        empty_data,
        unknown_frames,
        priorities,
        continuations,
        header_bomb,
        many_streams,
        garbage,
    ],
)
async def test_abuse_ends_its_connection(
    confdir: Path, listeners: tuple[Listener, ...], trust: ssl.SSLContext, abuse: Abuse
) -> None:
    """GOAWAY with an error, closed, no driver left; another client is served meanwhile."""

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        if arrival.request.path == "/wait":
            await asyncio.Event().wait()
        await echo(arrival, downstream)

    async with running(confdir, serve, listeners=listeners, http2_streams_max=50) as engine:
        client = await H2Client.open(engine, trust)
        await client.finished(client.request())
        abuse(client)
        await client.pump(lambda: client.closed)
        assert client.closed
        assert client.goaway not in (None, 0)
        await until(lambda: engine.open_connections == 0)
        await until(lambda: engine.engine.active == 0)
        other = await H2Client.open(engine, trust)
        assert (await other.finished(other.request()))["path"] == "/a"


async def test_streams_begun_and_reset_in_one_read_leave_the_connection(
    confdir: Path, listeners: tuple[Listener, ...], trust: ssl.SSLContext
) -> None:
    """More than may run at once: those refused are closed already when their turn comes."""
    async with running(confdir, listeners=listeners, http2_streams_max=10) as engine:
        client = await H2Client.open(engine, trust)
        await client.finished(client.request())
        for _ in range(60):
            client.h2.reset_stream(client.request(), 8)
        client.flush()
        answer = None
        while answer is None and not client.closed:  # Refused, as any client may ask again, until the others are gone.
            answer = await client.finished(client.request())
        assert answer is not None and answer["path"] == "/a"


async def test_failed_handshake_leaves_nothing(confdir: Path, listeners: tuple[Listener, ...]) -> None:
    """A client that speaks no TLS, or does not trust us, or says nothing."""
    async with running(confdir, listeners=listeners, head_seconds=0.3) as engine:
        plain = await engine.connect()
        plain.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert b"HTTP" not in await plain.eof()
        with pytest.raises(ssl.SSLError):
            await engine.connect(tls=ssl.create_default_context(), server_hostname="localhost")
        silent = await engine.connect()
        assert await silent.eof() == b""
        await until(lambda: engine.open_connections == 0)


async def test_close_notify_is_a_client_that_leaves(
    confdir: Path, listeners: tuple[Listener, ...], authority: trustme.CA
) -> None:
    """TLS close is FIN's equal."""
    gone = asyncio.Event()

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        downstream.on_gone(gone.set)
        await gone.wait()

    async with running(confdir, serve, listeners=listeners) as engine:
        client = await engine.connect(tls=client_context(authority, "http/1.1"), server_hostname="localhost")
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        await until(lambda: engine.engine.active == 1)
        client.close()
        await asyncio.wait_for(gone.wait(), WAIT_SECONDS)


async def test_close_delimited_answer_ends_with_close_notify(
    confdir: Path, listeners: tuple[Listener, ...], authority: trustme.CA
) -> None:
    """The client can tell a regular end from a cut one."""

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        await downstream.start(200, Headers())
        await downstream.write(b"abc")
        await downstream.end()

    async with running(confdir, serve, listeners=listeners) as engine:
        context = client_context(authority, "http/1.1")
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
        client = await engine.connect(tls=context, server_hostname="localhost")
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert (await client.eof()).endswith(b"abc")
