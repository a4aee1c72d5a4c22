"""The way to the proxy that is paid: plain requests over one connection, no redirects, nothing of the environment.

What is sent may be bearer money, so http is only spoken to this machine unless it is allowed by name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx
import orjson

from proxy.payments.client.errors import Unreachable
from proxy.payments.client.offers import Headers

ANSWER_BYTES_MAX: Final = 64 << 20
CONNECT_SECONDS: Final = 10.0
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int
    headers: Headers
    body: bytes

    def header(self, name: str) -> str | None:
        """The first of this name, in lower case."""
        return next((value for key, value in self.headers if key == name), None)

    def json(self) -> dict[str, Any]:
        """The body where it is a JSON object, else {}."""
        try:
            content = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return {}
        return content if isinstance(content, dict) else {}


@dataclass(frozen=True, slots=True)
class Arriving:
    """An answer of which the head is there."""

    status: int
    headers: Headers
    chunks: AsyncIterator[bytes]

    async def whole(self) -> Reply:
        """The rest of it. Raises Unreachable."""
        return Reply(self.status, self.headers, b"".join([chunk async for chunk in self.chunks]))


def text_is_plain(text: str) -> bool:
    """Visible ASCII."""
    return text.isascii() and text.isprintable() and " " not in text


class Way:
    """To one proxy. Raises ValueError for a URL that money must not be sent to."""

    def __init__(self, url: str, *, timeout_seconds: float, allow_http: bool = False) -> None:
        parts = urlsplit(url)
        plain = text_is_plain(url) and (parts.port is None or parts.port > 0)
        if not plain or parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ValueError("the URL is http://HOST[:PORT] or https://HOST[:PORT], without user, password and query")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK and not allow_http:
            raise ValueError(
                f"payments to {parts.hostname} over http can be read on the way: use https, or say --allow-http"
            )
        self.url = url.rstrip("/").removesuffix("/v1")
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(timeout_seconds, connect=CONNECT_SECONDS), trust_env=False, follow_redirects=False
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    @asynccontextmanager
    async def open(
        self, method: str, path: str, body: bytes | None = None, *credentials: tuple[str, str]
    ) -> AsyncIterator[Arriving]:
        """Send, and give the head. Raises Unreachable."""
        headers = [("content-type", "application/json"), ("accept-encoding", "identity"), ("user-agent", "tollway-pay")]
        headers += credentials
        try:
            async with self._client.stream(method, self.url + path, content=body, headers=headers) as response:
                self._client.cookies.clear()
                named = [(key.lower(), value) for key, value in response.headers.multi_items()]
                yield Arriving(response.status_code, named, self._bounded(response))
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Unreachable(f"{self.url} cannot be reached: {error}", sent=False) from error
        except httpx.TransportError as error:
            raise Unreachable(f"{self.url} broke off: {type(error).__name__} {error}", sent=True) from error

    async def ask(self, method: str, path: str, body: bytes | None = None, *credentials: tuple[str, str]) -> Reply:
        """The whole answer. Raises Unreachable."""
        async with self.open(method, path, body, *credentials) as arriving:
            return await arriving.whole()

    async def _bounded(self, response: httpx.Response) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in response.aiter_raw():
            size += len(chunk)
            if size > ANSWER_BYTES_MAX:
                raise Unreachable(f"{self.url} sent more than {ANSWER_BYTES_MAX} bytes", sent=True)
            yield chunk
