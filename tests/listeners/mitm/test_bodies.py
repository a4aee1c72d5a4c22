"""Request bodies: pulled lazily, held back, bounded; and answers that come before their end."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from proxy.errors import Refusal
from proxy.headers import Headers
from proxy.listeners.api import Arrival, Downstream
from proxy.listeners.mitm import connection as connection_module
from proxy.listeners.mitm.core import BODY_BUFFER_BYTES
from tests.listeners.mitm.harness import Client, Running, echo, running, until

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"


def head(length: int, path: bytes = b"/a") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (path, length)


async def send_until_blocked(client: Client, bytes_max: int) -> int:
    """Send until the other side takes no more; how much that was."""
    piece, sent = b"x" * (1 << 16), 0
    while sent < bytes_max:
        client.send(piece)
        sent += len(piece)
        try:
            await asyncio.wait_for(client.writer.drain(), 0.2)
        except TimeoutError:
            return sent
    return sent


async def test_upload_nobody_reads_is_held_back(confdir: Path) -> None:
    """The socket is not read beyond a named amount; once somebody reads, everything arrives."""
    go, size = asyncio.Event(), 0
    total = 64 << 20

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        nonlocal size
        await go.wait()
        async for chunk in arrival.request.stream():
            size += len(chunk)
        await downstream.respond(200, Headers(), b"", close=False)

    async with running(confdir, serve) as engine:
        client = await engine.connect()
        client.send(head(total))
        sent = await send_until_blocked(client, total)
        assert sent < 32 << 20
        assert held(engine) <= 3 * BODY_BUFFER_BYTES
        go.set()
        client.send(b"x" * (total - sent))
        assert (await client.answer()).status == 200
        assert size == total
        assert held(engine) == 0


def held(engine: Running) -> int:
    core = engine.engine._core
    return 0 if core is None else core.budget.bytes_held


async def test_held_bodies_count_until_the_exchange_ends(confdir: Path) -> None:
    """A whole body in memory is counted; a streamed one only while it is."""
    counted: list[int] = []

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        if arrival.request.path == "/whole":
            await arrival.request.body(1 << 20)
        else:
            async for _chunk in arrival.request.stream():
                continue
        counted.append(held(engine))
        await downstream.respond(200, Headers(), b"", close=False)

    async with running(confdir, serve) as engine:
        client = await engine.connect()
        for path in (b"/whole", b"/streamed"):
            assert (await client.ask(head(100_000, path) + b"x" * 100_000)).status == 200
            await until(lambda: engine.engine.active == 0)
            assert held(engine) == 0
    assert counted == [100_000, 0]


async def test_bodies_over_the_budget_are_refused(confdir: Path) -> None:
    """Process-wide: the one that does not fit gets 503 with Retry-After, the others go on."""
    go = asyncio.Event()

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        try:
            body = await arrival.request.body(8 << 20)
        except Refusal as refusal:
            await downstream.respond(
                refusal.status, Headers(refusal.wire_headers()), refusal.envelope(), close=refusal.close
            )
            return
        await go.wait()
        await downstream.respond(200, Headers(), str(len(body)).encode(), close=False)

    async with running(confdir, serve, body_bytes_in_flight_max=1 << 20) as engine:
        first, second = await engine.connect(), await engine.connect()
        first.send(head(900_000) + b"x" * 900_000)
        await until(lambda: held(engine) == 900_000)
        second.send(head(900_000) + b"x" * 900_000)
        answer = await second.answer()
        assert (answer.status, answer.code) == (503, "overloaded")
        assert int(answer.headers["retry-after"]) >= 1
        go.set()
        assert (await first.answer()).body == b"900000"
        await until(lambda: held(engine) == 0)
        third = await engine.connect()
        assert (await third.ask(head(900_000) + b"x" * 900_000)).status == 200


async def test_stalled_upload_is_refused(confdir: Path) -> None:
    """408 once nothing came for body_idle_seconds, and the connection closes."""
    async with running(confdir, body_idle_seconds=0.2) as engine:
        client = await engine.connect()
        client.send(head(100) + b"x")
        answer = await client.answer()
        assert (answer.status, answer.code) == (408, "request_timeout")
        assert answer.headers["connection"] == "close"
        assert await client.eof() == b""


async def test_slow_but_steady_upload_is_served(confdir: Path) -> None:
    """The limit is on silence, not on the whole."""
    async with running(confdir, body_idle_seconds=0.4) as engine:
        client = await engine.connect()
        client.send(head(6))
        for _ in range(6):
            client.send(b"x")
            await asyncio.sleep(0.1)
        assert (await client.answer()).json["body"] == "xxxxxx"


@pytest.mark.parametrize("status", [401, 413])
async def test_early_answer_is_readable_in_mid_upload(confdir: Path, status: int) -> None:
    """The client still sends megabytes: it reads its refusal, then the end; nothing is left behind."""

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        await downstream.respond(status, Headers(), b"refused", close=False)

    async with running(confdir, serve) as engine:
        client = await engine.connect()
        client.send(head(50 << 20))
        piece = b"x" * 65536

        async def upload() -> None:
            for _ in range(320):
                client.send(piece)
                await client.writer.drain()

        sending = asyncio.get_running_loop().create_task(upload())
        answer = await client.answer()
        assert (answer.status, answer.body) == (status, b"refused")
        assert answer.headers["connection"] == "close"
        await asyncio.wait([sending])
        sending.exception()
        client.close()
        await until(lambda: engine.open_connections == 0)


async def test_linger_is_bounded_in_bytes_and_seconds(confdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that never stops, and one that never closes, are cut."""
    monkeypatch.setattr(connection_module, "LINGER_SECONDS", 0.3)
    monkeypatch.setattr(connection_module, "LINGER_BYTES_MAX", 1 << 20)

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        await downstream.respond(413, Headers(), b"", close=True)

    async with running(confdir, serve, stall_seconds=1) as engine:
        silent, endless = await engine.connect(), await engine.connect()
        assert (await silent.ask(head(1 << 30))).status == 413
        assert (await endless.ask(head(1 << 30))).status == 413
        with pytest.raises(OSError):
            for _ in range(10_000):
                endless.send(b"x" * 65536)
                await endless.writer.drain()
        await until(lambda: engine.open_connections == 0)


