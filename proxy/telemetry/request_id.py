"""Ids of exchanges: sortable by time, not to be guessed."""

from __future__ import annotations

import os
from typing import Final

from proxy.clock import Clock, SystemClock

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32 in lower case: no letter to be mistaken for a digit, and it sorts as it counts."""
_PAIRS: Final = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_RANDOM_BYTES: Final = 10
_BUFFER_BYTES: Final = 512 * _RANDOM_BYTES
PREFIX: Final = "req_"


class RequestIds:
    """Makes "req_" and 26 characters: 48 bits of milliseconds, then 80 random bits (the layout of a ULID).

    Random bytes are drawn from the kernel many at a time. One event loop's; a fork must call `forget`.
    """

    __slots__ = ("_at", "_buffer", "_head", "_ms", "_now_ms")

    def __init__(self, clock: Clock) -> None:
        self._now_ms = clock.now_ms
        self._buffer = b""
        self._at = 0
        self._ms = -1
        self._head = ""

    def forget(self) -> None:
        """Draw new random bytes: those in the buffer are another process's too."""
        self._buffer = b""

    def new(self) -> str:
        """A new id."""
        ms = self._now_ms()
        if ms != self._ms:
            self._ms = ms
            self._head = PREFIX + _encoded_time(ms)
        start = self._at
        if start >= len(self._buffer):
            self._buffer = os.urandom(_BUFFER_BYTES)
            start = 0
        self._at = end = start + _RANDOM_BYTES
        bits = int.from_bytes(self._buffer[start:end])
        pairs = _PAIRS
        return (
            f"{self._head}{pairs[bits >> 70]}{pairs[bits >> 60 & 1023]}{pairs[bits >> 50 & 1023]}"
            f"{pairs[bits >> 40 & 1023]}{pairs[bits >> 30 & 1023]}{pairs[bits >> 20 & 1023]}"
            f"{pairs[bits >> 10 & 1023]}{pairs[bits & 1023]}"
        )


def _encoded_time(ms: int) -> str:
    return "".join(_PAIRS[ms >> shift & 1023] for shift in (40, 30, 20, 10, 0))


_IDS: Final = RequestIds(SystemClock())
os.register_at_fork(after_in_child=_IDS.forget)

new_request_id = _IDS.new
"""A new id by the machine's clock."""
