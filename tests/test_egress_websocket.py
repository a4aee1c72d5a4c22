"""WebSockets of the control plane, under the same guard."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from proxy.egress import EgressFailure
from proxy.egress_websocket import open_websocket
from tests.peers.certificates import server_context, write_ca_file


@asynccontextmanager
async def serving(handler: Any, **site: Any) -> AsyncIterator[int]:
    app = web.Application()
    app.add_routes([web.get("/", handler)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, **site).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def echo(request: web.Request) -> web.WebSocketResponse:
    answer = web.WebSocketResponse(max_msg_size=0)
    await answer.prepare(request)
    async for message in answer:
        await answer.send_str(message.data)
    return answer


@pytest.mark.parametrize("tls", [False, True])
async def test_messages_go_both_ways(tmp_path: Path, tls: bool) -> None:
    """In the clear where that is allowed, and by TLS against the operator's file."""
    context = server_context("localhost") if tls else None
    async with serving(echo, ssl_context=context) as port:
        url = f"{'wss' if tls else 'ws'}://localhost:{port}/"
        ca_file = write_ca_file(tmp_path) if tls else None
        opened = await open_websocket(url, private=True, timeout_seconds=2, ca_file=ca_file)
        await opened.send("hello")
        assert await opened.receive() == "hello"
        await opened.aclose()


async def test_a_message_that_is_too_large_ends_the_connection() -> None:
    """Nobody fills our memory."""
    async with serving(echo) as port:
        url = f"ws://127.0.0.1:{port}"
        opened = await open_websocket(url, private=True, timeout_seconds=2, message_bytes_max=1000)
        await opened.send("x" * 1001)
        with pytest.raises(EgressFailure, match="closed"):
            await opened.receive()
        await opened.aclose()


async def test_a_redirect_is_not_followed() -> None:
    """Wherever it leads."""
    followed = []

    async def away(request: web.Request) -> web.Response:
        followed.append(request.path_qs)
        return web.Response(status=302, headers={"location": "/?again"})

    async with serving(away) as port:
        with pytest.raises(EgressFailure, match="redirect"):
            await open_websocket(f"ws://127.0.0.1:{port}", private=True, timeout_seconds=2)
    assert followed == ["/"]


async def test_a_server_that_hangs_is_given_up() -> None:
    """In time, before the connection stands."""

    async def hang(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    async with serving(hang) as port:
        with pytest.raises(EgressFailure, match=r"no connection \(TimeoutError"):
            await open_websocket(f"ws://127.0.0.1:{port}", private=True, timeout_seconds=0.1)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1"])
async def test_names_of_inner_addresses_are_not_dialled(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Not even where only one of a name's addresses is inner."""
    dialled: list[Any] = []
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (ip, 443)) for ip in ("93.184.216.34", address)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

    async def dial(_: socket.socket, target: Any) -> None:
        dialled.append(target)
        raise OSError

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", dial)
    with pytest.raises(EgressFailure, match="no connection"):
        await open_websocket("wss://relay.example", private=False, timeout_seconds=2)
    for host in ("127.0.0.1", "[::1]", "169.254.169.254"):
        with pytest.raises(EgressFailure, match="no connection"):
            await open_websocket(f"wss://{host}", private=False, timeout_seconds=2)
    assert dialled == []
    del found[1]
    with pytest.raises(EgressFailure, match="no connection"):
        await open_websocket("wss://relay.example", private=False, timeout_seconds=2)
    assert dialled == [("93.184.216.34", 443)]


@pytest.mark.parametrize("url", ["ws://relay.example", "https://relay.example", "wss://", "relay"])
async def test_only_wss_leads_outside(url: str) -> None:
    """Refused before anything is opened."""
    with pytest.raises(ValueError):
        await open_websocket(url, private=False, timeout_seconds=2)
