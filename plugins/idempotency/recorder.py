"""Keeps a stream as it passes, for whoever asks for it again."""

from __future__ import annotations

from collections.abc import Callable

from proxy.dialects.base import UsageReader


class Recorder:
    """A transform that changes nothing. Calls `ended` with all of the stream where it came to its format's own end.

    One that is longer than `bytes_max` is let go, and `ended` is not called.
    """

    __slots__ = ("_bytes_max", "_ended", "_pieces", "_reader", "_size")

    def __init__(self, reader: UsageReader, bytes_max: int, ended: Callable[[bytes], None]) -> None:
        self._reader = reader
        self._bytes_max = bytes_max
        self._ended = ended
        self._pieces: list[bytes] = []
        self._size = 0

    def __call__(self, chunk: bytes) -> bytes:
        """The chunk. b"" is the regular end."""
        if chunk:
            self._take(chunk)
        elif self._size <= self._bytes_max and self._reader.finished:
            self._ended(b"".join(self._pieces))
        return chunk

    def _take(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > self._bytes_max:
            self._pieces.clear()
            return
        self._pieces.append(chunk)
        self._reader.feed(chunk)
