"""The engine as a whole: addresses, sockets from outside, drain, crashes, options."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from mitmproxy.options import Options
from mitmproxy.proxy import events

from proxy.config.schema import LimitsEntry
from proxy.headers import Headers
from proxy.listeners.api import Arrival, Downstream
from proxy.listeners.mitm import embedding
from proxy.listeners.mitm.embedding import EmbeddingError, check_options, make_options
from proxy.listeners.mitm.engine import ListenError, MitmEngine
from proxy.listeners.mitm.http1 import Http1Layer
from proxy.listeners.mitm.tls import CertificateError
from tests.listeners.mitm.harness import WAIT_SECONDS, Log, Policy, echo, listener, running, until

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"


def engine_on(confdir: Path, port: int, **fields: Any) -> MitmEngine:
    from dataclasses import replace

    return MitmEngine((replace(listener(**fields), port=port),), LimitsEntry(), echo, Policy(), confdir, Log())


async def test_port_in_use_is_said(confdir: Path) -> None:
    """The error names listener and address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        engine = engine_on(confdir, port)
        with pytest.raises(ListenError, match=f"listener main: cannot listen on 127.0.0.1:{port}: the port is in use"):
            await engine.start()


async def test_unusable_certificate_is_said(confdir: Path, tmp_path: Path) -> None:
    """At start, not at the first handshake."""
    (tmp_path / "cert.pem").write_text("no certificate")
    engine = engine_on(confdir, 0, cert_file=tmp_path / "cert.pem", key_file=tmp_path / "cert.pem")
    with pytest.raises(CertificateError, match="listener main"):
        await engine.start()


async def test_sockets_may_come_from_outside(confdir: Path) -> None:
    """A supervisor's listening socket is used as it is."""
    given = socket.create_server(("127.0.0.1", 0))
    port = given.getsockname()[1]
    engine = engine_on(confdir, 1)
    await engine.start(sockets={"main": given})
    try:
        assert engine.addresses == {"main": ("127.0.0.1", port)}
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
        writer.close()
        await writer.wait_closed()
    finally:
        await engine.close(0.1)


async def test_drain_ends_idle_and_keeps_running_exchanges(confdir: Path) -> None:
    """After stop_accepting: no new connections, idle ones closed, running ones answered with connection: close."""
    go = asyncio.Event()

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        if arrival.request.path == "/slow":
            await go.wait()
        await downstream.respond(200, Headers(), b"done", close=False)

    async with running(confdir, serve) as engine:
        idle, busy = await engine.connect(), await engine.connect()
        assert (await idle.ask(GET)).status == 200
        busy.send(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
        await until(lambda: engine.engine.active == 1)
        engine.engine.stop_accepting()
        assert await idle.eof() == b""
        with pytest.raises(OSError):
            await engine.connect()
        closing = asyncio.get_running_loop().create_task(engine.engine.close(WAIT_SECONDS))
        go.set()
        answer = await busy.answer()
        assert (answer.body, answer.headers["connection"]) == (b"done", "close")
        await closing
        assert engine.engine.active == 0


async def test_close_cuts_what_does_not_end(confdir: Path) -> None:
    """A driver past the deadline is cancelled, and its client sees a cut."""
    cancelled = asyncio.Event()

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        downstream.on_gone(lambda: None)
        await downstream.start(200, Headers())
        await downstream.write(b"x")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with running(confdir, serve) as engine:
        client = await engine.connect()
        client.send(GET)
        await client.head()
        await engine.engine.close(0.05)
        assert cancelled.is_set()
        assert await client.eof() == b"1\r\nx\r\n"
        assert engine.engine.active == 0


async def test_close_ends_drivers_whose_client_is_gone(confdir: Path) -> None:
    """One that reads an answer on for its usage is cancelled at the deadline, too."""
    gone, cancelled = asyncio.Event(), asyncio.Event()

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        downstream.on_gone(gone.set)
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with running(confdir, serve) as engine:
        client = await engine.connect()
        client.send(GET)
        await until(lambda: engine.engine.active == 1)
        client.close()
        await asyncio.wait_for(gone.wait(), WAIT_SECONDS)
        await engine.engine.close(0.05)
        assert cancelled.is_set()
        assert engine.engine.active == 0


async def test_crashing_layer_ends_its_connection_and_driver(confdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left half open, nobody goes on working for it; other connections live."""
    began, ended = asyncio.Event(), asyncio.Event()
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))

    async def serve(arrival: Arrival, downstream: Downstream) -> None:
        if arrival.request.path == "/ok":
            await downstream.respond(200, Headers(), b"", close=False)
            return
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    original = Http1Layer._feed

    def crash(layer: Http1Layer, data: bytes) -> None:
        if b"boom" in data:
            raise LookupError("layer")
        original(layer, data)

    monkeypatch.setattr(Http1Layer, "_feed", crash)
    async with running(confdir, serve) as engine:
        client, other = await engine.connect(), await engine.connect()
        client.send(GET)
        await asyncio.wait_for(began.wait(), WAIT_SECONDS)
        client.send(b"boom")
        await asyncio.wait_for(ended.wait(), WAIT_SECONDS)
        await until(lambda: engine.open_connections == 1)
        assert (await other.ask(b"GET /ok HTTP/1.1\r\nHost: h\r\n\r\n")).status == 200
    assert any(isinstance(context.get("exception"), LookupError) for context in errors)


def test_options_are_those_of_the_allow_list(confdir: Path) -> None:
    """What the layers rely on is set, and nothing else is."""
    options = make_options(confdir)
    assert options.connection_strategy == "lazy"
    assert options.validate_inbound_headers is True
    assert (options.http3, options.rawtcp, options.server) == (False, False, False)
    assert not [name for name in options.keys() if "emudhra" in name]  # noqa: SIM118


@pytest.mark.parametrize(("name", "value"), [("ssl_insecure", True), ("allow_hosts", ["x"]), ("rawtcp", True)])
def test_option_set_otherwise_stops_the_start(confdir: Path, name: str, value: object) -> None:
    """Whoever set it."""
    options = make_options(confdir)
    options.update(**{name: value})
    with pytest.raises(EmbeddingError, match=name):
        check_options(options)


def test_compromised_ca_options_stop_the_start(confdir: Path) -> None:
    """mitmproxy 12.3 has options that sign with the key of a compromised public CA."""
    options: Options = make_options(confdir)
    options.add_option("emudhra", bool, False, "")
    with pytest.raises(EmbeddingError, match="emudhra"):
        check_options(options)


def test_other_mitmproxy_stops_the_start(confdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layers are internal: the version is exact."""
    monkeypatch.setattr(embedding.version, "VERSION", "12.3.1")
    with pytest.raises(EmbeddingError, match=r"12\.3\.1"):
        make_options(confdir)


async def test_layer_cannot_open_a_connection(confdir: Path) -> None:
    """Commands that would make mitmproxy connect somewhere end the connection instead."""
    from mitmproxy.proxy import commands

    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))
    async with running(confdir) as engine:
        client = await engine.connect()
        assert (await client.ask(GET)).status == 200
        connection = engine.connections[0]
        connection.context.server.address = ("127.0.0.1", 1)

        def ask(event: events.Event) -> list[commands.Command]:
            return [commands.OpenConnection(connection.context.server)]

        connection.layer.handle_event = ask  # type: ignore[assignment, method-assign]
        with pytest.raises(TypeError, match="OpenConnection"):
            connection.dispatch(events.DataReceived(connection.client, b"x"))
        assert await client.eof() == b""
