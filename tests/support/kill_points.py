"""A plugin that counts the points at which money can be lost, and kills the process at one of them.

The points of an exchange, in the order in which it comes to them: before and after every commit of the ledger that
writes for it, before and after everything that is asked outside for it, and along its call of the provider. A request
with the header `x-kill-at: N` kills at the N-th, and with 0 at none; what it came to stands in `kill-points` beside
the configuration. Reads of the ledger are no points.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

from proxy.egress import Egress
from proxy.exchange import Exchange, Response
from proxy.ledger.books import Books
from proxy.ledger.operations import Flushing, Operation, Reading, ReadingPurses
from proxy.ledger.payment_operations import Looking, Writing
from proxy.ledger.store import SqliteLedger
from proxy.ledger.writer import Writer
from proxy.plugin import Next, Plugin, PluginSettings, Services, Stage
from proxy.upstreams.client import PooledClient, PooledResponse

HEADER: Final = "x-kill-at"
PLUGIN: Final = f"{__name__}:KillPoints"
"""For the chain."""
RECORD: Final = "kill-points"
_READS: Final = (Looking, Reading, ReadingPurses, Flushing)


class Counting:
    """The points of one exchange. A name counts when it first comes up: how often something is asked may vary."""

    def __init__(self, kill_at: int) -> None:
        self._kill_at = kill_at
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def point(self, name: str) -> None:
        """The exchange has come here."""
        with self._lock:
            if name in self._seen:
                return
            self._seen.add(name)
            with Path(RECORD).open("a") as record:
                record.write(f"{name}\n")
            if len(self._seen) == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(60)


_COUNTING: ContextVar[Counting | None] = ContextVar("counting", default=None)
_written: dict[Operation, Counting] = {}
"""Operations of counted exchanges, from when they are handed over to when they are written."""
_batch: list[tuple[Counting, str]] = []
"""Of the writer's thread: what the transaction under way is for."""


class KillPoints(Plugin[PluginSettings]):
    """Instruments the process it is in, for good."""

    name = "kill_points"
    stage = Stage.OBSERVE

    def __init__(self, settings: PluginSettings, services: Services) -> None:
        super().__init__(settings, services)
        if not getattr(Writer, "instrumented", False):
            _instrument()

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        kill_at = exchange.request.headers.get(HEADER)
        if kill_at is not None:
            Path(RECORD).unlink(missing_ok=True)
            _COUNTING.set(Counting(int(kill_at)))
        return await call_next(exchange)


def name_of(operation: Operation) -> str:
    """What it writes, in a word."""
    if isinstance(operation, Writing):
        return operation.write.__qualname__.split(".")[-3]
    return type(operation).__name__


def _instrument() -> None:
    Writer.instrumented = True  # type: ignore[attr-defined]
    _of_the_ledger()
    _around(Egress, "request", lambda _, method, path, **more: f"{method} {path or '/'}{_called(more.get('json'))}")
    _around(PooledClient, "send", lambda *_, **__: "call of the provider")
    _around(PooledResponse, "read", lambda *_: "the provider's whole answer")


def _called(document: Any) -> str:
    """The method of a JSON-RPC call, and of a call of a contract its selector."""
    if not isinstance(document, dict) or "jsonrpc" not in document:
        return ""
    called = document["params"][0] if document["params"] else None
    data = (called.get("data") or called.get("input")) if isinstance(called, dict) else None
    return f" {document['method']}" + (f" {data[:10]}" if data else "")


def _around(owner: type, method: str, named: Callable[..., str]) -> None:
    """A point before, and one after."""
    original: Callable[..., Awaitable[Any]] = getattr(owner, method)

    async def pointed(self: Any, *positional: Any, **keywords: Any) -> Any:
        counting = _COUNTING.get()
        if counting is None:
            return await original(self, *positional, **keywords)
        name = named(self, *positional, **keywords)
        counting.point(f"before {name}")
        answer = await original(self, *positional, **keywords)
        counting.point(f"after {name}")
        return answer

    setattr(owner, method, pointed)


def _of_the_ledger() -> None:
    submit, transact, commit = SqliteLedger._submit, Writer._transact, Books.commit

    def submitted(self: SqliteLedger, operation: Operation) -> None:
        counting = _COUNTING.get()
        if counting is not None and not isinstance(operation, _READS):
            _written[operation] = counting
        submit(self, operation)

    def transacted(self: Writer, batch: list[Operation]) -> None:
        _batch[:] = [(_written[one], name_of(one)) for one in batch if one in _written]
        try:
            transact(self, batch)
        finally:
            _batch.clear()
            for one in batch:
                _written.pop(one, None)

    def committed(self: Books) -> None:
        for counting, name in _batch:
            counting.point(f"before commit of {name}")
        commit(self)
        for counting, name in _batch:
            counting.point(f"after commit of {name}")

    SqliteLedger._submit = submitted  # type: ignore[method-assign]
    Writer._transact = transacted  # type: ignore[method-assign]
    Books.commit = committed  # type: ignore[method-assign]
