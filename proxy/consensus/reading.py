"""What a member wrote: the visible answer, and behind the fence what it says of itself. Nothing here ever fails."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from proxy.consensus.fences import Fence
from proxy.consensus.normal import bounded, clean, words
from proxy.consensus.objects import read_object
from proxy.consensus.refusals import refuses
from proxy.consensus.splitting import Splitter
from proxy.consensus.trailers import split
from proxy.consensus.typed import OPEN_ANSWER, Kind, Typed, extracted, typed

__all__ = ["TRAILER_SHAPE", "Reading", "Splitter", "read"]

TRAILER_SHAPE: Final = (
    '{"final_answer": "at most 200 characters", "type": "number|choice|short|json|open", '
    '"claims": ["at most 6 short statements that can be checked one by one"], "confidence": 0.0}'
)
"""For the prompt: what stands behind the fence."""
CLAIM_CHARS_MAX: Final = 300
TEXT_CHARS_MAX: Final = 1_000_000


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
    body, trailer = split(clean(text[:TEXT_CHARS_MAX]), fence)
    stated = _stated(trailer)
    if structured and (found := read_object(body)) is not None:
        answer = typed(Kind.JSON, found)
    else:
        answer = stated if stated is not None else extracted(body)
    visible = body or (stated.shown if stated is not None else "")
    return Reading(
        visible,
        answer,
        _claims(trailer.get("claims"), claims_max) if trailer else (),
        _confidence(trailer.get("confidence")) if trailer else None,
        trailer is not None,
        answer.kind in (Kind.OPEN, Kind.SHORT) and refuses(visible),
    )


def _stated(trailer: dict[str, Any] | None) -> Typed | None:
    """None where the trailer says nothing: the text may."""
    if trailer is None:
        return None
    said, kind = trailer.get("final_answer"), trailer.get("type")
    known = Kind(kind) if isinstance(kind, str) and kind in Kind else None
    if known is Kind.OPEN:
        return OPEN_ANSWER
    if said is None or said == "" or (isinstance(said, str) and not said.strip()):
        return None
    return typed(known, said)


def _claims(said: Any, count_max: int) -> tuple[str, ...]:
    if not isinstance(said, list):
        return ()
    claims: dict[tuple[str, ...], str] = {}
    for each in said[: 4 * count_max]:
        text = each.get("claim", each.get("text")) if isinstance(each, dict) else each
        if isinstance(text, str) and (plain := " ".join(clean(text[: 4 * CLAIM_CHARS_MAX]).split())):
            claims.setdefault(words(plain), bounded(plain, CLAIM_CHARS_MAX))
    return tuple(claims.values())[:count_max]


def _confidence(said: Any) -> float | None:
    if isinstance(said, str) and re.fullmatch(r"\d{1,3}(?:\.\d{1,6})?\s?%?", said):
        said = float(said.rstrip("% "))
    if isinstance(said, bool) or not isinstance(said, int | float) or not 0 <= said <= 100:
        return None
    return float(said) if said <= 1 else float(said) / 100
