"""Fences and a trailer taken out of a text that comes piece by piece."""

from __future__ import annotations

import re
from typing import Final

from proxy.consensus.fences import Fence
from proxy.consensus.normal import clean
from proxy.consensus.trailers import GAP, LOOSE, SPACE, fence_pattern, split

FENCE_CHARS_MAX: Final = 200
"""No fence is longer; what begins like one is held back to the end of its line, or for so many characters."""
OPENING_CHARS_MAX: Final = 400
"""The same of what begins like a trailer."""

_OBJECT_LINE: Final = re.compile(r"^[ \t\0]*(?=```|\{)", re.MULTILINE)
_CODE: Final = re.compile(r"```[A-Za-z0-9]{0,10}")
_TRAILER: Final = '{"final_answer"'
_NEARLY_FENCE: Final = re.compile(r"[^@\n]{0,20}END[ \t]{1,4}ANSWER", re.IGNORECASE)


class Splitter:
    """Takes fences and a trailer out of a text that comes piece by piece, should a synthesiser echo one.

    What `push` and `end` return, joined, is the visible text that `trailers.split` finds in the whole; it does not
    depend on how the text was cut up. Held back are white space and emphasis at the end (a fence may follow), lines
    with `@@` until they are whole, and everything behind what ends an answer.
    """

    def __init__(self, fence: Fence) -> None:
        self._fence = fence
        self._pattern = fence_pattern(fence)
        self._pieces: list[str] = []
        self._pending = ""
        self._line_begins = True
        """`_pending` does: what is shown never ends with a line break."""
        self._shown_chars = 0
        self._closed = False

    def push(self, text: str) -> str:
        """The next piece; returns what can be shown by now."""
        text = clean(text)
        self._pieces.append(text)
        if self._closed:
            return ""
        self._pending += text
        return self._show(self._safe())

    def end(self) -> str:
        """No more comes; returns what was held back and is no fence."""
        visible, _ = split("".join(self._pieces), self._fence)
        rest = visible[self._shown_chars :]
        self._shown_chars, self._closed = len(visible), True
        return rest

    def _show(self, count: int) -> str:
        shown, self._pending = self._pending[:count], self._pending[count:]
        visible = (shown if self._shown_chars else shown.lstrip(SPACE)).replace(GAP, "")
        if visible:
            self._line_begins = False
            self._shown_chars += len(visible)
        return visible

    def _safe(self) -> int:
        """How many characters of what is pending can be neither fence nor trailer."""
        at = 0
        while True:
            mark = self._pending.find("@@", at)
            opening = self._opening(mark if mark >= 0 else len(self._pending))
            if opening is not None:
                return self._loose(opening)
            if mark < 0:
                return self._loose(len(self._pending) - self._pending.endswith("@"))
            run_end = mark + len(self._pending[mark:]) - len(self._pending[mark:].lstrip("@"))
            line = self._pending[run_end : run_end + FENCE_CHARS_MAX]
            found = self._pattern.search(self._pending, max(0, mark - 3), run_end + FENCE_CHARS_MAX)
            found = found if found and found.start() <= mark else None
            if ("\n" not in line and len(line) < FENCE_CHARS_MAX) or (found and found.end() == len(self._pending)):
                return self._loose(mark)
            if (found and found[1]) or _NEARLY_FENCE.match(line):
                self._closed = True
                return self._loose(mark)
            if found is None:
                at = run_end
            else:
                self._pending = self._pending[: found.start()] + GAP + self._pending[found.end() :]
                at = found.start()

    def _opening(self, end: int) -> int | None:
        """Where before `end` a line begins that is, or may become, the first of a trailer."""
        for line in _OBJECT_LINE.finditer(self._pending):
            if line.start() >= end:
                return None
            if line.start() == 0 and not self._line_begins:
                continue
            begun = "".join(self._pending[line.end() : line.end() + OPENING_CHARS_MAX].split())
            rest = _CODE.sub("", begun, count=1) if begun.startswith("```") else begun
            if rest.startswith(_TRAILER):
                self._closed = True
                return line.start()
            if _TRAILER.startswith(rest) and len(self._pending) - line.end() < OPENING_CHARS_MAX:
                return line.start()
        return None

    def _loose(self, end: int) -> int:
        return len(self._pending[:end].rstrip(LOOSE))
