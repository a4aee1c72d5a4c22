"""WebSockets of the control plane, under the same guard as `proxy.egress`: judged addresses, no redirects, limits."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import aiohttp
from yarl import URL

from proxy.egress import EgressFailure, tls_context
from proxy.upstreams.guard import PublicResolver, public_socket

MESSAGE_BYTES_MAX: Final = 128 << 10
HEARTBEAT_SECONDS: Final = 30.0
CLOSE_SECONDS: Final = 1.0


class WebSocket:
    """An open connection for text messages."""

    def __init__(self, host: str, session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._host = host
        self._session = session
        self._socket = socket

    async def send(self, text: str) -> None:
        """Raises EgressFailure."""
        try:
            await self._socket.send_str(text)
        except (aiohttp.ClientError, OSError) as error:
            raise EgressFailure(f"{self._host}: {type(error).__name__}", sent=True) from error

    async def receive(self) -> str:
        """The next text message. Raises EgressFailure once the connection is closed, or a message is too large."""
        message = await self._socket.receive()
        if message.type is aiohttp.WSMsgType.TEXT and isinstance(message.data, str):
            return message.data
        raise EgressFailure(f"{self._host}: the connection is closed ({message.type.name.lower()})", sent=True)

    async def aclose(self) -> None:
        """Say goodbye for a moment, then close."""
        await self._socket.close()
        await self._session.close()


class _Redirected(aiohttp.ClientError):
    pass


async def open_websocket(
    url: str,
    *,
    private: bool,
    timeout_seconds: float,
    ca_file: Path | None = None,
    message_bytes_max: int = MESSAGE_BYTES_MAX,
) -> WebSocket:
    """`private` False: wss only, to public addresses. Raises EgressFailure; ValueError for a URL that breaks that."""
    target = URL(url)
    if target.scheme != "wss" and not (private and target.scheme == "ws"):
        raise ValueError("the URL must begin with wss://")
    host = target.raw_host
    if host is None:
        raise ValueError("the URL must name a host")
    session = _session(private=private, ca_file=ca_file, tls=target.scheme == "wss")
    opened = False
    try:
        async with asyncio.timeout(timeout_seconds):
            socket = await session.ws_connect(
                target,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
                heartbeat=HEARTBEAT_SECONDS,
                max_msg_size=message_bytes_max,
            )
        opened = True
    except _Redirected as error:
        raise EgressFailure(f"{host}: it answered with a redirect", sent=True) from error
    except (aiohttp.ClientError, OSError, UnicodeError, TimeoutError) as error:
        raise EgressFailure(f"{host}: no connection ({type(error).__name__})", sent=False) from error
    finally:
        if not opened:
            await session.close()
    return WebSocket(host, session, socket)


def _session(*, private: bool, ca_file: Path | None, tls: bool) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        resolver=None if private else PublicResolver(),
        socket_factory=None if private else public_socket,
        ssl=tls_context(ca_file) if tls else True,
    )
    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(_refuse)
    return aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, trace_configs=[trace]
    )


async def _refuse(_: aiohttp.ClientSession, __: SimpleNamespace, ___: aiohttp.TraceRequestRedirectParams) -> None:
    raise _Redirected
