"""Who is told by webhooks: a real server on loopback that keeps what came and answers as it is told."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import orjson

WAIT_SECONDS_MAX = 20.0


@dataclass(frozen=True, slots=True)
class Received:
    """One delivery as it came."""

    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(self.body)
        return found

    def is_signed_with(self, secret: str) -> bool:
        """As the reference libraries of Standard Webhooks check it."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return any(hmac.compare_digest(one, expected) for one in self.headers["webhook-signature"].split(" "))


class Receiver:
    """`with Receiver() as receiver:`; `statuses` are answered in turn, the last of them from then on."""

    def __init__(
        self, *statuses: int, tls: ssl.SSLContext | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self.received: list[Received] = []
        self._statuses = list(statuses) or [204]
        self._headers = dict(headers or {})
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.scheme = "http" if tls is None else "https"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def url(self, path: str = "/hook", *, host: str = "127.0.0.1") -> str:
        """Where it is told."""
        return f"{self.scheme}://{host}:{self.port}{path}"

    def answer(self, *statuses: int) -> None:
        """Answer these from now on, in turn."""
        with self._changed:
            self._statuses = list(statuses)

    def wait(self, count: int = 1) -> list[Received]:
        """Until so many deliveries have come; then all of them."""
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        with self._changed:
            while len(self.received) < count:
                if not self._changed.wait(deadline - time.monotonic()):
                    raise TimeoutError(f"{len(self.received)} of {count} deliveries came")
            return list(self.received)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with receiver._changed:
                    receiver.received.append(Received(self.path, headers, body))
                    turn = receiver._statuses
                    status = turn.pop(0) if len(turn) > 1 else turn[0]
                    receiver._changed.notify_all()
                self.send_response(status)
                for name, value in receiver._headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing is printed."""

        return Handler
