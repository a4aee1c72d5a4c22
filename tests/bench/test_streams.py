"""The bench's stream client: it must see every fault, or its "none lost" is worth nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from bench.streams import ChunkedBody, Stream

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def event(content: str, *, finish: str = "null", usage: str = "") -> bytes:
    """One chunk of a chat completion as an event."""
    return f'data: {{"choices":[{{"delta":{{"content":"{content}"}},"finish_reason":{finish}}}]{usage}}}\n\n'.encode()


def framed(body: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%s\r\n" % (len(body), body)


def numbered(*numbers: int) -> list[bytes]:
    """Events with these numbers, written now."""
    return [event(f"{number}:{time.monotonic_ns()} ") for number in numbers]


END = [event("", finish='"stop"'), b"data: [DONE]\n\n"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_body_is_the_same_under_any_cut(size: int) -> None:
    """However the network cuts an answer, its body comes out whole."""
    answer = HEAD + framed(b"one ") + framed(b"two\r\n") + framed(b"three") + b"0\r\n\r\n"
    body = ChunkedBody()
    seen = b"".join(body.feed(answer[at : at + size]) for at in range(0, len(answer), size))
    assert seen == b"one two\r\nthree"
    assert body.ended
    assert body.status == 200


async def faults_of(pieces: list[bytes], *, end: bytes = b"0\r\n\r\n", chunks: int = 3) -> list[str]:
    """What the client finds wrong with an answer of a real server."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"".join(framed(piece) for piece in pieces) + end)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        stream = Stream(b"POST / HTTP/1.1\r\n\r\n", chunks)
        await asyncio.get_running_loop().create_connection(lambda: stream, "127.0.0.1", port)
        async with asyncio.timeout(10):
            await stream.done
    return stream.faults


async def test_a_whole_stream_has_no_fault() -> None:
    """Numbers in order, a finish, the end mark, the last HTTP chunk: nothing to complain about."""
    assert await faults_of([*numbered(0, 1, 2), b": heartbeat\n\n", *END]) == []


@pytest.mark.parametrize(
    ("pieces", "end", "fault"),
    [
        (lambda: [*numbered(0, 2), *END], b"0\r\n\r\n", "chunk 2 came as the 1th"),
        (lambda: [*numbered(0, 2, 1), *END], b"0\r\n\r\n", "chunk 2 came as the 1th"),
        (lambda: [*numbered(0, 1, 1, 2), *END], b"0\r\n\r\n", "chunk 1 came as the 2th"),
        (lambda: [*numbered(0, 1), *END], b"0\r\n\r\n", "2 of 3 chunks"),
        (lambda: numbered(0, 1, 2), b"0\r\n\r\n", "no regular end"),
        (lambda: [*numbered(0, 1, 2), *END], b"", "no regular end"),
        (lambda: [*numbered(0, 1, 2), event("", usage=',"usage":{"total_tokens":1}'), *END], b"0\r\n\r\n",
         "a usage chunk that was not asked for"),
        (lambda: [*numbered(0, 1, 2), b"event: ping\n\n", *END], b"0\r\n\r\n", "not an event: b'event: ping'"),
    ],
)  # fmt: skip
async def test_each_fault_is_seen(pieces: Callable[[], list[bytes]], end: bytes, fault: str) -> None:
    """Lost, reordered, doubled, cut, unasked for: each is named."""
    assert fault in await faults_of(pieces(), end=end)
