"""The whole life of one exchange: resolve, run the chain, send the answer, finish exactly once.

A client that leaves before an upstream was called cancels its exchange. Once one was called, the answer is
read on in place, sent nowhere, until its usage is known or a limit in seconds or bytes is reached: leaving
just before the end is no discount, and a provider's bill has a row to stand on. An exchange may say otherwise: a
panel's calls are cancelled at once (`WhenLeft`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from proxy.chain import internal_error
from proxy.clock import Clock
from proxy.dialects import DIALECTS
from proxy.errors import Refusal, error_body
from proxy.exchange import Exchange, Finish, Response, WhenLeft
from proxy.listeners.api import Arrival, Downstream
from proxy.plugin import Next
from proxy.upstreams.api import UpstreamFailure

HEARTBEAT = b": heartbeat\n\n"
_EVENT_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")


@dataclass(frozen=True, slots=True)
class DriverLimits:
    """See ConfigFile for the meaning of each."""

    heartbeat_seconds: float
    drain_client_gone_seconds: float
    drain_client_gone_bytes: int
    closing_seconds_max: float = 5.0
    """Longest wait for `before_finish` (our own token count)."""


class Driver:
    """Made once by the gateway; `serve` is what listeners are given."""

    def __init__(
        self,
        *,
        open_exchange: Callable[[Arrival], Exchange],
        chain: Callable[[Exchange], Next],
        limits: DriverLimits,
        request_id_header: str,
        on_open: Callable[[Exchange], None],
        on_end: Callable[[Exchange, Finish], None],
        clock: Clock,
        log: Any,
    ) -> None:
        self._open = open_exchange
        self._chain = chain
        self.limits = limits
        self.request_id_header = request_id_header
        self._on_open = on_open
        self._on_end = on_end
        self.clock = clock
        self.log = log

    async def serve(self, arrival: Arrival, downstream: Downstream) -> None:
        """The life of one exchange. Never raises."""
        exchange = self._open(arrival)
        self._on_open(exchange)
        run = _Run(self, exchange, downstream)
        downstream.on_gone(run.client_left)
        reason = Finish.FAILED
        try:
            reason = await run.serve(self._chain(exchange))
        except asyncio.CancelledError:
            reason = Finish.CLIENT_GONE if exchange.client_gone else Finish.DRAINED
            downstream.abort()
            if exchange.cut:
                await run.count_cut()
            elif exchange.when_left is not WhenLeft.DRAIN:
                await run.end_calls()
        except BaseException as error:
            self.log.error("exchange_failed", request_id=exchange.request_id, exc_info=error)
            await run.fail()
            if exchange.when_left is not WhenLeft.DRAIN:
                await run.end_calls()
        finally:
            run.stop_timers()
            for raised in exchange.finish(reason):
                self.log.error("finish_failed", request_id=exchange.request_id, exc_info=raised)
            self._on_end(exchange, reason)
            await run.close_streams()


class _Run:
    """One exchange under way."""

    __slots__ = (
        "_answer",
        "_at_boundary",
        "_beat",
        "_down",
        "_drain",
        "_drained",
        "_driver",
        "_exchange",
        "_last_sent",
        "_loop",
        "_started",
        "_task",
        "_writing",
    )

    def __init__(self, driver: Driver, exchange: Exchange, downstream: Downstream) -> None:
        self._driver = driver
        self._exchange = exchange
        self._down = downstream
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._answer: Response | None = None
        self._started = False
        self._beat: asyncio.TimerHandle | None = None
        self._drain: asyncio.TimerHandle | None = None
        self._drained = 0
        self._last_sent = 0.0
        self._at_boundary = True
        self._writing = False

    def client_left(self) -> None:
        """The listener's word that the client is gone."""
        exchange = self._exchange
        if exchange.client_gone or exchange.finished is not None or self._task is None:
            return
        exchange.client_gone = True
        if exchange.when_left is WhenLeft.STAY:
            return
        if exchange.dispatched and exchange.when_left is WhenLeft.DRAIN:
            self._drain = self._loop.call_later(self._driver.limits.drain_client_gone_seconds, self._give_up)
        else:
            self._task.cancel()

    def _give_up(self) -> None:
        """The drain has reached its limit in seconds."""
        self._exchange.give_up()
        if self._task is not None:
            self._task.cancel()

    async def serve(self, chain: Next) -> Finish:
        """Run the chain and send what it answers."""
        exchange = self._exchange
        response = self._answer = await chain(exchange)
        response.headers[self._driver.request_id_header] = exchange.request_id
        exchange.status = response.status
        if response.upgrade is not None:
            up = response.upgrade
            await self._down.forward(up.host, up.port, tls=up.tls, headers=up.headers)
            return Finish.SERVED
        if response.stream is None:
            reason = await self._whole(response)
        else:
            reason = await self._streamed(response)
        if reason is Finish.CLIENT_GONE:  # The drain reached its limit in bytes: what it cost is not known.
            exchange.give_up()
        if exchange.before_finish:
            await self._closings()
        return Finish.CLIENT_GONE if exchange.client_gone else reason

    async def _closings(self) -> None:
        """Past the time limit the rest is left out: a hold without usage then settles in full."""
        try:
            async with asyncio.timeout(self._driver.limits.closing_seconds_max):
                for closing in self._exchange.before_finish:
                    await closing()
        except TimeoutError:
            self._driver.log.warning("closing_timeout", request_id=self._exchange.request_id)

    async def end_calls(self) -> None:
        """Wait for the ends of what is cancelled with it, so that they are counted before it is settled."""
        try:
            await self.close_streams()
        except BaseException as error:
            # Told once more to end: it does, and whatever is left is closed behind the settlement.
            if not isinstance(error, asyncio.CancelledError):
                self._driver.log.error("closing_failed", request_id=self._exchange.request_id, exc_info=error)

    async def count_cut(self) -> None:
        """Count what came of an answer that is given up; whatever befalls the count, the exchange ends."""
        await self.close_streams()
        try:
            await self._closings()
        except BaseException as error:
            self._driver.log.error("closing_failed", request_id=self._exchange.request_id, exc_info=error)

    async def _whole(self, response: Response) -> Finish:
        exchange = self._exchange
        exchange.bytes_out = len(response.body)
        exchange.first_byte = self._driver.clock.monotonic()
        self._started = True
        await self._down.respond(response.status, response.headers, response.body, close=response.close)
        if exchange.refusal is None:
            return Finish.SERVED
        return Finish.UPSTREAM_FAILED if exchange.refusal.code.startswith("upstream_") else Finish.REFUSED

    async def _streamed(self, response: Response) -> Finish:
        await self._down.start(response.status, response.headers)
        self._started = True
        if response.sse:
            self._last_sent = self._loop.time()
            self._schedule_beat()
        try:
            for chunk in response.peeked:
                await self._send(response, chunk)
            response.peeked = []
            while chunk := await response.pull():
                await self._send(response, chunk)
                if self._exchange.client_gone and self._exchange.when_left is not WhenLeft.STAY:
                    self._drained += len(chunk)
                    if self._drained > self._driver.limits.drain_client_gone_bytes:
                        return Finish.CLIENT_GONE
        except UpstreamFailure as failure:
            await self._broken(response, failure)
            return Finish.UPSTREAM_FAILED
        await self._send(response, b"")
        self.stop_timers()
        await self._down.end()
        refusal = self._exchange.refusal
        broken = refusal is not None and refusal.code.startswith("upstream_")
        return Finish.UPSTREAM_FAILED if broken else Finish.SERVED

    async def _send(self, response: Response, chunk: bytes) -> None:
        last = not chunk
        for transform in response.transforms:
            if chunk:
                chunk = transform(chunk)
                if last:
                    # What the one before it kept to the end came first; now it learns of the end itself.
                    chunk += transform(b"")
            elif last:
                chunk = transform(b"")
        if not chunk or self._exchange.client_gone:
            return
        exchange = self._exchange
        if exchange.first_byte is None:
            exchange.first_byte = self._driver.clock.monotonic()
        exchange.bytes_out += len(chunk)
        self._writing = True
        await self._down.write(chunk)
        self._writing = False
        if response.sse:
            self._last_sent = self._loop.time()
            self._at_boundary = chunk.endswith(_EVENT_ENDS)

    async def _broken(self, response: Response, failure: UpstreamFailure) -> None:
        """The upstream failed after the head: an error event where the format has one, else a cut."""
        self.stop_timers()
        dialect = self._exchange.operation.dialect
        if not response.sse or dialect is None:
            self._down.abort()
            return
        body = error_body(
            f"The upstream broke off in the middle of the answer ({failure.kind.value}). "
            f"What came before is incomplete. Request id {self._exchange.request_id}.",
            "api_error",
            "upstream_error",
            dialect=dialect,
        )
        separator = b"" if self._at_boundary else b"\n\n"
        await self._down.write(separator + DIALECTS[dialect].error_event(body))
        await self._down.end()

    def _schedule_beat(self) -> None:
        wait = self._driver.limits.heartbeat_seconds - (self._loop.time() - self._last_sent)
        self._beat = self._loop.call_later(max(wait, 0.01), self._heartbeat)

    def _heartbeat(self) -> None:
        silent = self._loop.time() - self._last_sent
        if silent >= self._driver.limits.heartbeat_seconds and self._at_boundary and not self._writing:
            self._last_sent = self._loop.time()
            task = self._loop.create_task(self._write_heartbeat(), name="heartbeat")
            task.add_done_callback(_forget)
        elif silent >= self._driver.limits.heartbeat_seconds:
            self._last_sent = self._loop.time()
        self._schedule_beat()

    async def _write_heartbeat(self) -> None:
        """Unless something was sent, or the end, in the moment since it fell due: it must tear no event."""
        if self._at_boundary and not self._writing and self._beat is not None:
            await self._down.write(HEARTBEAT)

    def stop_timers(self) -> None:
        """No heartbeat and no drain deadline after this."""
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None
        if self._drain is not None:
            self._drain.cancel()
            self._drain = None

    async def fail(self) -> None:
        """A fault of ours outside the chain: 500 where nothing was sent yet, else a cut."""
        if self._started:
            self._down.abort()
            return
        refusal: Refusal = internal_error(self._exchange.request_id)
        self._exchange.refusal = refusal
        self._exchange.status = refusal.status
        response = Response.refused(refusal, dialect=self._exchange.operation.dialect)
        response.headers[self._driver.request_id_header] = self._exchange.request_id
        await self._down.respond(response.status, response.headers, response.body, close=True)

    async def close_streams(self) -> None:
        """Give upstream connections back, or close those whose answer was not read to the end."""
        if self._answer is not None and self._answer.stream is not None:
            await self._answer.stream.aclose()
        for stream in self._exchange.streams:
            await stream.aclose()


def _forget(task: asyncio.Task[None]) -> None:
    """A heartbeat that could not be written: the client's absence is noticed elsewhere."""
    if not task.cancelled():
        task.exception()
