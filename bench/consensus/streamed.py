"""A run told to a client: the panel's stream and the product's own driver, on virtual time, to a client in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from bench.consensus.items import Item
from bench.consensus.laws import Laws
from bench.consensus.panels import rates_of, shipped
from bench.consensus.scripted import ScriptedCalls
from plugins.consensus.chat_wire import ChatWire
from plugins.consensus.stream import RunStream
from plugins.consensus.wires import Meta
from proxy.clock import SystemClock
from proxy.consensus.api import Emit, Question, Result
from proxy.consensus.engine import Engine
from proxy.driver import Driver, DriverLimits
from proxy.exchange import Exchange, ListenerKind, Origin, Request, Response, WhenLeft
from proxy.headers import Headers
from proxy.listeners.api import Arrival
from proxy.operations import CHAT
from proxy.telemetry.log import get_logger

QUESTION_TOKENS = 1024


@dataclass(slots=True)
class Client:
    """See proxy.listeners.api.Downstream. Notes when bytes come."""

    at: list[float] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    gone: bool = False
    _left: Callable[[], None] | None = None

    def _note(self, piece: bytes) -> None:
        if piece and not self.gone:
            self.at.append(asyncio.get_running_loop().time())
            self.body += piece

    def leave(self) -> None:
        """The client goes away."""
        self.gone = True
        if self._left is not None:
            self._left()

    def on_gone(self, callback: Callable[[], None]) -> None:
        """See Downstream."""
        self._left = callback

    async def respond(self, status: int, headers: Headers, body: bytes, *, close: bool) -> None:
        """See Downstream."""
        self._note(body)

    async def start(self, status: int, headers: Headers) -> None:
        """See Downstream: the head counts as bytes."""
        self.at.append(asyncio.get_running_loop().time())

    async def write(self, chunk: bytes) -> None:
        """See Downstream."""
        self._note(chunk)

    async def end(self) -> None:
        """See Downstream."""
        self.ended = True
        self.at.append(asyncio.get_running_loop().time())

    def abort(self) -> None:
        """See Downstream."""

    async def forward(self, host: str, port: int, *, tls: bool, headers: Headers) -> None:
        """See Downstream: nobody asks for it here."""
        raise NotImplementedError

    @property
    def finished(self) -> bool:
        """It got a whole answer, or an error that says why there is none."""
        return self.ended and (bytes(self.body).endswith(b"data: [DONE]\n\n") or b'"error"' in self.body)

    @property
    def longest_gap(self) -> float:
        """Seconds between two of its pieces."""
        return max((b - a for a, b in zip(self.at, self.at[1:], strict=False)), default=0.0)


class _NoBody:
    async def read(self) -> bytes:
        return b""


@dataclass(slots=True)
class _Run:
    """What RunStream asks of a run, without a chain."""

    engine: Engine
    question: Question
    mode: str
    calls: ScriptedCalls

    async def run(self, emit: Emit) -> Result:
        return await self.engine.run(self.question, self.mode, self.calls, emit)

    def answering(self) -> None:
        """Nothing is charged here."""

    def failed(self) -> None:
        """Nothing is given back here."""

    def meta(self, meta: Meta) -> Meta:
        return meta


@dataclass(slots=True)
class Told:
    """One run as its client saw it."""

    client: Client
    calls: ScriptedCalls
    left_at: float | None = None
    over_at: float = 0.0


async def tell(
    engine: Engine, mode: str, item: Item, laws: Laws, seed: int, heartbeat_seconds: float, leave_after: float | None
) -> Told:
    """The run through the driver. `leave_after`: seconds, after which the client goes."""
    loop = asyncio.get_running_loop()
    calls = ScriptedCalls(item, laws, rates_of, seed)
    question = Question(({"role": "user", "content": item.question},), QUESTION_TOKENS, domain="general")
    meta = Meta("req_bench", 0, "consensus-bench", mode)
    exchange = _exchange()
    client = Client()
    told = Told(client, calls)

    async def chain(_: Exchange) -> Response:
        exchange.dispatched, exchange.when_left = True, WhenLeft.CANCEL
        run: Any = _Run(engine, question, mode, calls)
        stream = RunStream(exchange, run, ChatWire(meta), meta, get_logger("bench"))
        exchange.streams.append(stream)
        return Response(200, Headers({"content-type": "text/event-stream"}), stream=stream, sse=True)

    driver = Driver(
        open_exchange=lambda _: exchange,
        chain=lambda _: chain,
        limits=DriverLimits(heartbeat_seconds, 5.0, 1 << 20),
        request_id_header="x-request-id",
        on_open=lambda _: None,
        on_end=lambda *_: None,
        clock=SystemClock(),
        log=get_logger("bench"),
    )
    timer = None if leave_after is None else loop.call_later(leave_after, _leave, told, loop)
    task = loop.create_task(driver.serve(Arrival(exchange.origin, exchange.request), client), name="driver")
    await asyncio.wait({task})
    if timer is not None:
        timer.cancel()
    told.over_at = loop.time()
    return told


def _leave(told: Told, loop: asyncio.AbstractEventLoop) -> None:
    told.left_at = loop.time()
    told.client.leave()


def _exchange() -> Exchange:
    return Exchange(
        request_id="req_bench",
        origin=Origin("api", ListenerKind.REVERSE, "127.0.0.1", loopback=True),
        request=Request(method="POST", path="/v1/chat/completions", headers=Headers(), reader=_NoBody()),
        operation=CHAT,
        generation=SimpleNamespace(consensus=shipped().consensus),  # type: ignore[arg-type]
        started=0.0,
        started_ms=0,
    )
