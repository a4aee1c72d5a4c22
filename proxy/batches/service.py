"""Batches as their endpoints have them: queued, reported, cancelled, each within its owner's own."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from proxy.batches import store
from proxy.batches.api import BatchReport, BatchRules, NewBatch
from proxy.batches.runner import HOUR_MS, Runner
from proxy.clock import Clock
from proxy.errors import Refusal
from proxy.idempotency.api import Asked
from proxy.inward import Inward
from proxy.state_file import StateFile
from proxy.state_service import reachable, unreachable
from proxy.webhooks.service import Webhooks

OPEN_RETRY_SECONDS: Final = 30
WHAT: Final = "Batches"
_ID_BYTES: Final = 12


class Batches:
    """`start` opens the file and begins to work; every other method raises Refusal where the file cannot be used."""

    def __init__(self, state: Path, inward: Inward, webhooks: Webhooks, clock: Clock, log: Any) -> None:
        self._state = state
        self._inward = inward
        self._webhooks = webhooks
        self._clock = clock
        self._log = log
        self._rules = BatchRules()
        self._file: StateFile | None = None
        self._runner: Runner | None = None

    async def start(self, rules: BatchRules, at_once_max: Callable[[], int]) -> None:
        """Raises FileTooNew, sqlite3.Error, OSError."""
        self._rules = rules
        file = self._file = StateFile.open(self._state / store.FILE_NAME, tables=store.TABLES, version=store.VERSION)
        self._runner = Runner(file, self._inward, self._webhooks, rules, at_once_max, self._clock, self._log)
        self._runner.start()

    async def stop(self) -> None:
        """What runs goes back to the queue, for whoever starts next."""
        if self._runner is not None and self._file is not None:
            await self._runner.stop()
            await self._file.close()
            self._runner = self._file = None

    async def add(
        self, owner: str, prompts: tuple[bytes, ...], *, peer: str, webhook_url: str | None, once: Asked | None = None
    ) -> BatchReport:
        """Queue prompts that were checked, durable when this returns. `once`: what an Idempotency-Key stands for.

        Raises Refusal `idempotency_mismatch`, `rate_limited`, `overloaded`.
        """
        now = self._clock.now_ms()
        wanted = NewBatch(
            id=f"batch_{secrets.token_hex(_ID_BYTES)}",
            owner=owner,
            peer=peer,
            webhook_url=webhook_url,
            prompts=prompts,
            created_ms=now,
            expires_ms=now + self._rules.kept_hours * HOUR_MS,
            once_key=None if once is None else once.key,
            once_request="" if once is None else once.request,
        )
        with reachable(WHAT):
            try:
                made = await self._opened().write(
                    lambda connection: store.add(connection, wanted, open_max=self._rules.open_max)
                )
            except store.OtherRequest as error:
                raise Refusal(
                    "idempotency_mismatch",
                    "This Idempotency-Key was used for another batch. Send the same body again, byte for byte, or take "
                    "a new key.",
                    param="Idempotency-Key",
                ) from error
            except store.TooManyOpen as error:
                raise Refusal(
                    "rate_limited",
                    f"Your key already has {self._rules.open_max} batches under way. Wait for one to end.",
                    retry_after_seconds=OPEN_RETRY_SECONDS,
                ) from error
        if self._runner is not None:
            self._runner.wake()
        return made

    async def report(self, owner: str, batch_id: str) -> BatchReport | None:
        """What has become of it; None for a batch of another's, or none at all."""
        with reachable(WHAT):
            return await self._opened().read(lambda connection: store.report(connection, owner, batch_id))

    async def cancel(self, owner: str, batch_id: str) -> BatchReport | None:
        """Leave out what has not begun and cancel what runs; one that has ended stays as it is."""
        now, kept_ms = self._clock.now_ms(), self._rules.kept_hours * HOUR_MS

        def write(connection: sqlite3.Connection) -> BatchReport | None:
            store.cancel(connection, owner, batch_id, now, kept_ms=kept_ms)
            return store.report(connection, owner, batch_id)

        with reachable(WHAT):
            found = await self._opened().write(write)
        if self._runner is not None:
            self._runner.wake()
        return found

    def _opened(self) -> StateFile:
        if self._file is None:
            raise unreachable(WHAT)
        return self._file
