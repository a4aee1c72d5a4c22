"""Fences of one request: what a member wrote stands between them as data, and cannot close them.

A fence is `@@@BEGIN <label> <nonce>@@@` or `@@@END <label> <nonce>@@@`. `@` has few look-alikes, and three of them
stand in hardly any text or code. Give every stage a nonce of its own: a member then never knows the fences that its
answer is shown in.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

import re2  # type: ignore[import-untyped]

from proxy.consensus.normal import clean

MARK: Final = "@@@"
NONCE_MASK: Final = "[nonce]"

_NONCE: Final = re.compile(r"[A-Za-z0-9]{8,64}")
_LABEL: Final = re.compile(r"[A-Za-z0-9 #-]{1,40}")
_AT: Final = r"(?:[@＠﹫\x{E0040}]|&#0{0,5}64;?|&#[xX]0{0,5}40;?|&commat;?|\\u(?:0040|FF20|ff20|FE6B|fe6b))"
_BETWEEN: Final = r"[\s\p{Z}\p{Cc}\p{Cf}\p{M}\x{115F}\x{1160}\x{3164}\x{FFA0}\x{2800}]"
"""What cannot be seen, or only sits on the character before it."""
_RUN: Final = re2.compile(rf"{_AT}(?:{_BETWEEN}*{_AT})+")
_ONE: Final = re2.compile(_AT)
_OTHER_MARKS: Final = frozenset("＠﹫\U000e0040&\\")
"""What any other spelling of a mark begins with: a run without them is broken up at once, however long it is."""
_UNSEEN_CATEGORIES: Final = ("Z", "Cc", "Cf", "M")
_UNSEEN_OTHERS: Final = frozenset((0x115F, 0x1160, 0x3164, 0xFFA0, 0x2800))
_REMEMBERED_MAX: Final = 10_000
_KEYWORD: Final = re.compile(r"(?:begin|end)")
_KEYWORD_WINDOW_CHARS: Final = 40
_ALIKE: Final = str.maketrans("вβеεёԍɡіιɩı1l|!пηνոԁɗ3", "bbeeeggiiiiiiiinnnndde")


@dataclass(frozen=True, slots=True)
class Fence:
    """The fences of one nonce."""

    nonce: str
    """8 to 64 letters and digits that nobody can guess. Raises ValueError otherwise."""

    def __post_init__(self) -> None:
        if not _NONCE.fullmatch(self.nonce):
            raise ValueError("A fence's nonce has 8 to 64 letters and digits.")

    @property
    def end(self) -> str:
        """What a member writes on a line of its own behind its answer, before the trailer."""
        return f"{MARK}END ANSWER {self.nonce}{MARK}"

    def data(self, label: str, text: str, chars_max: int) -> str:
        """`text` between its two fences: escaped, and cut at `chars_max` with the cut marked.

        `label` is ours: letters, digits, spaces, `#` and `-`, at most 40. Raises ValueError otherwise.
        """
        if not _LABEL.fullmatch(label):
            raise ValueError("A fence's label has 1 to 40 letters, digits, spaces, # and -.")
        return (
            f"{MARK}BEGIN {label} {self.nonce}{MARK}\n"
            f"{bounded_data(text, self.nonce, chars_max)}\n"
            f"{MARK}END {label} {self.nonce}{MARK}"
        )


def bounded_data(text: str, nonce: str, chars_max: int) -> str:
    """Escaped, at most `chars_max` characters and behind them, where something was cut off, a note that says so."""
    shown = escaped(text[:chars_max], nonce)[:chars_max]
    return shown if len(text) <= chars_max else f"{shown}\n[cut off here: {len(text) - chars_max} more characters]"


def escaped(text: str, nonce: str) -> str:
    """The text with everything in it broken up that looks like a fence: other case, Unicode look-alikes, partial,
    split over lines, invisible characters in between; and with the nonce masked. Otherwise as it was. Idempotent."""
    text = clean(text)
    if _seems(text, nonce):
        text = _masked(text, nonce)

    def broken(run: re.Match[str]) -> str:
        if not _alike(run, text):
            return run[0]
        if run[0][0] == "@" and _OTHER_MARKS.isdisjoint(run[0]):
            return "@" + run[0][1:].replace("@", "\\@")
        first = True

        def backslashed(one: re.Match[str]) -> str:
            nonlocal first
            was, first = first, False
            return one[0] if was else "\\" + one[0]

        return str(_ONE.sub(backslashed, run[0]))

    return str(_RUN.sub(broken, text))


def looks_fenced(text: str, nonce: str = "") -> bool:
    """Whether something in the text looks like a fence, or holds the nonce."""
    text = clean(text)
    return any(_alike(run, text) for run in _RUN.finditer(text)) or _seems(text, nonce)


def forges_fence(text: str) -> bool:
    """Whether something in it is meant for a fence: not marks alone, which drawings have, too."""
    text = clean(text)
    return any(_worded(run, text) for run in _RUN.finditer(text))


def _alike(run: re.Match[str], text: str) -> bool:
    """Three marks, or two before the word that a fence goes on with."""
    return run[0].count("@") >= len(MARK) or len(_ONE.findall(run[0])) >= len(MARK) or _worded(run, text)


def _worded(run: re.Match[str], text: str) -> bool:
    return bool(_KEYWORD.match(_folded(text[run.end() : run.end() + _KEYWORD_WINDOW_CHARS]).translate(_ALIKE)))


class _Seen(dict[int, int | None]):
    """For str.translate: every character of _BETWEEN is left out. It fills with what comes: a regular expression that
    replaces every space of a long text is some hundred times slower."""

    def __missing__(self, point: int) -> int | None:
        unseen = unicodedata.category(chr(point)).startswith(_UNSEEN_CATEGORIES) or point in _UNSEEN_OTHERS
        seen = None if unseen else point
        if len(self) < _REMEMBERED_MAX:
            self[point] = seen
        return seen


_SEEN: Final = _Seen()


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text.translate(_SEEN)).casefold()


def _seems(text: str, nonce: str) -> bool:
    return bool(nonce) and nonce.casefold() in _folded(text)


def _masked(text: str, nonce: str) -> str:
    """Character by character, since folding moves them: only for a text that has the nonce in it."""
    letters: list[str] = []
    places: list[int] = []
    for index, letter in enumerate(text):
        folded = _folded(letter)
        letters += folded
        places += [index] * len(folded)
    joined, sought = "".join(letters), nonce.casefold()
    result, at, found = "", 0, joined.find(sought)
    while found >= 0:
        start, end = places[found], places[found + len(sought) - 1] + 1
        result, at = result + text[at:start] + NONCE_MASK, end
        found = joined.find(sought, found + len(sought))
    return result + text[at:]
