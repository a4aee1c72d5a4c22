"""What the bench's own clients send, and a minimal blocking HTTP/1.1 client that costs next to nothing itself."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Final

ANSWER_SECONDS: Final = 60
RECEIVE_BYTES: Final = 65536
PROMPT_BYTES: Final = 1000
NUMBER: Final = "0000000000"
"""Begins every prompt. Each request puts its own number here, so that no two are alike and no gateway can answer one
from memory."""
SENTENCE: Final = "A tollway keeps a ledger of who drove where, and what the road owes to whom. "


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a client asks, and as whom: one set of headers for each key it takes in turn."""

    name: str
    port: int
    model: str
    headers: tuple[tuple[tuple[str, str], ...], ...]
    path: str = "/v1/chat/completions"

    def requests(self, *, stream: bool = False) -> list[bytes]:
        """One whole HTTP request for each set of headers, ready to be written to a socket."""
        prompt = (f"{NUMBER} " + SENTENCE * (PROMPT_BYTES // len(SENTENCE) + 1))[:PROMPT_BYTES]
        question: dict[str, object] = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": 256,
        }
        if stream:
            question["stream"] = True
        body = json.dumps(question).encode()
        fixed = (
            f"POST {self.path} HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\nuser-agent: bench\r\naccept: */*\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        )
        return [
            (fixed + "".join(f"{name}: {value}\r\n" for name, value in headers) + "\r\n").encode() + body
            for headers in self.headers
        ]


def numbered(request: bytes, number: int) -> bytes:
    """The request with a number of its own in its prompt, as long as before."""
    return request.replace(NUMBER.encode(), b"%010d" % number, 1)


class Connection:
    """One keep-alive connection to loopback."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer. ConnectionError when it is cut."""
        self._socket.sendall(request)
        head = self._until(b"\r\n\r\n").lower()
        status = int(head[9:12])
        if b"\r\ntransfer-encoding: chunked" in head:
            return status, self._chunked()
        length = head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
        return status, self._exactly(int(length or 0))

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _more(self) -> None:
        piece = self._socket.recv(RECEIVE_BYTES)
        if not piece:
            raise ConnectionError("the answer was cut")
        self._buffer += piece

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._more()
        found, _, self._buffer = self._buffer.partition(mark)
        return found + mark

    def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._more()
        found, self._buffer = self._buffer[:count], self._buffer[count:]
        return found

    def _chunked(self) -> bytes:
        body = b""
        while size := int(self._until(b"\r\n").split(b";")[0], 16):
            body += self._exactly(size)
            self._exactly(2)
        self._until(b"\r\n")
        return body


def answers(endpoint: Endpoint, *, stream: bool = False) -> bool:
    """Whether the endpoint now answers a request as it should; OSError: not reachable yet."""
    connection = Connection(endpoint.port)
    try:
        status, body = connection.ask(endpoint.requests(stream=stream)[0])
    finally:
        connection.close()
    return status == 200 and (b"chat.completion" in body)
