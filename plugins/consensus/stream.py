"""A run told as it goes: the engine writes events into a queue, the client reads them at its own pace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

from plugins.consensus.run import Run
from plugins.consensus.wires import Meta, Wire
from proxy.consensus.api import Event, RunFailed
from proxy.errors import Refusal
from proxy.exchange import Exchange
from proxy.ledger.errors import LedgerClosed, LedgerError


class RunStream:
    """See ByteStream. Begins to run when it is first read; given up, it cancels every call and waits for their ends.

    The queue is as long as the answer, which the mode's output limit bounds, so that a slow client holds up no model.
    """

    def __init__(self, exchange: Exchange, run: Run, wire: Wire, meta: Meta, log: Any) -> None:
        self.before_content: list[Callable[[], Awaitable[None]]] = []
        self._exchange = exchange
        self._run = run
        self._wire = wire
        self._meta = meta
        self._log = log
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._begun = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces()

    async def aclose(self) -> None:
        """See ByteStream."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        try:
            await _ended(task)
        finally:
            if task.done() and not task.cancelled() and task.exception() is not None:
                self._log.error("run_failed", request_id=self._exchange.request_id, exc_info=task.exception())

    async def _pieces(self) -> AsyncIterator[bytes]:
        task = self._task = asyncio.get_running_loop().create_task(self._produce(), name="panel")
        try:
            yield self._wire.opening()
            while (piece := await self._queue.get()) is not None:
                yield piece
            self._task = None
            await task  # A fault of ours is raised here, and cuts the answer.
        finally:
            if not task.done():
                task.cancel()
                await _ended(task)

    async def _produce(self) -> None:
        try:
            await self._tell()
        finally:
            self._queue.put_nowait(None)

    async def _tell(self) -> None:
        try:
            result = await self._run.run(self._emit)
            await self._begin_content()
        except RunFailed as failure:
            self._failed(failure)
            return
        except Refusal as refusal:
            self._failed(RunFailed(refusal))
            return
        try:
            closing = self._wire.closing(result, self._run.calls.records, self._run.meta(self._meta))
        except RuntimeError:
            self._run.failed()  # The answer is cut.
            raise
        self._put(closing)

    async def _emit(self, event: Event) -> None:
        if event.name == "token":
            await self._begin_content()
        self._put(self._wire.event(event))

    async def _begin_content(self) -> None:
        """What must be true before anything of the answer goes out. Raises RunFailed where it cannot be made so."""
        if self._begun:
            return
        try:
            await _uninterrupted(self._ready())
        except (LedgerError, LedgerClosed) as lost:
            self._log.error("payment_not_burnt", request_id=self._exchange.request_id, exc_info=lost)
            refusal = Refusal("payment_unknown", "What pays for this answer is no longer there.", retry_after_seconds=5)
            raise RunFailed(refusal) from lost
        except Refusal as refusal:
            raise RunFailed(refusal) from refusal

    async def _ready(self) -> None:
        for ready in self.before_content:
            await ready()
        self._begun = True
        self._run.answering()

    def _failed(self, failure: RunFailed) -> None:
        self._run.failed()
        self._exchange.refusal = failure.refusal
        self._put(self._wire.failed(failure))

    def _put(self, piece: bytes) -> None:
        if piece:
            self._queue.put_nowait(piece)


async def _uninterrupted(work: Coroutine[Any, Any, None]) -> None:
    """To its end whatever happens meanwhile, a deadline or a client that leaves: what is written durably must be known
    to be written. A cancellation goes on afterwards."""
    task = asyncio.get_running_loop().create_task(work, name="before content")
    try:
        await _ended(task)
    except asyncio.CancelledError:
        if not task.cancelled():
            task.exception()  # It is the cancellation that goes on.
        raise
    task.result()


async def _ended(task: asyncio.Task[None]) -> None:
    """Wait for it, however often we are cancelled meanwhile. A cancellation goes on afterwards."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as again:
            cancelled = again
    if cancelled is not None:
        raise cancelled
