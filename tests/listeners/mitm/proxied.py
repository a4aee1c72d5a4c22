"""Clients of the HTTP proxy, and the servers behind it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from tests.listeners.mitm.harness import WAIT_SECONDS, Client, Running, listener

REGULAR = (listener(kind="regular"),)
CONNECT = b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n"


def our_ca(confdir: Path, *protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(confdir / "mitmproxy-ca-cert.pem"))
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


async def captured(engine: Running, context: ssl.SSLContext, host: str = "api.test", port: int = 443) -> Client:
    """CONNECT, then TLS with the name that was asked for."""
    client = await engine.connect()
    target = f"{host}:{port}".encode()
    answer = await client.ask(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, target), head_only=True)
    assert answer.status == 200
    await asyncio.wait_for(client.writer.start_tls(context, server_hostname=host), WAIT_SECONDS)
    return client


@asynccontextmanager
async def origin(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any],
    context: ssl.SSLContext | None = None,
    *,
    port: int = 0,
) -> AsyncIterator[int]:
    """Somebody else's server; its port, a free one unless given."""
    writers: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            await handle(reader, writer)

    server = await asyncio.start_server(accept, "127.0.0.1", port, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends back what it gets, in capitals, and FIN after FIN."""
    while data := await reader.read(65536):
        writer.write(data.upper())
    writer.write_eof()
