"""How many bytes of request bodies the whole process holds."""

from __future__ import annotations


class Budget:
    """A counter with a ceiling. `take` refuses what would exceed it; what was taken must be given back."""

    __slots__ = ("bytes_held", "bytes_max")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes_held = 0

    def take(self, size: int) -> bool:
        """Claim `size` bytes; False, and nothing claimed, where they do not fit."""
        if self.bytes_held + size > self.bytes_max:
            return False
        self.bytes_held += size
        return True

    def give(self, size: int) -> None:
        """Give bytes back."""
        self.bytes_held -= size
