"""A changed configuration in a running proxy: noticed, checked as a whole, and taken over or left alone.

An exchange keeps the generation it began with. Limits, circuits, sessions and the ledger outlive a reload. What was
opened at start (listeners, chain, state folder, limits of the engine) stays as it is until a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from proxy.config.checked import checked
from proxy.config.load import POLICIES
from proxy.config.problems import ConfigProblems
from proxy.config.schema import ConfigFile, Generation

LIVE: Final = frozenset({"partners", "upstreams", "byo", "policies", "time_zone"})
"""The keys of config.yaml that a reload takes over, beside all of policies/."""
_Signature = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Reloaded:
    """A reload that was taken over."""

    generation: Generation
    needs_restart: tuple[str, ...]
    """Keys of config.yaml that have changed and are not taken over."""


def merged(old: Generation, new: Generation) -> Reloaded:
    """`new` with what only a restart can change kept as it was."""
    kept = [
        key for key in ConfigFile.model_fields if key not in LIVE and getattr(old.file, key) != getattr(new.file, key)
    ]
    file = old.file.model_copy(update={key: getattr(new.file, key) for key in LIVE})
    generation = replace(
        new,
        file=file,
        root=old.root,
        listeners=old.listeners,
        chain=old.chain,
        chain_marks=old.chain_marks,
        payments=old.payments,
    )
    return Reloaded(generation, tuple(kept))


class Reloader:
    """Reads the configuration again when told to, or when a file of it has changed."""

    def __init__(
        self, path: Path, current: Callable[[], Generation], apply: Callable[[Generation], Awaitable[None]], log: Any
    ) -> None:
        self._path = path
        self._current = current
        self._apply = apply
        self._log = log
        self._lock = asyncio.Lock()
        self._seen = self._signature()

    async def reload(self) -> Reloaded:
        """Check the files and take them over. Raises ConfigProblems, and then everything stays as it was."""
        async with self._lock:
            self._seen = self._signature()
            try:
                found = await asyncio.to_thread(checked, self._path)
            except ConfigProblems as error:
                self._log.error("reload_refused", problems=[str(problem) for problem in error.problems])
                raise
            result = merged(self._current(), found)
            await self._apply(result.generation)
            self._log.info("reloaded", models=len(result.generation.models), needs_restart=list(result.needs_restart))
            return result

    async def watch(self, seconds: float) -> None:
        """Look for changed files for ever. A file that is broken is tried again when it changes again.

        Files are read once they look the same twice: half a file that is being written can be valid, and lack rules.
        """
        before = self._seen
        while True:
            await asyncio.sleep(seconds)
            now = self._signature()
            if now == before and now != self._seen:
                await self.try_reload()
            before = now

    async def try_reload(self) -> bool:
        """Reload; says whether it was taken over. What is wrong stands in the log."""
        try:
            await self.reload()
        except ConfigProblems:
            return False
        return True

    def _signature(self) -> _Signature:
        folder = self._current().root / self._current().file.policies
        found: list[tuple[str, int, int, int]] = []
        for path in (self._path, *(folder / name for name in POLICIES)):
            try:
                status = path.stat()
            except OSError:
                continue
            found.append((path.name, status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(found)
