"""Call an ASGI application with an exchange, without a socket between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.headers import Headers

Scope = MutableMapping[str, Any]
Application = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]

EXCHANGE = "tollway.exchange"
"""Key in the ASGI scope under which an endpoint finds its exchange."""


async def call(application: Application, exchange: Exchange) -> Response:
    """The application's whole answer. Bodies are read under the operation's own limit before the call."""
    request = exchange.request
    body = await request.body(exchange.operation.body_bytes_max)
    if body and request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal("unsupported_media_type", "Send the request as JSON: 'Content-Type: application/json'.")
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.scheme,
        "path": unquote(request.path),
        "raw_path": request.path.encode("ascii", "replace"),
        "query_string": request.query.encode("ascii", "replace"),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in request.headers.items()],
        "client": (exchange.origin.peer, 0),
        "server": None,
        EXCHANGE: exchange,
    }
    answer = _Answer(body)
    await application(scope, answer.receive, answer.send)
    if answer.status == 0:
        raise Refusal("internal_error", "The endpoint gave no answer.")
    headers = Headers()
    for name, value in answer.headers:
        key = name.decode("latin-1")
        if key != "content-length":
            headers.add(key, value.decode("latin-1"))
    return Response(answer.status, headers, b"".join(answer.chunks))


class _Answer:
    """The server side of one ASGI call."""

    __slots__ = ("_body", "chunks", "headers", "status")

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.chunks: list[bytes] = []

    async def receive(self) -> dict[str, Any]:
        if self._body is None:
            return {"type": "http.disconnect"}
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = list(message["headers"])
        elif message["type"] == "http.response.body":
            self.chunks.append(message.get("body", b""))