async def test_short_rest_of_a_refused_upload_keeps_the_connection(confdir: Path) -> None:
    """A body of a few kilobytes that is still on its way is awaited, and the next request is served."""

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        if arrival.request.method == "POST":
            await downstream.respond(401, Headers(), b"", close=False)
        else:
            await echo(arrival, downstream)

    async with running(confdir, serve) as engine:
        client = await engine.connect()
        answer = await client.ask(head(10_000))
        assert answer.status == 401
        assert "connection" not in answer.headers
        client.send(b"x" * 10_000)
        assert (await client.ask(GET)).json["method"] == "GET"


async def test_rest_of_a_refused_upload_that_never_comes_closes(confdir: Path) -> None:
    """It is awaited for body_idle_seconds only."""

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        await downstream.respond(401, Headers(), b"", close=False)

    async with running(confdir, serve, body_idle_seconds=0.2) as engine:
        client = await engine.connect()
        assert (await client.ask(head(10_000))).status == 401
        assert await client.eof() == b""


async def test_unread_body_does_not_become_a_request(confdir: Path) -> None:
    """A body that looks like a request, never read by anybody, stays a body."""
    paths: list[str] = []

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        paths.append(arrival.request.path)
        await downstream.respond(200, Headers(), b"", close=False)

    async with running(confdir, serve) as engine:
        client = await engine.connect()
        evil = b"GET /evil HTTP/1.1\r\nHost: h\r\n\r\n"
        assert (await client.ask(head(len(evil)) + evil)).status == 200
        assert (await client.ask(GET)).status == 200
    assert paths == ["/a", "/a"]


async def test_large_json_upload_is_cheap(confdir: Path) -> None:
    """Ten megabytes arrive in far less than quadratic time."""
    body = json.dumps({"a": "b" * (10 << 20)}).encode()

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        received = await arrival.request.body(16 << 20)
        await downstream.respond(200, Headers(), str(len(received)).encode(), close=False)

    async with running(confdir, serve) as engine:
        client = await engine.connect()
        started = time.process_time()
        assert (await client.ask(head(len(body)) + body)).body == str(len(body)).encode()
        assert time.process_time() - started < 5
