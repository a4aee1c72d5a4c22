"""From a pattern to the pattern of everything that a match of it can begin with.

A stream must hold back a text that could still become a match, and nothing more. Whether the end of what came so far
is such a text is itself a regular question: the beginnings of all matches are a regular language, whose pattern is
built here from the syntax tree. RE2 then answers in linear time.

Source of the syntax: RE2's own page. RE2 has compiled a pattern before it is read here, so that this reader only
has to tell the parts of a valid pattern from one another, not to find faults in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

NESTING_MAX: Final = 50
"""Groups inside one another: each level repeats what it holds once."""

_ASSERTIONS: Final = {"^", "$", r"\b", r"\B", r"\A", r"\z"}
_ANCHORS: Final = {"^", "$", r"\A", r"\z"}
_REPEAT: Final = re.compile(r"(?:[*+?]|\{(\d+)(?:(,)(\d*))?\})\??")
_FLAGS: Final = re.compile(r"\(\?([imsU]*)(?:-([imsU]+))?([:)])")
_GROUP: Final = re.compile(r"\((?!\?)|\(\?P?<\w+>")
_ESCAPE: Final = re.compile(r"\\(?:x\{[0-9A-Fa-f]+\}|x[0-9A-Fa-f]{2}|[pP](?:\{\^?\w+\}|\w)|[0-7]{1,3}|.)", re.DOTALL)
_CLASS: Final = re.compile(
    r"\[\^?\]?(?:\[:\^?\w+:\]|\\(?:x\{[0-9A-Fa-f]+\}|[pP](?:\{\^?\w+\}|\w)|.)|[^\]\\])*\]", re.DOTALL
)


class PatternError(ValueError):
    """The pattern uses something that cannot be held back in a stream; the message says what."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What can be said about the matches of a pattern."""

    same: str
    """The same pattern without capturing groups: many of these can stand in one."""
    beginnings: str
    """Matches every beginning of a match, the empty one and whole matches included."""
    chars_min: int
    """The shortest match."""
    anchored: bool
    """It looks for the beginning or end of a text or line."""


def shape(pattern: str) -> Shape:
    """Read a pattern that RE2 accepts. Raises PatternError."""
    reader = _Reader(pattern)
    tree = reader.alternatives("", 0)
    if reader.at < len(pattern):
        raise PatternError(f"it cannot be read from character {reader.at + 1} on")
    return Shape(tree.same, tree.beginnings, tree.chars_min, reader.anchored)


@dataclass(frozen=True, slots=True)
class _Part:
    """One part of a pattern: as it is, its beginnings, and the shortest text for it."""

    same: str
    beginnings: str
    chars_min: int
    single: bool = False
    """It stands for exactly one character."""
    short: str | None = None
    """Beginnings without those that are whole matches, where that is simpler."""
    assertion: bool = False


_NOTHING: Final = _Part("", "", 0)


