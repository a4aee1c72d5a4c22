"""Limits of a connection: heads, idleness, counts."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from proxy.headers import Headers
from proxy.listeners.api import Arrival, Downstream
from tests.listeners.mitm.harness import running, until

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"


async def test_endless_header_is_refused(confdir: Path) -> None:
    """431 in the envelope once the cap is passed, however many bytes follow."""
    async with running(confdir, head_bytes_max=4096) as engine:
        client = await engine.connect()
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\nA: " + b"x" * 200_000)
        answer = await client.answer()
        assert (answer.status, answer.code) == (431, "headers_too_large")
        assert answer.headers["connection"] == "close"


async def test_head_just_under_the_cap_is_served(confdir: Path) -> None:
    """And one just over it is not."""
    async with running(confdir, head_bytes_max=4096) as engine:
        client = await engine.connect()
        prefix = b"GET / HTTP/1.1\r\nHost: h\r\nA: "
        client.send(prefix + b"x" * (4096 - len(prefix)) + b"\r\n\r\n")
        assert (await client.answer()).status == 200
        client.send(prefix + b"x" * (4097 - len(prefix)) + b"\r\n\r\n")
        assert (await client.answer()).status == 431


async def test_too_many_header_lines_are_refused(confdir: Path) -> None:
    """431 by way of serve."""
    async with running(confdir, head_count_max=20) as engine:
        client = await engine.connect()
        answer = await client.ask(b"GET / HTTP/1.1\r\nHost: h\r\n" + b"A: b\r\n" * 20 + b"\r\n")
        assert (answer.status, answer.code) == (431, "headers_too_large")


async def test_dripping_head_times_out(confdir: Path) -> None:
    """A byte now and then buys no time."""
    async with running(confdir, head_seconds=0.4) as engine:
        client = await engine.connect()
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n")

        async def drip() -> None:
            while True:
                client.send(b"A: b\r\n")
                await asyncio.sleep(0.05)

        dripping = asyncio.get_running_loop().create_task(drip())
        answer = await client.answer()
        dripping.cancel()
        assert (answer.status, answer.code) == (408, "request_timeout")


async def test_silent_connection_is_closed(confdir: Path) -> None:
    """One that never says anything ends without a word, on plain and on empty lines."""
    async with running(confdir, head_seconds=0.2) as engine:
        silent, blank = await engine.connect(), await engine.connect()
        blank.send(b"\r\n\r\n")
        assert await silent.eof() == b""
        assert await blank.eof() == b""


async def test_idle_connection_is_closed(confdir: Path) -> None:
    """After keepalive_seconds between two requests; a dripping second head has head_seconds."""
    async with running(confdir, keepalive_seconds=0.2, head_seconds=0.4) as engine:
        idle, dripping = await engine.connect(), await engine.connect()
        assert (await idle.ask(GET)).status == 200
        assert await idle.eof() == b""
        assert (await dripping.ask(GET)).status == 200
        dripping.send(GET[:10])
        assert (await dripping.answer()).status == 408


async def test_running_exchange_is_not_idle(confdir: Path) -> None:
    """However long its driver takes."""

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        await asyncio.sleep(0.6)
        await downstream.respond(200, Headers(), b"", close=False)

    async with running(confdir, serve, keepalive_seconds=0.1, head_seconds=0.1, body_idle_seconds=0.1) as engine:
        client = await engine.connect()
        assert (await client.ask(GET)).status == 200


async def test_connections_over_the_limit_are_refused(confdir: Path) -> None:
    """503 and closed; room is made by one that leaves."""
    async with running(confdir, connections_max=2) as engine:
        first, second = await engine.connect(), await engine.connect()
        assert (await first.ask(GET)).status == 200
        assert (await second.ask(GET)).status == 200
        third = await engine.connect()
        answer = await third.answer()
        assert (answer.status, answer.code) == (503, "overloaded")
        assert await third.eof() == b""
        assert engine.engine.traffic.connections_refused == 1
        first.close()
        await until(lambda: engine.open_connections == 1)
        assert (await (await engine.connect()).ask(GET)).status == 200


async def test_connections_of_one_address_are_limited(confdir: Path) -> None:
    """Another address still has room."""
    async with running(confdir, connections_per_ip_max=1) as engine:
        assert (await (await engine.connect()).ask(GET)).status == 200
        assert (await (await engine.connect()).answer()).status == 503
        elsewhere = await engine.connect(local_addr=("127.0.0.2", 0))
        assert (await elsewhere.ask(GET)).status == 200


async def test_no_descriptor_is_left(confdir: Path) -> None:
    """After hundreds of connections of every kind as many files are open as before."""

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        await downstream.respond(401, Headers(), b"", close=arrival.request.path == "/close")

    async with running(confdir, serve) as engine:
        before = len(os.listdir("/proc/self/fd"))
        for turn in range(100):
            client = await engine.connect()
            match turn % 4:
                case 0:
                    await client.ask(GET)
                case 1:
                    await client.ask(b"POST /close HTTP/1.1\r\nHost: h\r\nContent-Length: 9000000\r\n\r\nx")
                case 2:
                    client.send(b"garbage\r\n\r\n")
                    await client.eof()
                case 3:
                    client.send(b"GET / HT")
            client.close()
            await client.writer.wait_closed()
        await until(lambda: engine.open_connections == 0)
        await until(lambda: len(os.listdir("/proc/self/fd")) <= before)


async def test_much_sent_ahead_is_not_collected(confdir: Path) -> None:
    """100 MB behind a running request stay in the client, not in our memory."""
    go = asyncio.Event()

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        await go.wait()
        await downstream.respond(200, Headers(), b"", close=True)

    async with running(confdir, serve) as engine:
        client = await engine.connect()
        client.send(GET)
        await until(lambda: engine.engine.active == 1)
        sent = 0
        blocked = False
        while sent < 100 << 20 and not blocked:
            client.send(b"x" * 65536)
            sent += 65536
            try:
                await asyncio.wait_for(client.writer.drain(), 0.3)
            except TimeoutError:
                blocked = True
        assert blocked
        assert sum(len(connection.layer._buffer) for connection in engine.connections) < 1 << 20  # type: ignore[attr-defined]
        go.set()
        assert (await client.answer()).status == 200
