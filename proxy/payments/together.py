"""Several who ask for the same thing at once share one task, which none of them can cancel by leaving."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

FINISH_SECONDS_MAX: Final = 60.0
"""How long the end of the process waits; what is cut then is found again by the ledger's recovery."""


class Together[T]:
    """One task for each key that is under way."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: dict[object, asyncio.Task[T]] = {}

    async def run(self, key: object, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `make` comes to, or what the task that is under way for `key` does. Raises what it raises."""
        task = self._tasks.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(make(), name=self._name)
            self._tasks[key] = task
            task.add_done_callback(lambda done: self._ended(key, done))
        return await asyncio.shield(task)

    async def finish(self) -> None:
        """Wait for all that is under way."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=FINISH_SECONDS_MAX)

    def _ended(self, key: object, task: asyncio.Task[T]) -> None:
        del self._tasks[key]
        if not task.cancelled():
            task.exception()  # Everybody who waited may have left: it was told to nobody, and that is no fault.