class _Reader:
    """Recursive descent over one pattern. `at` is where it stands."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.anchored = False

    def alternatives(self, flags: str, depth: int) -> _Part:
        """To the end of the group, or of the pattern."""
        if depth > NESTING_MAX:
            raise PatternError(f"more than {NESTING_MAX} groups stand inside one another")
        branches: list[_Part] = []
        while True:
            part, flags = self._sequence(flags, depth)
            branches.append(part)
            if not self.pattern.startswith("|", self.at):
                break
            self.at += 1
        if len(branches) == 1:
            return branches[0]
        return _Part(
            f"(?:{'|'.join(part.same for part in branches)})",
            f"(?:{'|'.join(part.beginnings for part in branches)})",
            min(part.chars_min for part in branches),
        )

    def _sequence(self, flags: str, depth: int) -> tuple[_Part, str]:
        """One branch, and the flags that are set at its end."""
        parts: list[_Part] = []
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            if found := _FLAGS.match(self.pattern, self.at):
                self.at = found.end()
                changed = "".join(sorted((set(flags) | set(found[1])) - set(found[2] or "")))
                if found[3] == ")":
                    flags = changed
                    continue
                parts.append(self._repeated(self._closed(changed, depth)))
            elif found := _GROUP.match(self.pattern, self.at):
                self.at = found.end()
                parts.append(self._repeated(self._closed(flags, depth)))
            elif self.pattern.startswith(r"\Q", self.at):
                parts += self._quoted(flags)
            else:
                parts.append(self._repeated(self._atom(flags)))
        return _joined(parts), flags

    def _closed(self, flags: str, depth: int) -> _Part:
        part = self.alternatives(flags, depth + 1)
        self.at += 1
        return _Part(f"(?:{part.same})", f"(?:{part.beginnings})", part.chars_min)

    def _quoted(self, flags: str) -> list[_Part]:
        r"""`\Q...\E`; a repetition after it is of its last character."""
        end = self.pattern.find(r"\E", self.at)
        text = self.pattern[self.at + 2 : end if end >= 0 else len(self.pattern)]
        self.at = len(self.pattern) if end < 0 else end + 2
        parts = [_single(re.escape(letter), flags) for letter in text]
        if parts:
            parts[-1] = self._repeated(parts[-1])
        return parts

    def _atom(self, flags: str) -> _Part:
        """One character, class, escape or assertion."""
        letter = self.pattern[self.at]
        found = {"\\": _ESCAPE, "[": _CLASS}[letter].match(self.pattern, self.at) if letter in "\\[" else None
        text = found[0] if found else letter
        if text == r"\C":
            raise PatternError(r"\C stands for a byte; use '.' or a class")
        self.at += len(text)
        if text in _ASSERTIONS:
            self.anchored = self.anchored or text in _ANCHORS
            return _Part(_flagged(text, flags), "", 0, assertion=True)
        return _single(text, flags)

    def _repeated(self, part: _Part) -> _Part:
        while found := _REPEAT.match(self.pattern, self.at):
            self.at = found.end()
            part = _repetition(part, found[0], found)
        return part


def _flagged(text: str, flags: str) -> str:
    flags = flags.replace("U", "")
    return f"(?{flags}:{text})" if flags else text


def _single(text: str, flags: str) -> _Part:
    same = _flagged(text, flags)
    return _Part(same, f"{same}?", 1, single=True, short="")


def _repetition(part: _Part, text: str, found: re.Match[str]) -> _Part:
    if found[1] is None:
        least, most = (1, None) if text[0] == "+" else (0, None if text[0] == "*" else 1)
    else:
        least = int(found[1])
        most = least if found[2] is None else int(found[3]) if found[3] else None
    if most == 0:
        return _NOTHING
    if part.assertion:
        # Beside itself, an assertion says nothing new.
        return part if least else _Part(f"(?:{part.same})?", "", 0)
    same = f"(?:{part.same}){text}"
    before = f"(?:{part.same})*" if most is None else f"(?:{part.same}){{0,{most - 1}}}"
    if part.single:
        beginnings = before if most is None else f"(?:{part.same}){{0,{most}}}"
        short = f"(?:{part.same}){{0,{least - 1}}}" if least > 1 else ""
        return _Part(same, beginnings, least, short=short)
    return _Part(same, f"(?:{before}{part.beginnings})", part.chars_min * least)


def _joined(parts: list[_Part]) -> _Part:
    """Parts in a row: the beginnings of a b c are those of a, or a and those of b, or a b and those of c."""
    if len(parts) == 1:
        return parts[0]
    beginnings = ""
    for part in reversed(parts):
        following = part.same + beginnings
        if part.assertion or part.short == "":
            beginnings = f"(?:{following})?"
        elif part.short is not None:
            beginnings = f"(?:{following}|{part.short})"
        else:
            beginnings = f"(?:{following}|{part.beginnings})"
    return _Part("".join(part.same for part in parts), beginnings, sum(part.chars_min for part in parts))
