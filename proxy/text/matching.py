"""Content rules, compiled: which stretches of a text are matches, decided as early as the text allows.

Every call of RE2 is linear in the text that it is given, and no text that is held back is longer than the longest
match of a rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import re2  # type: ignore[import-untyped]

from proxy.policy.rules import ContentRule
from proxy.text.prefixes import PatternError, shape

CONTEXT_CHARS: Final = 2
"""Kept before the text under search: `\\b` looks one back, the check of card numbers two."""
PIECE_CHARS: Final = 512
"""A long text is searched in pieces of this size, so that a match costs no more than its own piece."""
MEMORY_BYTES_MAX: Final = 32 << 20
"""Of one compiled pattern. RE2 takes what it needs, and searches more slowly where that is not enough."""
_LONE: Final = re.compile("[\ud800-\udfff]")
_DIGITS_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


class Hit(NamedTuple):
    """A match: where it begins and ends in the whole text, and of which rule."""

    start: int
    end: int
    rule: ContentRule


def problem(rule: ContentRule) -> str | None:
    """Why a rule cannot be used, in words for who wrote it; None where it can."""
    try:
        _compiled(rule.pattern)
        found = shape(rule.pattern)
        _compiled(f"(?:{found.beginnings})\\z")
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        return f"RE2 does not accept the pattern: {reason.decode() if isinstance(reason, bytes) else reason}"
    except PatternError as error:
        return f"the pattern cannot be used: {error}"
    if found.chars_min == 0:
        return "the pattern also matches an empty text: let it ask for one character at least"
    if found.chars_min > rule.match_chars_max:
        return (
            f"its shortest match has {found.chars_min} characters, and match_chars_max allows {rule.match_chars_max}: "
            "it can never match"
        )
    return None


def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.never_capture = True
    options.log_errors = False
    options.max_mem = MEMORY_BYTES_MAX
    return re2.compile(pattern, options)


@dataclass(frozen=True, slots=True)
class _Search:
    """One rule, ready to be looked for."""

    rule: ContentRule
    regexp: Any

    def hits(self, text: str, start: int, limit: int) -> Iterator[tuple[int, int]]:
        """Matches that begin at `start` or later and before `limit`, none overlapping another, in order."""
        while start < limit:
            for found in self.regexp.finditer(text, start):
                begin, found_end = found.span()
                if begin >= limit:
                    return
                end = self._end(text, begin, found_end)
                if end > begin:
                    yield begin, end
                if end != found_end:
                    # The search goes on somewhere else than RE2 would.
                    start = max(end, begin + 1)
                    break
            else:
                return

    def _end(self, text: str, begin: int, end: int) -> int:
        """Where the match really ends that RE2 found, `begin` where it is none."""
        if end - begin > self.rule.match_chars_max:
            found = self.regexp.match(text, begin, begin + self.rule.match_chars_max)
            end = begin if found is None else found.end()
        return self._card_end(text, begin, end) if self.rule.check == "luhn" else end

    def _card_end(self, text: str, begin: int, end: int) -> int:
        """Where the card number ends that begins here, `begin` where none does.

        What follows a number may look like more of it (4111 1111 1111 1111 12/27), so that the check is made again
        without the last group of digits. Digits after a decimal point are none.
        """
        if begin >= 2 and text[begin - 1] in ".," and text[begin - 2].isdigit():
            return begin
        while end > begin:
            if passes_luhn(text[begin:end]):
                return end
            while end > begin and text[end - 1].isdigit():
                end -= 1
            found = self.regexp.match(text, begin, end)
            end = begin if found is None else found.end()
        return begin


def passes_luhn(text: str) -> bool:
    """The check sum of card numbers (ISO/IEC 7812-1), over the digits of a text."""
    digits = [int(letter) for letter in text if letter in "0123456789"]
    return bool(digits) and (sum(digits[-1::-2]) + sum([_DIGITS_DOUBLED[digit] for digit in digits[-2::-2]])) % 10 == 0


class Matcher:
    """The rules for one direction, compiled once and used by many exchanges."""

    __slots__ = ("_any", "_beginnings", "_longest", "_searches", "anchored", "rules")

    def __init__(self, rules: tuple[ContentRule, ...]) -> None:
        """Raises PatternError or re2.error for a rule that `problem` finds fault with."""
        shapes = [shape(rule.pattern) for rule in rules]
        self.rules = rules
        self.anchored = any(found.anchored for found in shapes)
        """Whether it matters to a rule where a text begins and ends."""
        self._searches = [_Search(rule, _compiled(rule.pattern)) for rule in rules]
        self._any = _compiled("|".join([f"(?:{found.same})" for found in shapes]))
        self._beginnings = _compiled(f"(?:{'|'.join([found.beginnings for found in shapes])})\\z")
        self._longest = max([rule.match_chars_max for rule in rules], default=0)

    def may_match(self, text: str) -> bool:
        """False where no rule has a match in this text: one call for all of them."""
        return self._any.search(searchable(text)) is not None

    def undecided(self, text: str, start: int) -> int:
        """From where on `text` could be the beginning of a match that what follows completes."""
        found = self._beginnings.search(text, max(start, len(text) - self._longest))
        return len(text) if found is None else int(found.start())

    def hits(self, text: str, starts: list[int], start: int, limit: int) -> list[Hit]:
        """All rules' matches that begin from `start` on and before `limit`, in order.

        `starts` says for each rule where its last match ended, and is moved on.
        """
        first = self._any.search(text, start)
        if first is None or first.start() >= limit:
            return []
        hits: list[Hit] = []
        for number, search in enumerate(self._searches):
            for begin, end in search.hits(text, max(start, starts[number]), limit):
                hits.append(Hit(begin, end, search.rule))
                starts[number] = end
        hits.sort(key=lambda hit: hit.start)
        return hits


def searchable(text: str) -> str:
    """The same text, character by character, as something that UTF-8 can express."""
    return text if text.isascii() else _LONE.sub("\ufffd", text)


class Scanner:
    """Looks for matches in one text that comes piece by piece.

    What it finds does not depend on how the text was cut.
    """

    __slots__ = ("_base", "_decided", "_kept", "_matcher", "_starts")

    def __init__(self, matcher: Matcher) -> None:
        self._matcher = matcher
        self._kept = ""
        self._base = 0
        """Where `_kept` begins in the whole text."""
        self._decided = 0
        """All matches that begin before this are known; an offset in the whole text."""
        self._starts = [0] * len(matcher.rules)

    def feed(self, text: str, *, last: bool = False) -> tuple[list[Hit], int]:
        """The matches that are now certain, and the offset before which every match that begins is known."""
        hits: list[Hit] = []
        for at in range(0, len(text), PIECE_CHARS):
            hits += self._step(text[at : at + PIECE_CHARS] if len(text) > PIECE_CHARS else text, last=False)
        if last:
            hits += self._step("", last=True)
        return hits, self._decided

    def _step(self, text: str, *, last: bool) -> list[Hit]:
        matcher, base = self._matcher, self._base
        kept = self._kept + searchable(text)
        start = self._decided - base
        limit = len(kept) if last else matcher.undecided(kept, start)
        starts = [offset - base for offset in self._starts]
        hits = matcher.hits(kept, starts, start, limit) if limit > start else []
        if hits:
            self._starts = [offset + base for offset in starts]
            hits = [Hit(hit.start + base, hit.end + base, hit.rule) for hit in hits]
        self._decided = base + limit
        cut = max(0, limit - CONTEXT_CHARS)
        self._kept = kept[cut:]
        self._base = base + cut
        return hits
