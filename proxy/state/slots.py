"""Concurrency slots: how much one scope may have under way at once."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self


class SlotsFull(Exception):
    """Nothing was acquired: this key already has all of its slots in use."""

    def __init__(self, key: str, limit: int) -> None:
        super().__init__(f"{key} has {limit} slots, all in use")
        self.key = key
        self.limit = limit


class Lease:
    """Slots in use. Given back once: by `release` or by leaving the `with` block; a second time does nothing."""

    __slots__ = ("_keys", "_slots")

    def __init__(self, slots: Slots, keys: tuple[str, ...]) -> None:
        self._slots = slots
        self._keys = keys

    def release(self) -> None:
        """Give the slots back."""
        keys, self._keys = self._keys, ()
        if keys:
            self._slots.give_back(keys)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class Slots:
    """Counts by key. Holds an entry only while a slot of it is in use, so it is as large as what is in flight."""

    __slots__ = ("_in_use",)

    def __init__(self) -> None:
        self._in_use: dict[str, int] = {}

    def acquire(self, claims: Sequence[tuple[str, int]]) -> Lease:
        """One slot of every (key, limit), or of none. Raises SlotsFull."""
        in_use = self._in_use
        for key, limit in claims:
            if in_use.get(key, 0) >= limit:
                raise SlotsFull(key, limit)
        for key, _ in claims:
            in_use[key] = in_use.get(key, 0) + 1
        return Lease(self, tuple([key for key, _ in claims]))

    def in_use(self, key: str) -> int:
        """Slots of this key in use now."""
        return self._in_use.get(key, 0)

    def give_back(self, keys: Sequence[str]) -> None:
        """For `Lease` alone."""
        in_use = self._in_use
        for key in keys:
            left = in_use[key] - 1
            if left:
                in_use[key] = left
            else:
                del in_use[key]

    def __len__(self) -> int:
        """Keys with a slot in use."""
        return len(self._in_use)
