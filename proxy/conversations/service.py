"""Conversations as the rest of the house has them: `services.conversations`. No text of one is ever logged."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from proxy.clock import Clock
from proxy.conversations import store
from proxy.conversations.api import Conversation, Summary, Turn, is_id
from proxy.errors import Refusal
from proxy.state_file import StateFile
from proxy.state_service import SWEPT_AT_ONCE_MAX, SweptFile, reachable

WHAT: Final = "Conversations"
_HOUR_MS: Final = 3_600_000


class Conversations(SweptFile):
    """Every method but `start` and `stop` raises Refusal `overloaded` where the file cannot be used."""

    def __init__(self, state: Path, clock: Clock, log: Any) -> None:
        path = state / store.FILE_NAME
        super().__init__(path, tables=store.TABLES, version=store.VERSION, what=WHAT, log=log)
        self._clock = clock
        self.hours = 24
        """Since its last turn a conversation is kept so long."""
        self.turns_max = 50
        """Of one conversation; the oldest are dropped."""
        self.conversation_bytes_max = 1 << 20
        """Of text in one conversation; the oldest turns are dropped."""
        self.owner_count_max = 1000
        """Conversations of one caller; those without a turn for longest give way."""

    async def find(self, owner: str, id_: str) -> Conversation:
        """The owner's conversation. Raises Refusal `not_found`, whatever the reason, in the same words."""
        since, found = self._since_ms(), None
        if is_id(id_):
            with reachable(WHAT):
                found = await self._opened().read(lambda connection: store.find(connection, owner, id_, since))
        if found is None:
            raise not_found()
        return found

    async def listing(self, owner: str, count_max: int) -> list[Summary]:
        """The owner's conversations, the one spoken in last first."""
        since = self._since_ms()
        with reachable(WHAT):
            return await self._opened().read(lambda connection: store.listing(connection, owner, since, count_max))

    async def append(self, owner: str, id_: str, turns: Sequence[Turn], *, new: bool = False) -> bool:
        """Put turns behind all that are there by now; durable when this returns. `new` begins the conversation.

        False where it was deleted meanwhile: then nothing of it comes back.
        """
        now = self._clock.now_ms()

        def write(connection: sqlite3.Connection) -> bool:
            if new:
                store.create(connection, owner, id_, now, owner_count_max=self.owner_count_max)
            return store.append(
                connection, owner, id_, turns, now,
                turns_max=self.turns_max, bytes_max=self.conversation_bytes_max,
            )  # fmt: skip

        with reachable(WHAT):
            return await self._opened().write(write)

    async def delete(self, owner: str, id_: str) -> None:
        """End it, and overwrite in the file what was said. Raises Refusal `not_found`."""
        file = self._opened()
        with reachable(WHAT):
            if not await file.write(lambda connection: store.delete(connection, owner, id_)):
                raise not_found()
            await self._overwrite(file)

    async def sweep(self) -> int:
        """Forget what is over; says how many conversations. Raises sqlite3.Error."""
        file, since, swept = self._opened(), self._since_ms(), 0
        while count := await file.write(lambda connection: store.sweep(connection, since, SWEPT_AT_ONCE_MAX)):
            swept += count
        # Also for what another process could not overwrite while this one read.
        await file.overwrite()
        return swept

    async def _overwrite(self, file: StateFile) -> None:
        if not await file.overwrite():
            self._log.info("conversations_overwritten_later")

    def _since_ms(self) -> int:
        return self._clock.now_ms() - self.hours * _HOUR_MS


def not_found() -> Refusal:
    """One for all reasons, so that nobody learns of another's conversation."""
    return Refusal(
        "not_found",
        "You have no such conversation: it does not exist, is over, or was deleted. Begin one with "
        "'conversation_id': 'new'.",
        param="conversation_id",
    )
