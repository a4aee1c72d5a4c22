"""What a member wrote: the visible answer, and behind the fence what it says of itself. Nothing here ever fails."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.consensus.fences import Fence
from proxy.consensus.typed import Typed

TRAILER_SHAPE = (
    '{"final_answer": "at most 200 characters", "type": "number|choice|short|json|open", '
    '"claims": ["at most 6 short statements that can be checked one by one"], "confidence": 0.0}'
)
"""For the prompt: what stands behind the fence."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One member's answer, read."""

    text: str
    """Visible: without fence and trailer. Empty where there was nothing else (and no final answer)."""
    answer: Typed
    claims: tuple[str, ...] = ()
    """Atomic, in the member's words, each at most 300 characters."""
    confidence: float | None = None
    """0 to 1, as the member says."""
    trailer: bool = False
    """It came with one that could be read; otherwise `answer` was found in the text."""
    refusal: bool = False
    """It declines to answer. Conservative: only short texts that open with a refusal."""

    @property
    def usable(self) -> bool:
        """There is something to compare: neither empty nor a refusal."""
        return bool(self.text) and not self.refusal


def read(text: str, fence: Fence, *, claims_max: int = 6, structured: bool = False) -> Reading:
    """Read a member's answer. `structured`: a response_format was asked for, so that the whole text is the JSON answer
    (a trailer behind it is still taken off)."""
    raise NotImplementedError


class Splitter:
    """Takes fences and a trailer out of a text that comes piece by piece, should a synthesiser echo one.

    What `push` and `end` return, joined, is the visible text; it does not depend on how the text was cut up.
    """

    def __init__(self, fence: Fence) -> None:
        raise NotImplementedError

    def push(self, text: str) -> str:
        """The next piece; returns what can be shown by now."""
        raise NotImplementedError

    def end(self) -> str:
        """No more comes; returns what was held back and is no fence."""
        raise NotImplementedError
