"""An event loop whose time jumps to the next timer when nothing is ready: seconds pass in no time, and in one order."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class NothingWillHappen(RuntimeError):
    """Everything waits, and no timer is set: what runs would hang for good."""


class _JumpingSelector(selectors.DefaultSelector):
    """Where the loop would sleep, its clock is put forward instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            raise NothingWillHappen("every task waits and no timer is set")
        self.now += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop on virtual time, from 0. For code that waits on timers and on itself alone: real sockets and
    threads are only looked at in passing, never waited for."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._jumping.now


def run[T](main: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result, run on virtual time. Raises NothingWillHappen where it would hang."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
