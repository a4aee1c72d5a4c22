"""Fences of one request: what a member wrote stands between them as data, and cannot close them.

A fence is `@@@BEGIN <label> <nonce>@@@` or `@@@END <label> <nonce>@@@`. `@` has few look-alikes, and three of them
stand in hardly any text or code. Give every stage a nonce of its own: a member then never knows the fences that its
answer is shown in.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fence:
    """The fences of one nonce."""

    nonce: str
    """8 to 64 letters and digits that nobody can guess. Raises ValueError otherwise."""

    @property
    def end(self) -> str:
        """What a member writes on a line of its own behind its answer, before the trailer."""
        raise NotImplementedError

    def data(self, label: str, text: str, chars_max: int) -> str:
        """`text` between its two fences: escaped, and cut at `chars_max` with the cut marked.

        `label` is ours: letters, digits, spaces, `#` and `-`, at most 40. Raises ValueError otherwise.
        """
        raise NotImplementedError


def escaped(text: str, nonce: str) -> str:
    """The text with everything in it broken up that looks like a fence: other case, Unicode look-alikes, partial,
    split over lines, invisible characters in between; and with the nonce masked. Otherwise as it was. Idempotent."""
    raise NotImplementedError


def looks_fenced(text: str, nonce: str = "") -> bool:
    """Whether something in the text looks like a fence, or holds the nonce."""
    raise NotImplementedError
