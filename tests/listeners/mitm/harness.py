"""Runs the engine with a scripted `serve`, and talks to it through raw sockets."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from proxy.config.schema import LimitsEntry, Listener
from proxy.errors import Refusal
from proxy.headers import Headers
from proxy.listeners.api import Arrival, ConnectVerdict, Downstream, Serve
from proxy.listeners.mitm.connection import ClientConnection
from proxy.listeners.mitm.engine import MitmEngine

WAIT_SECONDS = 5.0
"""Longest a test waits for something that must happen."""


class Log:
    """Takes structured log calls and keeps them."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, level: str) -> Callable[..., None]:
        def write(event: str, **fields: Any) -> None:
            self.lines.append((event, fields))

        return write


class Policy:
    """Answers what it is told to; remembers what it was asked."""

    def __init__(self, verdict: Callable[[str, int], ConnectVerdict] | None = None) -> None:
        self.verdict = verdict or (lambda host, port: ConnectVerdict("capture"))
        self.asked: list[dict[str, Any]] = []

    async def decide(self, **question: Any) -> ConnectVerdict:
        self.asked.append(question)
        return self.verdict(question["host"], question["port"])


Handler = Serve


async def answer_refusals(arrival: Arrival, downstream: Downstream) -> bool:
    """As the gateway does: the listener's refusal is answered like any other."""
    refusal = arrival.refusal
    if refusal is None:
        return False
    await downstream.respond(refusal.status, Headers(refusal.wire_headers()), refusal.envelope(), close=refusal.close)
    return True


async def echo(arrival: Arrival, downstream: Downstream) -> None:
    """Answers what it saw of the request."""
    if await answer_refusals(arrival, downstream):
        return
    request, origin = arrival.request, arrival.origin
    try:
        body = await request.body(1 << 20)
    except Refusal as refusal:
        await downstream.respond(
            refusal.status, Headers(refusal.wire_headers()), refusal.envelope(), close=refusal.close
        )
        return
    seen = {
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "authority": request.authority,
        "scheme": request.scheme,
        "headers": list(request.headers.items()),
        "body": body.decode("latin-1"),
        "listener": origin.listener,
        "kind": origin.kind.value,
        "peer": origin.peer,
        "loopback": origin.loopback,
        "tls": origin.tls,
        "http2": origin.http2,
        "captured": [origin.captured_host, origin.captured_port],
        "credential": origin.proxy_credential,
        "websocket": arrival.websocket,
    }
    await downstream.respond(200, Headers({"content-type": "application/json"}), json.dumps(seen).encode(), close=False)


class Running:
    """An engine under test."""

    def __init__(self, engine: MitmEngine, policy: Policy, log: Log) -> None:
        self.engine = engine
        self.policy = policy
        self.log = log
        self.clients: list[Client] = []

    @property
    def connections(self) -> list[ClientConnection]:
        """Those that the engine holds."""
        core = self.engine._core
        return [] if core is None else list(core.connections)

    @property
    def open_connections(self) -> int:
        return len(self.connections)

    def address(self, name: str = "main") -> tuple[str, int]:
        return self.engine.addresses[name]

    async def connect(self, name: str = "main", tls: ssl.SSLContext | None = None, **kwargs: Any) -> Client:
        host, port = self.address(name)
        reader, writer = await asyncio.open_connection(host, port, ssl=tls, **kwargs)
        client = Client(reader, writer)
        self.clients.append(client)
        return client


class Client:
    """A raw HTTP/1 client that reads answers strictly."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def ask(self, data: bytes, *, head_only: bool = False) -> Answer:
        self.send(data)
        return await self.answer(head_only=head_only)

    async def head(self) -> Answer:
        async with asyncio.timeout(WAIT_SECONDS):
            raw = await self.reader.readuntil(b"\r\n\r\n")
        lines = raw[:-4].decode().split("\r\n")
        headers = Headers([tuple(line.split(": ", 1)) for line in lines[1:]])
        return Answer(int(lines[0].split(" ")[1]), headers)

    async def answer(self, *, head_only: bool = False) -> Answer:
        """One whole answer, final ones only."""
        async with asyncio.timeout(WAIT_SECONDS):
            answer = await self.head()
            while answer.status < 200 and answer.status != 101:
                answer = await self.head()
            if head_only or answer.status in (101, 204, 304):
                return answer
            if "content-length" in answer.headers:
                answer.body = await self.reader.readexactly(int(answer.headers["content-length"]))
            elif answer.headers.get("transfer-encoding") == "chunked":
                while chunk := await self.chunk():
                    answer.chunks.append(chunk)
                answer.body = b"".join(answer.chunks)
            else:
                answer.body = await self.reader.read()
        return answer

    async def chunk(self) -> bytes:
        async with asyncio.timeout(WAIT_SECONDS):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            data = await self.reader.readexactly(size + 2)
        return data[:-2]

    async def eof(self) -> bytes:
        """What still arrives until the server closes."""
        async with asyncio.timeout(WAIT_SECONDS):
            return await self.reader.read()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Close with RST."""
        self.writer.transport.abort()


class Answer:
    """One answer as it came off the wire."""

    def __init__(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers
        self.body = b""
        self.chunks: list[bytes] = []

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])


def listener(name: str = "main", kind: str = "reverse", **fields: Any) -> Listener:
    return Listener(name=name, kind=kind, host="127.0.0.1", port=0, loopback=True, **fields)


@asynccontextmanager
async def running(
    confdir: Path,
    serve: Handler = echo,
    *,
    listeners: tuple[Listener, ...] | None = None,
    policy: Policy | None = None,
    authorities: Path | None = None,
    **limits: Any,
) -> AsyncIterator[Running]:
    """An engine on a port of its own, closed afterwards; fails the test if a driver or connection is left."""
    policy, log = policy or Policy(), Log()
    engine = MitmEngine(listeners or (listener(),), LimitsEntry(**limits), serve, policy, confdir, log, authorities)
    await engine.start()
    harness = Running(engine, policy, log)
    try:
        yield harness
    finally:
        await engine.close(deadline_seconds=0.2)
        for client in harness.clients:
            client.close()
            with suppress(OSError, TimeoutError):
                await asyncio.wait_for(client.writer.wait_closed(), WAIT_SECONDS)
        assert engine.active == 0
        assert harness.open_connections == 0


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that the loop brings about."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)
