"""Bytes on a socket, for what no client library would send."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Any, Self

import orjson

SECONDS_MAX = 15.0


class Raw:
    """One TCP connection; `answer()` reads one whole HTTP/1.1 answer off it."""

    def __init__(self, address: tuple[str, int], *, receive_buffer_bytes: int | None = None) -> None:
        self._socket = socket.socket()
        self._socket.settimeout(SECONDS_MAX)
        if receive_buffer_bytes is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self._socket.connect(address)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self.received = bytearray()
        """Every byte that came so far."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """All of it."""
        self._socket.sendall(data)

    def answer(self) -> Answer:
        """The next answer. Raises ConnectionError where the peer closed before its end."""
        answer = self.head()
        answer.body = self._body(answer.headers)
        return answer

    def head(self) -> Answer:
        """The next answer's head; of a stream, the body is left to `chunk`."""
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        status_line, *lines = head.split(b"\r\n")
        headers = {k.decode().lower(): v.strip().decode() for k, _, v in (line.partition(b":") for line in lines)}
        status = int(status_line.split()[1])
        return self.head() if status < 200 else Answer(status, headers, b"")

    def chunk(self) -> bytes:
        """The next chunk of a chunked body, b"" at its end."""
        while b"\r\n" not in self._buffer:
            self._more()
        size_line, _, self._buffer = self._buffer.partition(b"\r\n")
        size = int(size_line, 16)
        while len(self._buffer) < size + 2:
            self._more()
        piece, self._buffer = self._buffer[:size], self._buffer[size + 2 :]
        return piece

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            return self._chunked()
        length = int(headers.get("content-length", 0))
        while len(self._buffer) < length:
            self._more()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return body

    def _chunked(self) -> bytes:
        pieces = []
        while piece := self.chunk():
            pieces.append(piece)
        return b"".join(pieces)

    def _more(self) -> None:
        data = self._socket.recv(1 << 16)
        if not data:
            raise ConnectionError("closed by the peer")
        self._buffer += data
        self.received += data

    def closed_by_peer(self) -> bool:
        """Whether the peer ends the connection (and sends nothing before)."""
        try:
            return self._socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def reset(self) -> None:
        """Leave rudely."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self._socket.close()


class Answer:
    """A whole answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        """The body, parsed."""
        return orjson.loads(self.body)

    @property
    def code(self) -> str:
        """The error envelope's code. Raises where the body is no envelope."""
        return str(self.json()["error"]["code"])


def request(
    body: bytes | dict[str, Any] = b"",
    *,
    key: str | None = None,
    path: str = "/v1/chat/completions",
    method: str = "POST",
    headers: tuple[str, ...] = (),
    length: int | None = None,
) -> bytes:
    """One HTTP/1.1 request; `headers` are whole lines, `length` overrides the true one."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    if not any(line.lower().startswith("content-type") for line in headers):
        lines.append("Content-Type: application/json")
    if not any(line.lower().startswith("transfer-encoding") for line in headers):
        lines.append(f"Content-Length: {len(raw) if length is None else length}")
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    lines.extend(headers)
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + raw
