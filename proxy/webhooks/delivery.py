"""Sends what is in the outbox: at least once, in no promised order, each delivery by one process at a time."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random, SystemRandom
from typing import Any, Final

from proxy.clock import Clock
from proxy.egress import Egress, EgressFailure
from proxy.state_file import StateFile
from proxy.webhooks import store
from proxy.webhooks.api import Delivery, DeliveryState, WebhookConfig
from proxy.webhooks.settings import WebhookRules
from proxy.webhooks.signing import signed_headers
from proxy.webhooks.targets import BadTarget, Target, parse

ANSWER_BYTES_MAX: Final = 64 << 10
POLL_SECONDS: Final = 1.0
"""How often the outbox is looked into for what other processes put there."""
DEAD_SECONDS: Final = 5.0
"""How often it is asked whether the others still live, and what is old is forgotten."""
OWNER_AT_ONCE_MAX: Final = 2
RETRY_FACTOR: Final = 6
RETRY_SECONDS_MAX: Final = 43_200.0
JITTER: Final = 0.2
"""Each wait is made longer or shorter by up to this share."""
AGE_MS_MAX: Final = 86_400_000
"""Older ones are not tried again."""
WRITE_RETRY_SECONDS: Final = 1.0
STATUS_GONE: Final = 410
_lookups: Final = ThreadPoolExecutor(4, thread_name_prefix="webhook-lookup")
"""Names that customers chose, which they can make slow."""

Keys = Callable[[WebhookConfig], tuple[bytes, ...]]
"""The keys that sign for an owner at this moment."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one attempt came to."""

    status: int | None
    error: str = ""
    final: bool = False
    """Another attempt would not help."""
    gone: bool = False
    """The receiver wants nothing more."""

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class Deliverer:
    """One task of the process, and one for each delivery under way."""

    def __init__(
        self, file: StateFile, keys: Keys, rules: WebhookRules, clock: Clock, log: Any, *, random: Random | None = None
    ) -> None:
        self._file = file
        self._keys = keys
        self._rules = rules
        self._clock = clock
        self._log = log
        self._random = random or SystemRandom()
        self._task: asyncio.Task[None] | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        self._tidy_at = 0.0

    def start(self) -> None:
        """Begin, at once: a process that died may have left something."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="webhooks")

    def wake(self) -> None:
        """Something was put into the outbox."""
        self._woken.set()

    async def stop(self) -> None:
        """What is under way is cut; whoever starts next sends it again."""
        tasks = {task for task in (self._task, *self._sending) if task is not None}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        with contextlib.suppress(sqlite3.Error):  # The next process frees what a dead one had claimed.
            await self._file.write(lambda connection: store.unsent(connection, self._file.boot))

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            wait = POLL_SECONDS
            try:
                wait = await self._round()
            except sqlite3.Error as error:
                self._log.error("webhooks_unreadable", error=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._woken.wait()

    async def _round(self) -> float:
        """Begin what is due; says how long there is nothing to do."""
        if self._clock.monotonic() >= self._tidy_at:
            self._tidy_at = self._clock.monotonic() + DEAD_SECONDS
            await self._tidy()
        slots = self._rules.at_once_max - len(self._sending)
        due_ms = await self._file.read(store.next_due_ms) if slots else None
        now = self._clock.now_ms()
        if due_ms is None:
            return POLL_SECONDS
        if due_ms > now:
            return min(POLL_SECONDS, (due_ms - now) / 1000)
        boot = self._file.boot
        claimed = await self._file.write(
            lambda connection: store.claim(connection, boot, now, count_max=slots, owner_max=OWNER_AT_ONCE_MAX)
        )
        for delivery in claimed:
            task = asyncio.get_running_loop().create_task(self._deliver(delivery), name=delivery.event_id)
            self._sending.add(task)
            task.add_done_callback(self._sent)
        return POLL_SECONDS

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._log.error("webhook_failed", event_id=task.get_name(), exc_info=fault)
        self._woken.set()

    async def _tidy(self) -> None:
        dead = self._file.dead(await self._file.read(store.boots))
        now = self._clock.now_ms()

        def tidy(connection: sqlite3.Connection) -> None:
            store.free(connection, dead)
            store.sweep(connection, now)

        await self._file.write(tidy)
        self._file.forget(dead)

    async def _deliver(self, delivery: Delivery) -> None:
        # Whatever is raised on the way is a fault of ours, and an attempt all the same.
        tried: tuple[_Outcome, str | None] = _Outcome(None, "this proxy failed on it"), None
        cut = False
        try:
            config = await self._persist(lambda: self._file.read(lambda found: store.config(found, delivery.owner)))
            tried = await self._attempt(delivery, config)
        except asyncio.CancelledError:
            cut = True  # Given back by `stop`, as no attempt at all.
            raise
        finally:
            if not cut:
                await self._conclude(delivery, *tried)

    async def _conclude(self, delivery: Delivery, outcome: _Outcome, url: str | None) -> None:
        now = self._clock.now_ms()
        due_ms = now + self._wait_ms(delivery.attempts)
        given_up = outcome.final or delivery.attempts >= self._rules.attempts_max
        given_up = given_up or due_ms - delivery.created_ms > AGE_MS_MAX

        def write(connection: sqlite3.Connection) -> None:
            if outcome.gone and delivery.url is None and url is not None:
                store.disable(connection, delivery.owner, url, "the receiver answered 410 Gone")
            if outcome.delivered or given_up:
                state = DeliveryState.DELIVERED if outcome.delivered else DeliveryState.FAILED
                store.ended(
                    connection, delivery.row, state, status=outcome.status, error=outcome.error, now_ms=now
                )  # fmt: skip
            else:
                store.again(connection, delivery.row, status=outcome.status, error=outcome.error, due_ms=due_ms)

        await self._persist(lambda: self._file.write(write))
        said: dict[str, Any] = {"event_id": delivery.event_id, "owner": delivery.owner, "type": delivery.type}
        said |= {"attempt": delivery.attempts, "status": outcome.status}
        if outcome.delivered:
            self._log.info("webhook_delivered", **said)
        else:
            event = "webhook_given_up" if given_up else "webhook_not_delivered"
            self._log.warning(event, **said, reason=outcome.error)

    async def _attempt(self, delivery: Delivery, config: WebhookConfig | None) -> tuple[_Outcome, str | None]:
        """One POST, and the URL that it went to."""
        url = delivery.url
        if url is None and config is not None and not config.disabled:
            url = config.url
        if url is None or config is None:
            return _Outcome(None, "no webhook is configured any more", final=True), None
        try:
            target = parse(url, self._rules)
        except BadTarget:
            return _Outcome(None, "this URL is not allowed any more", final=True), url
        now_seconds = self._clock.now_ms() // 1000
        headers = signed_headers(self._keys(config), delivery.event_id, now_seconds, delivery.body)
        return await self._post(target, delivery.body, headers), url

    async def _post(self, target: Target, body: bytes, headers: dict[str, str]) -> _Outcome:
        # One for each attempt: what customers' hosts keep open must not fill a pool that others wait for.
        egress = Egress(
            target.origin,
            private=target.private,
            timeout_seconds=self._rules.timeout_seconds,
            ca_file=self._rules.ca_file if target.private else None,
            answer_bytes_max=ANSWER_BYTES_MAX,
            lookups=_lookups,
        )
        try:
            answer = await egress.request(
                "POST", target.target, content=body, headers={"content-type": "application/json", **headers}
            )
        except EgressFailure as failure:
            return _Outcome(None, failure.detail)
        finally:
            await egress.aclose()
        if 200 <= answer.status < 300:
            return _Outcome(answer.status)
        gone = answer.status == STATUS_GONE
        return _Outcome(answer.status, f"{target.host}: it answered {answer.status}", final=gone, gone=gone)

    def _wait_ms(self, attempts: int) -> int:
        """Before the attempt after this many."""
        factor: int = RETRY_FACTOR ** (attempts - 1)
        seconds = min(self._rules.retry_seconds * factor, RETRY_SECONDS_MAX)
        return round(seconds * 1000 * (1 + JITTER * (2 * self._random.random() - 1)))

    async def _persist[T](self, work: Callable[[], Awaitable[T]]) -> T:
        """Until it is done: what was sent must be known to have been."""
        while True:
            try:
                return await work()
            except sqlite3.Error as error:
                self._log.error("webhooks_unwritable", error=str(error))
                await asyncio.sleep(WRITE_RETRY_SECONDS)
