"""Many streams at once, every chunk checked: when it came, and that none is missing, doubled or out of order."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import time
from dataclasses import dataclass, field
from typing import Final, cast

import uvloop

from bench.cpu import cpu_seconds
from bench.load import SETTLE_SECONDS
from bench.wire import Endpoint

STREAMS: Final = 100
CHUNKS: Final = 100
CHUNK_MILLISECONDS: Final = 20
RAMP_SECONDS: Final = CHUNKS * CHUNK_MILLISECONDS / 1000
"""Arrivals are spread over the length of one stream, so that as many begin as end at any moment."""
STREAM_SECONDS_MAX: Final = 120


class ChunkedBody:
    """Takes an HTTP/1.1 answer apart as it comes: head, then the bytes of its chunks."""

    def __init__(self) -> None:
        self.status = 0
        self.ended = False
        self._buffer = bytearray()
        self._left = 0
        """Bytes of the current chunk still to come, its closing line end included."""

    def feed(self, data: bytes) -> bytes:
        """The body's bytes in `data`. ValueError when it is not a chunked answer."""
        buffer = self._buffer
        buffer += data
        if not self.status:
            head, mark, rest = bytes(buffer).partition(b"\r\n\r\n")
            if not mark:
                return b""
            self.status = int(head[9:12])
            if b"\r\ntransfer-encoding: chunked" not in head.lower():
                raise ValueError(f"not a stream: {head[:200].decode(errors='replace')}")
            buffer[:] = rest
        body = b""
        while buffer:
            if self._left:
                piece = bytes(buffer[: self._left])
                self._left -= len(piece)
                del buffer[: len(piece)]
                body += piece if self._left > 1 else piece[: -2 + self._left]
                continue
            line_end = buffer.find(b"\r\n")
            if line_end < 0:
                break
            size = int(buffer[:line_end].split(b";")[0], 16)
            if size == 0:
                self.ended = buffer[line_end:].endswith(b"\r\n\r\n")
                break
            del buffer[: line_end + 2]
            self._left = size + 2
        return body


class Stream(asyncio.Protocol):
    """One streamed request on its own connection. `done` ends with the connection's use, faults in `faults`."""

    def __init__(self, request: bytes, chunks: int) -> None:
        self.first_ms = 0.0
        """From the begin of connecting to the first content."""
        self.delays_ms: list[float] = []
        """For each chunk, from its writing by the upstream to its reading here."""
        self.faults: list[str] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._begun = time.monotonic_ns()
        self._request = request
        self._chunks = chunks
        self._body = ChunkedBody()
        self._events = b""
        self._finished = False
        self._marked_end = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask at once."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Check what came."""
        now = time.monotonic_ns()
        try:
            self._events += self._body.feed(data)
            *events, self._events = self._events.split(b"\n\n")
            for event in events:
                self._event(event, now)
        except (ValueError, KeyError, IndexError) as error:
            self._fault(f"{type(error).__name__}: {error}")
            self._close()
            return
        if self._body.ended:
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The stream is over, however it ended."""
        if len(self.delays_ms) != self._chunks:
            self._fault(f"{len(self.delays_ms)} of {self._chunks} chunks")
        if not (self._finished and self._marked_end and self._body.ended):
            self._fault("no regular end")
        if not self.done.done():
            self.done.set_result(None)

    def _event(self, event: bytes, now: int) -> None:
        if not event.startswith(b"data: "):
            if not event.startswith(b":"):
                self._fault(f"not an event: {event[:80]!r}")
            return
        if event == b"data: [DONE]":
            self._marked_end = True
            return
        chunk = json.loads(event[6:])
        if chunk.get("usage"):
            self._fault("a usage chunk that was not asked for")
        for choice in chunk["choices"]:
            if choice.get("finish_reason"):
                self._finished = True
            if content := choice["delta"].get("content"):
                number, _, written = content.partition(":")
                if int(number) != len(self.delays_ms):
                    self._fault(f"chunk {number} came as the {len(self.delays_ms)}th")
                if not self.delays_ms:
                    self.first_ms = (now - self._begun) / 1e6
                self.delays_ms.append((now - int(written)) / 1e6)

    def _fault(self, what: str) -> None:
        if what not in self.faults:
            self.faults.append(what)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()


@dataclass(slots=True)
class StreamRun:
    """What one round against one endpoint showed."""

    streams: int = 0
    chunks: int = 0
    failed: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    first_ms: list[float] = field(default_factory=list)
    delay_ms: list[float] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)

    @property
    def cpu_us(self) -> float:
        """CPU microseconds of the gateway for each chunk, the streams' begin and end included."""
        return 1e6 * self.cpu_seconds / max(self.chunks, 1)

    def add(self, stream: Stream) -> None:
        """Count a stream that is over."""
        self.streams += 1
        self.chunks += len(stream.delays_ms)
        self.delay_ms.extend(stream.delays_ms)
        if stream.delays_ms:
            self.first_ms.append(stream.first_ms)
        if stream.faults:
            self.failed += 1
            for fault in stream.faults:
                self.faults[fault] = self.faults.get(fault, 0) + 1


async def _one(endpoint: Endpoint, request: bytes, run: StreamRun) -> None:
    loop = asyncio.get_running_loop()
    stream = Stream(request, CHUNKS)
    try:
        async with asyncio.timeout(STREAM_SECONDS_MAX):
            transport, _ = await loop.create_connection(lambda: stream, "127.0.0.1", endpoint.port)
            try:
                await stream.done
            finally:
                transport.close()
    except (OSError, TimeoutError) as error:
        stream.faults.append(type(error).__name__)
    run.add(stream)


async def _slot(endpoint: Endpoint, requests: list[bytes], wait: float, run: StreamRun) -> None:
    await asyncio.sleep(wait)
    for request in requests:
        await _one(endpoint, request, run)


async def _all(endpoint: Endpoint, streams: int, waves: int, seed: int) -> StreamRun:
    """`streams` slots, each with `waves` streams one after the other; arrivals uniform over RAMP_SECONDS."""
    run = StreamRun()
    arrivals = random.Random(seed)
    requests = endpoint.requests(stream=True)
    async with asyncio.TaskGroup() as slots:
        for slot in range(streams):
            turn = [requests[(slot * waves + wave) % len(requests)] for wave in range(waves)]
            slots.create_task(_slot(endpoint, turn, arrivals.uniform(0, RAMP_SECONDS), run))
    return run


def run_streams(endpoint: Endpoint, pid: int, *, waves: int, seed: int, streams: int = STREAMS) -> StreamRun:
    """One round; the same seed gives the same arrivals. CPU is that of the tree under `pid`."""
    gc.collect()
    gc.disable()
    try:
        before, begun = cpu_seconds(pid), time.monotonic()
        run = uvloop.run(_all(endpoint, streams, waves, seed))
        run.seconds = time.monotonic() - begun
        time.sleep(SETTLE_SECONDS)
        run.cpu_seconds = cpu_seconds(pid) - before
    finally:
        gc.enable()
    return run
