"""Idempotency as the rest of the house has it: `services.once`."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any, Final

from proxy.clock import Clock
from proxy.errors import Refusal
from proxy.idempotency import store
from proxy.idempotency.api import Asked, Claim, Kept
from proxy.idempotency.store import Found
from proxy.state_file import StateFile
from proxy.state_service import SWEPT_AT_ONCE_MAX, SweptFile, reachable

WHAT: Final = "Idempotency keys"
RUNNING_RETRY_SECONDS: Final = 2
_HOUR_MS: Final = 3_600_000


class Once(SweptFile):
    """Without its file nothing can be claimed (`ready` is False)."""

    def __init__(self, state: Path, clock: Clock, log: Any) -> None:
        path = state / store.FILE_NAME
        super().__init__(path, tables=store.TABLES, version=store.VERSION, what=WHAT, log=log)
        self._clock = clock
        self._writes: set[asyncio.Task[None]] = set()
        self.hours = 24
        """An answer is kept so long."""
        self.answer_bytes_max = 1 << 20
        """A larger answer is not kept: its key is free again."""
        self.scope_bytes_max = 64 << 20
        """Of one caller's answers together; the oldest give way."""

    @property
    def ready(self) -> bool:
        """Keys can be claimed."""
        return self._file is not None

    async def stop(self) -> None:
        """See SweptFile; what is being given back is waited for."""
        if self._writes:
            await asyncio.wait(self._writes)
        await super().stop()

    async def claim(self, asked: Asked) -> Claim | Kept:
        """The right to run it, or the answer that is kept. A claim must be ended: by `keep`, `free` or `release`.

        Raises Refusal `conflict` while it runs elsewhere, `idempotency_mismatch` where the key stands for another
        request, `overloaded` where the file cannot be used.
        """
        file, now = self._opened(), self._clock.now_ms()
        claiming = asyncio.get_running_loop().create_task(
            file.write(
                lambda connection: store.claim(
                    connection, asked, boot=file.boot, now_ms=now, is_dead=lambda boot: _has_died(file, boot)
                )
            )
        )
        try:
            with reachable(WHAT):
                found = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # Whoever asked has left: what is claimed meanwhile is nobody's.
            claiming.add_done_callback(lambda done: self._abandoned(asked, done))
            raise
        if isinstance(found, Kept):
            return found
        if isinstance(found, Found):
            raise _running() if found is Found.RUNNING else _other()
        return Claim(asked, found)

    async def keep(self, claim: Claim, kept: Kept) -> bool:
        """Keep the answer, durable when this returns; says whether it is. Never raises: what is not kept is free."""
        if claim.ended:
            return False
        if len(kept.body) > self.answer_bytes_max:
            await self.free(claim)
            return False
        claim.ended = True
        expires, asked = self._clock.now_ms() + self.hours * _HOUR_MS, claim.asked
        try:
            return await self._opened().write(
                lambda connection: store.keep(
                    connection, claim.token, kept, expires_ms=expires, scope=asked.scope,
                    scope_bytes_max=self.scope_bytes_max,
                )
            )  # fmt: skip
        except (sqlite3.Error, Refusal) as error:
            self._log.warning("answer_not_kept", reason=type(error).__name__)
            claim.ended = False
            self.release(claim)
            return False

    async def free(self, claim: Claim) -> None:
        """Give the key back; does nothing where the claim has ended."""
        if claim.ended or self._file is None:
            return
        claim.ended = True
        try:
            await self._file.write(lambda connection: store.free(connection, claim.token))
        except sqlite3.Error as error:
            self._log.warning("idempotency_key_not_freed", reason=type(error).__name__)

    def release(self, claim: Claim) -> None:
        """`free` for who cannot wait: the write is begun."""
        if not claim.ended and self._file is not None:
            task = asyncio.get_running_loop().create_task(self.free(claim), name="idempotency-free")
            self._writes.add(task)
            task.add_done_callback(self._writes.discard)

    async def forget(self, scope: str, about: str) -> int:
        """Forget a caller's answers about something; says how many they were. Raises Refusal `overloaded`."""
        if self._file is None:
            return 0
        with reachable(WHAT):
            count = await self._file.write(lambda connection: store.forget(connection, scope, about))
            await self._file.overwrite()
        return count

    async def sweep(self) -> int:
        """Free what dead processes ran, forget what has expired; says how many. Raises sqlite3.Error."""
        file = self._opened()
        dead = file.dead(await file.read(store.boots))
        now, swept = self._clock.now_ms(), 0
        while count := await file.write(
            lambda connection: store.sweep(connection, now_ms=now, dead=dead, count_max=SWEPT_AT_ONCE_MAX)
        ):
            swept += count
        file.forget(dead)
        if swept:
            await file.overwrite()
        return swept

    def _abandoned(self, asked: Asked, done: asyncio.Task[int | Kept | Found]) -> None:
        if not done.cancelled() and done.exception() is None and isinstance(found := done.result(), int):
            self.release(Claim(asked, found))


def _has_died(file: StateFile, boot: str) -> bool:
    dead = file.dead([boot])
    file.forget(dead)
    return bool(dead)


def _running() -> Refusal:
    return Refusal(
        "conflict",
        "The same request with this Idempotency-Key is being answered right now. Ask again in a moment: you then get "
        "that answer.",
        param="Idempotency-Key",
        retry_after_seconds=RUNNING_RETRY_SECONDS,
    )


def _other() -> Refusal:
    return Refusal(
        "idempotency_mismatch",
        "This Idempotency-Key was used for another request. Send the same path and body again, byte for byte, or take "
        "a new key.",
        param="Idempotency-Key",
    )
