"""Many clients at once: one asyncio connection each, read piece by piece, left politely or not."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Self

import orjson

from tests.support.raw import Answer, request

SECONDS_MAX = 20.0
INPUT_NANO = 2_500
"""GPT_4O_PRICE of tests.support.world, nano-dollars a token."""
OUTPUT_NANO = 10_000
EVENT = b"data: "


def chat(model: str = "gpt-4o", *, prompt: str = "Say hello.", max_tokens: int = 50, **members: Any) -> bytes:
    """A chat completion's body."""
    return orjson.dumps(
        {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens, **members}
    )


def hold_nano(body: bytes, max_tokens: int) -> int:
    """What is set aside for a body of one message: a token for each byte, 256 for the request, 16 for the message."""
    return (len(body) + 256 + 16) * INPUT_NANO + max_tokens * OUTPUT_NANO


def cost_nano(prompt_words: int, output_words: int) -> int:
    """List price of what the scripted provider did, which takes a word for a token."""
    return prompt_words * INPUT_NANO + output_words * OUTPUT_NANO


class Client:
    """`async with Client(address) as client`; every wait ends after SECONDS_MAX with TimeoutError."""

    def __init__(self, address: tuple[str, int], *, source: str | None = None) -> None:
        self._address = address
        self._source = source
        self._buffer = b""
        self.headers: dict[str, str] = {}
        self.status = 0

    async def __aenter__(self) -> Self:
        local = None if self._source is None else (self._source, 0)
        self._reader, self._writer = await asyncio.open_connection(*self._address, local_addr=local)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def send(self, data: bytes) -> None:
        """All of it."""
        self._writer.write(data)
        await self._writer.drain()

    async def head(self) -> int:
        """Read the next head; returns its status. Raises ConnectionError where the peer ended before."""
        await self._until(b"\r\n\r\n")
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.status = int(status_line.split()[1])
        return self.status

    async def until(self, mark: bytes, count: int = 1) -> None:
        """Read on until `mark` came `count` times in the body."""
        await self._until(mark, count)

    async def answer(self) -> Answer:
        """The next answer, whole. Raises ConnectionError where it is cut."""
        await self.head()
        return await self.rest()

    async def rest(self) -> Answer:
        """What belongs to the head just read."""
        if self.headers.get("transfer-encoding") == "chunked":
            await self._until(b"\r\n0\r\n\r\n")
            raw, _, self._buffer = self._buffer.partition(b"\r\n0\r\n\r\n")
            return Answer(self.status, self.headers, _joined(raw + b"\r\n"))
        length = int(self.headers.get("content-length", 0))
        while len(self._buffer) < length:
            await self._more()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return Answer(self.status, self.headers, body)

    async def ask(self, data: bytes) -> Answer:
        """Send one request and read its answer."""
        await self.send(data)
        return await self.answer()

    async def ended(self) -> bytes:
        """Read to the end of the connection, whichever way it ends; returns what came before it."""
        with contextlib.suppress(ConnectionError):
            while True:
                await self._more()
        return self._buffer

    def leave(self) -> None:
        """Cut the connection."""
        self._writer.transport.abort()

    async def _until(self, mark: bytes, count: int = 1) -> None:
        while self._buffer.count(mark) < count:
            await self._more()

    async def _more(self) -> None:
        async with asyncio.timeout(SECONDS_MAX):
            data = await self._reader.read(1 << 16)
        if not data:
            raise ConnectionError("closed by the peer")
        self._buffer += data


def _joined(chunks: bytes) -> bytes:
    body = b""
    while chunks:
        size, _, chunks = chunks.partition(b"\r\n")
        length = int(size, 16)
        body, chunks = body + chunks[:length], chunks[length + 2 :]
    return body


async def ask(
    address: tuple[str, int], body: bytes, *, key: str | None, source: str | None = None, headers: tuple[str, ...] = ()
) -> Answer:
    """One request on a connection of its own."""
    async with Client(address, source=source) as client:
        return await client.ask(request(body, key=key, headers=headers))


async def get(address: tuple[str, int], path: str) -> Answer:
    """One GET on a connection of its own."""
    async with Client(address) as client:
        return await client.ask(request(path=path, method="GET"))
