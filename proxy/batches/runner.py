"""Works batches off: a bounded number of prompts at once, each an exchange of its own through the whole chain."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random, SystemRandom
from typing import Any, Final

import orjson

from proxy.batches import store
from proxy.batches.api import BatchReport, BatchRules, Item, ItemState
from proxy.clock import Clock
from proxy.errors import Refusal, error_body
from proxy.inward import Inward, InwardAnswer, InwardCut
from proxy.state_file import StateFile
from proxy.webhooks.api import BATCH_COMPLETED
from proxy.webhooks.service import Webhooks

PATH: Final = "/v1/orchestrate"
POLL_SECONDS: Final = 1.0
"""How often it is looked for what other processes queued or cancelled."""
TIDY_SECONDS: Final = 5.0
"""How often it is asked whether the others still live, what is old is forgotten, and who was not told is told."""
RETRY_SECONDS: Final = 5.0
"""Where an answer asks to come again later and does not say when."""
JITTER: Final = 0.2
"""A wait is made longer by up to this share: what was refused together does not come back together."""
WRITE_RETRY_SECONDS: Final = 1.0
LATER: Final = frozenset({409, 429, 503})
"""Answers after which the same prompt may well be served, where they say when (503 and 429 always do)."""
HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class _End:
    """What one run came to: an end, or (`state` None) a return to the queue."""

    state: ItemState | None
    outcome: bytes = b""
    wait_seconds: float = 0.0
    waited: bool = False
    """The answer asked to come again later; else the process ends, and this run does not count at all."""


class Runner:
    """One task of the process, and one for each prompt under way."""

    def __init__(
        self,
        file: StateFile,
        inward: Inward,
        webhooks: Webhooks,
        rules: BatchRules,
        at_once_max: Callable[[], int],
        clock: Clock,
        log: Any,
        *,
        random: Random | None = None,
    ) -> None:
        self._file = file
        self._inward = inward
        self._webhooks = webhooks
        self._rules = rules
        self._at_once_max = at_once_max
        self._clock = clock
        self._log = log
        self._random = random or SystemRandom()
        self._task: asyncio.Task[None] | None = None
        self._running: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._unwanted: set[tuple[str, int]] = set()
        self._woken = asyncio.Event()
        self._telling = asyncio.Lock()
        self._tidy_at = 0.0
        self._draining = False

    @property
    def kept_ms(self) -> int:
        """How long results are kept."""
        return self._rules.kept_hours * HOUR_MS

    def start(self) -> None:
        """Begin, at once: a process that died may have left something."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="batches")

    def wake(self) -> None:
        """Something was queued or cancelled."""
        self._woken.set()

    async def stop(self) -> None:
        """What runs is cancelled and goes back to the queue."""
        self._draining = True
        tasks = {task for task in (self._task, *self._running.values()) if task is not None}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _run(self) -> None:
        await self._inward.stands()
        while not self._draining:
            self._woken.clear()
            wait = POLL_SECONDS
            try:
                wait = await self._round()
            except (sqlite3.Error, Refusal) as error:
                self._log.error("batches_unreadable", error=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._woken.wait()

    async def _round(self) -> float:
        """Begin what is due; says how long there is nothing to do."""
        if self._clock.monotonic() >= self._tidy_at:
            self._tidy_at = self._clock.monotonic() + TIDY_SECONDS
            await self._tidy()
        if self._running:
            await self._cancel_unwanted()
        boot, now = self._file.boot, self._clock.now_ms()
        due_ms = await self._file.read(store.next_due_ms)
        while due_ms is not None and due_ms <= now and len(self._running) < self._at_once_max():
            item = await self._file.write(lambda connection: store.claim(connection, boot, now))
            if item is None:
                break
            self._begin(item)
        if due_ms is None or due_ms <= now:
            return POLL_SECONDS
        return min(POLL_SECONDS, (due_ms - now) / 1000)

    def _begin(self, item: Item) -> None:
        place = (item.batch, item.number)
        task = asyncio.get_running_loop().create_task(self._work(item), name=f"{item.batch} {item.number}")
        self._running[place] = task

        def ended(done: asyncio.Task[None]) -> None:
            self._running.pop(place, None)
            self._unwanted.discard(place)
            if not done.cancelled() and (fault := done.exception()) is not None:
                self._log.error("batch_item_failed", batch=item.batch, item=item.number, exc_info=fault)
            self._woken.set()

        task.add_done_callback(ended)

    async def _cancel_unwanted(self) -> None:
        boot = self._file.boot
        for place in await self._file.read(lambda connection: store.canceled(connection, boot)):
            task = self._running.get(place)
            if task is not None and place not in self._unwanted:
                self._unwanted.add(place)
                task.cancel()

    async def _tidy(self) -> None:
        dead = self._file.dead(await self._file.read(store.boots))
        now, kept_ms = self._clock.now_ms(), self.kept_ms

        def tidy(connection: sqlite3.Connection) -> None:
            store.free(connection, dead, now, tries_max=self._rules.tries_max, lost=_LOST, kept_ms=kept_ms)
            store.sweep(connection, now, expired=_EXPIRED, kept_ms=kept_ms)

        await self._file.write(tidy)
        self._file.forget(dead)
        await self._tell()

    async def _tell(self) -> None:
        """Tell the owners of batches that have ended, once each however often the process dies."""
        async with self._telling:
            for batch_id, owner, url in await self._file.read(store.untold):
                await self._tell_of(batch_id, owner, url)

    async def _tell_of(self, batch_id: str, owner: str, url: str | None) -> None:
        report = await self._file.read(lambda connection: store.report(connection, owner, batch_id))
        if report is not None:
            await self._webhooks.enqueue(owner, url, BATCH_COMPLETED, _told(report), event_id=f"evt_{batch_id}")
        await self._file.write(lambda connection: store.told(connection, batch_id))

    async def _work(self, item: Item) -> None:
        # Whatever is raised on the way is a fault of ours, and the end of the prompt all the same.
        end = _failed(_FAULT)
        try:
            end = await self._ask(item)
        except asyncio.CancelledError:
            end = _End(ItemState.CANCELED if (item.batch, item.number) in self._unwanted else None)
        finally:
            await self._conclude(item, end)

    async def _conclude(self, item: Item, end: _End) -> None:
        now, state, outcome = self._clock.now_ms(), end.state, end.outcome

        def write(connection: sqlite3.Connection) -> None:
            if state is None:
                due_ms = now + round(end.wait_seconds * 1000)
                store.again(connection, item, now, due_ms=due_ms, waited=end.waited, kept_ms=self.kept_ms)
            else:
                store.end(connection, item, state, outcome, now, kept_ms=self.kept_ms)

        await self._persist(lambda: self._file.write(write))
        if state is None:
            return
        self._log.info("batch_item_ended", batch=item.batch, item=item.number, status=state.value, runs=item.tries)
        if not self._draining:
            await self._persist(self._tell)

    async def _ask(self, item: Item) -> _End:
        """One run of a prompt."""
        try:
            identity = self._inward.identity(item.owner)
        except Refusal as refusal:
            return _failed(_error(refusal.envelope()))
        # Whatever dies between the answer and its row here: the answer is kept under this, and nothing runs twice.
        headers = [("idempotency-key", f"{item.batch}-{item.number}")]
        try:
            answer = await self._inward.run("POST", PATH, item.body, identity, headers, peer=item.peer)
        except Refusal:
            self._draining = True
            return _End(None)
        except InwardCut:
            return _failed(_BROKEN)
        return self._judged(item, answer)

    def _judged(self, item: Item, answer: InwardAnswer) -> _End:
        if answer.status == 200:
            return _End(ItemState.COMPLETED, answer.body)
        error = _error(answer.body)
        if orjson.loads(error).get("code") == "draining":
            self._draining = True
            return _End(None)
        after = answer.headers.get("retry-after")
        later = answer.status in LATER and (after is not None or answer.status != 409)
        if not later or item.waits >= self._rules.retries_max:
            return _failed(error)
        seconds = float(after) if after is not None and after.isdigit() else RETRY_SECONDS
        seconds = min(seconds, self._rules.retry_seconds_max) * (1 + JITTER * self._random.random())
        return _End(None, wait_seconds=seconds, waited=True)

    async def _persist(self, work: Callable[[], Awaitable[None]]) -> None:
        """Until it is done: what was answered must be known to have been. A process that stops tries once; what it
        cannot write, it has died with."""
        while True:
            try:
                return await work()
            except (sqlite3.Error, Refusal) as error:
                self._log.error("batches_unwritable", error=str(error))
                if self._draining:
                    return None
                await asyncio.sleep(WRITE_RETRY_SECONDS)


def _failed(error: bytes) -> _End:
    return _End(ItemState.FAILED, error)


def _error(body: bytes) -> bytes:
    """The error of an envelope."""
    try:
        found = orjson.loads(body)["error"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return _BROKEN
    return orjson.dumps(found) if isinstance(found, dict) else _BROKEN


def _own_error(message: str) -> bytes:
    return orjson.dumps(orjson.loads(error_body(message, "api_error", "internal_error"))["error"])


_BROKEN: Final = _own_error("The answer broke off. Send the prompt again.")
_FAULT: Final = _own_error("This proxy failed on this prompt. Send it again.")
_LOST: Final = _own_error("This proxy went down each time that it ran this prompt. Send it again.")
_EXPIRED: Final = _own_error("This prompt was not begun in time. Send it again.")


def _told(report: BatchReport) -> dict[str, Any]:
    """What a webhook says: the results are fetched."""
    return {
        "id": report.id,
        "object": "batch",
        "status": report.status,
        "counts": report.counts,
        "created": report.created_ms // 1000,
        "ended": None if report.ended_ms is None else report.ended_ms // 1000,
        "expires": report.expires_ms // 1000,
    }
