"""Clients that leave: noticed at once, told once, never a regular end for what was cut."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.headers import Headers
from proxy.listeners.api import Arrival, Downstream
from tests.listeners.mitm.harness import WAIT_SECONDS, Client, Handler, running, until

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"


class Script:
    """A driver that waits, and writes down what became of it."""

    def __init__(self, *, watch: bool = True, stream: bool = False, body: bool = False) -> None:
        self.watch, self.stream, self.body = watch, stream, body
        self.running = asyncio.Event()
        self.told = asyncio.Event()
        self.ended = asyncio.Event()
        self.cancelled = False
        self.gone_when_told: bool | None = None

    async def serve(self, arrival: Arrival, downstream: Downstream) -> None:
        def gone() -> None:
            self.gone_when_told = downstream.gone
            self.told.set()

        if self.watch:
            downstream.on_gone(gone)
        try:
            if self.stream:
                await downstream.start(200, Headers())
                await downstream.write(b"first")
            self.running.set()
            if self.body:
                await arrival.request.body(1 << 20)
            await (self.told.wait() if self.watch else asyncio.Event().wait())
            await downstream.write(b"after")
            await downstream.end()
            await downstream.respond(200, Headers(), b"", close=False)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        finally:
            self.ended.set()


def fin(client: Client) -> None:
    client.close()


def half_close(client: Client) -> None:
    client.writer.write_eof()


def reset(client: Client) -> None:
    sock: socket.socket = client.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    client.reset()


async def wait(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), WAIT_SECONDS)


@pytest.mark.parametrize("leave", [fin, half_close, reset])
@pytest.mark.parametrize("stream", [False, True])
async def test_leaving_client_is_told_at_once(confdir: Path, leave: Callable[[Client], None], stream: bool) -> None:
    """on_gone is called with `gone` set; the driver goes on, and its sends do nothing."""
    script = Script(stream=stream)
    async with running(confdir, script.serve) as engine:
        client = await engine.connect()
        client.send(GET)
        await wait(script.running)
        leave(client)
        await wait(script.ended)
        assert script.gone_when_told is True
        assert not script.cancelled
        await until(lambda: engine.open_connections == 0)


async def test_driver_without_callback_is_cancelled(confdir: Path) -> None:
    """Nobody asked to be told."""
    script = Script(watch=False)
    async with running(confdir, script.serve) as engine:
        client = await engine.connect()
        client.send(GET)
        await wait(script.running)
        client.close()
        await wait(script.ended)
        assert script.cancelled


async def test_driver_whose_callback_raises_is_cancelled(confdir: Path) -> None:
    """A fault in the callback cannot leave an exchange running for nobody."""
    running_now, ended = asyncio.Event(), asyncio.Event()
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        def explode() -> None:
            raise LookupError("callback")

        downstream.on_gone(explode)
        running_now.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with running(confdir, serve) as engine:
        client = await engine.connect()
        client.send(GET)
        await wait(running_now)
        client.close()
        await wait(ended)
        await until(lambda: engine.open_connections == 0)
    assert errors


async def test_client_that_leaves_its_upload_cancels_the_driver(confdir: Path) -> None:
    """A truncated body is never taken for a whole one."""
    script = Script(body=True)
    async with running(confdir, script.serve) as engine:
        client = await engine.connect()
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc")
        await wait(script.running)
        client.close()
        await wait(script.ended)
        assert script.cancelled
        assert script.gone_when_told is True


async def test_client_that_closes_after_its_answer_is_not_gone(confdir: Path) -> None:
    """It has what it came for: a driver that still tidies up is left alone."""
    told: list[bool] = []
    finish, finished = asyncio.Event(), asyncio.Event()

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        downstream.on_gone(lambda: told.append(True))
        await downstream.respond(200, Headers(), b"", close=False)
        await finish.wait()
        finished.set()

    async with running(confdir, serve) as engine:
        client = await engine.connect()
        assert (await client.ask(GET)).status == 200
        client.close()
        await until(lambda: engine.open_connections == 0)
        finish.set()
        await wait(finished)
        assert not told


async def test_client_that_never_waits_leaves_nothing(confdir: Path) -> None:
    """Request and FIN in one segment: the driver may not even begin, and none is left."""

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        await asyncio.Event().wait()

    async with running(confdir, serve) as engine:
        for _ in range(20):
            client = await engine.connect()
            client.send(GET)
            client.writer.write_eof()
            assert await client.eof() == b""
        await until(lambda: engine.engine.active == 0)
        await until(lambda: engine.open_connections == 0)


async def test_callback_registered_too_late_is_called(confdir: Path) -> None:
    """The client may leave before the driver's first step."""
    told = asyncio.Event()
    begun = asyncio.Event()

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            downstream.on_gone(told.set)

    async with running(confdir, serve) as engine:
        client = await engine.connect()
        client.send(GET)
        await wait(begun)
        client.close()
        await wait(told)


async def test_aborted_stream_has_no_regular_end(confdir: Path) -> None:
    """HTTP/1: what was written arrives, then the connection ends without the last chunk."""

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        await downstream.start(200, Headers())
        await downstream.write(b"first")
        downstream.abort()
        await downstream.write(b"second")
        await downstream.end()

    async with running(confdir, serve) as engine:
        client = await engine.connect()
        client.send(GET)
        assert (await client.eof()).endswith(b"\r\n\r\n5\r\nfirst\r\n")


async def test_aborted_http10_stream_is_reset(confdir: Path) -> None:
    """Where the end of the connection would be the end of the answer, the client sees a reset."""
    go = asyncio.Event()

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        await downstream.start(200, Headers())
        await downstream.write(b"first")
        await go.wait()
        downstream.abort()

    async with running(confdir, serve) as engine:
        client = await engine.connect()
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        await client.head()
        assert await client.reader.readexactly(5) == b"first"
        go.set()
        with pytest.raises(ConnectionResetError):
            await client.eof()


def flood(size: int) -> tuple[Handler, dict[str, int], asyncio.Event]:
    """A driver that streams `size` chunks of 64 KiB and counts those that were taken."""
    counts, ended = {"taken": 0, "gone": 0}, asyncio.Event()

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        downstream.on_gone(lambda: None)
        await downstream.start(200, Headers())
        for _ in range(size):
            await downstream.write(b"x" * 65536)
            if downstream.gone:
                counts["gone"] += 1
                break
            counts["taken"] += 1
        await downstream.end()
        ended.set()

    return serve, counts, ended


async def test_slow_reader_holds_its_driver_back(confdir: Path) -> None:
    """An answer of 64 MiB is not piled up for a client that does not read; once it reads, it gets all."""
    serve, counts, ended = flood(1024)
    async with running(confdir, serve) as engine:
        client = await engine.connect(limit=65536)
        client.send(GET)
        await client.head()
        settled = -1
        while settled != counts["taken"]:
            settled = counts["taken"]
            await asyncio.sleep(0.2)
        assert settled < 400
        total = 0
        while chunk := await client.chunk():
            total += len(chunk)
        assert total == 64 << 20
        await wait(ended)


async def test_client_that_takes_nothing_is_cut(confdir: Path) -> None:
    """After stall_seconds without progress the client counts as gone."""
    serve, counts, ended = flood(4096)
    async with running(confdir, serve, stall_seconds=0.3) as engine:
        client = await engine.connect(limit=1024)
        client.send(GET)
        await wait(ended)
        assert counts["gone"] == 1
        assert counts["taken"] < 4096
        await until(lambda: engine.open_connections == 0)
