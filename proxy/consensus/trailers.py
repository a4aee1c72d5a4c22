"""Where a member's answer ends: the fence, and the trailer behind it, in whatever shape a model leaves them."""

from __future__ import annotations

import re
from typing import Any, Final

from proxy.consensus.fences import MARK, Fence
from proxy.consensus.objects import last_object, read_object, spans

TRAILER_CHARS_MAX: Final = 16_000
FENCES_MAX: Final = 8
"""That end an answer; further ones are taken out, and looked at no more."""
PROSE_CHARS_MIN: Final = 200
"""Behind a fence without a trailer: so much text is the answer going on, and the fence was only spoken of."""
GAP: Final = "\0"
"""Stands where a fence was taken out, until all is read: what was apart does not become one."""
SPACE: Final = " \t\r\n" + GAP
LOOSE: Final = SPACE + "*_`"
"""May stand around a fence and go with it."""

_TRAILER_NAMES: Final = frozenset({"type", "claims", "confidence"})
_TRAILER_OPENING: Final = re.compile(r'\{[ \t\r\n]{0,50}"final_answer"')
_CODE_OPENING: Final = re.compile(r"^[ \t]*```[A-Za-z0-9]{0,10}[ \t\r\n]*\Z", re.MULTILINE)
_CODE_CLOSING: Final = re.compile(r"[ \t\r\n]*(?:```)?[ \t\r\n]*\Z")
_FORGOTTEN_FENCE: Final = re.compile(
    r"^[*_` \t]{0,8}@{2,3}[^@\n]{0,20}END[ \t]{1,4}ANSWER[^@\n]{0,100}@{0,3}[*_` \t]{0,8}[ \t\r\n]*\Z",
    re.MULTILINE | re.IGNORECASE,
)


def split(text: str, fence: Fence) -> tuple[str, dict[str, Any] | None]:
    """Visible text and trailer of a whole answer, which has no NUL in it."""
    body, trailer = _divided(text, fence)
    return body.strip(SPACE).replace(GAP, ""), trailer


def _divided(text: str, fence: Fence) -> tuple[str, dict[str, Any] | None]:
    parts, ends = _parts(text, fence)
    for count in range(len(ends), 0, -1):
        behind = "".join(parts[ends[count - 1] :])
        head = GAP.join(parts[: ends[count - 1]])
        if len(behind) <= TRAILER_CHARS_MAX and (trailer := _trailer(last_object(behind))) is not None:
            return head.strip(SPACE), trailer
        if count == len(ends) and _rubbish(behind) and head.strip(SPACE):
            return head.strip(SPACE), None
    return _unfenced(_tidy(GAP.join(parts), fence))


def fence_pattern(fence: Fence) -> re.Pattern[str]:
    """Any fence of this nonce as models write it: other case, emphasis around it, marks missing. Its only group is
    what follows END where that is ANSWER."""
    return re.compile(
        r"[*_`]{0,3}(?<!@)@{2,}+[ \t]{0,4}(?:END[ \t]{1,4}(ANSWER)|(?:BEGIN|END)[ \t]{1,4}[A-Z0-9 #-]{1,40})"
        rf"[ \t]{{1,4}}{fence.nonce}[ \t]{{0,4}}@*+[*_`]{{0,3}}",
        re.IGNORECASE,
    )


def _parts(text: str, fence: Fence) -> tuple[list[str], list[int]]:
    """What stands between fences, and which of it stands behind one that ends an answer."""
    parts: list[str] = []
    ends: list[int] = []
    at = 0
    for found in fence_pattern(fence).finditer(text):
        parts.append(text[at : found.start()])
        at = found.end()
        if found[1] and len(ends) < FENCES_MAX:
            ends.append(len(parts))
    return [*parts, text[at:]], ends


def _unfenced(text: str) -> tuple[str, dict[str, Any] | None]:
    """The same of a text without a fence: a trailer is known by its keys, on lines of its own at the very end."""
    start = max(0, len(text) - TRAILER_CHARS_MAX)
    if "final_answer" not in text[start:]:
        return text, None
    closed = spans(text[start:]).closed
    if not closed or not _CODE_CLOSING.fullmatch(text[start + closed[-1][1] :]):
        return text, None
    begin, end = start + closed[-1][0], start + closed[-1][1]
    if not _TRAILER_OPENING.match(text, begin):
        return text, None
    found = _trailer(read_object(text[begin:end]))
    lead = text[max(0, begin - 40) : begin]
    opening = _CODE_OPENING.search(lead)
    if found is None or not _TRAILER_NAMES & found.keys() or not (opening or not lead.rpartition("\n")[2].strip(SPACE)):
        return text, None
    begin -= len(lead) - opening.start() if opening else 0
    head, tail = text[: max(0, begin - 400)], text[max(0, begin - 400) : begin]
    return (head + _FORGOTTEN_FENCE.sub("", tail)).strip(SPACE), found


def _trailer(found: dict[str, Any] | None) -> dict[str, Any] | None:
    return found if found is not None and (found.keys() & (_TRAILER_NAMES | {"final_answer"})) else None


def _rubbish(behind: str) -> bool:
    """Broken trailers and nothing at all, but not an answer that goes on."""
    start = behind.lstrip(LOOSE)
    return start.startswith("{") or behind.lstrip(SPACE).startswith("```") or len(start) < PROSE_CHARS_MIN


def _tidy(text: str, fence: Fence) -> str:
    """Without white space around it, and without a fence at its end that was cut off in the middle."""
    for length in range(min(len(fence.end) - 1, len(text)), len(MARK) - 1, -1):
        if text.endswith(fence.end[:length]) and not text[:-length].endswith(MARK[0]):
            return text[:-length].rstrip(LOOSE).strip(SPACE)
    return text.strip(SPACE)
