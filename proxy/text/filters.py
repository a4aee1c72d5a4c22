"""Texts with what content rules redact taken out, as they come piece by piece.

`PlainText` takes text as a person reads it. `JsonText` takes JSON written out as text (the arguments of a tool's
call), whose own escapes may be cut in two as well. Both let go of a character as soon as it can belong to no match.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import orjson

from proxy.policy.rules import ContentRule
from proxy.text.matching import Hit, Matcher, Scanner

REFUSE: Final = "refuse"
Struck = Callable[[ContentRule], None]
"""Told of each match's rule, once for each stretch of text that it takes out."""

_HIGH_LAST: Final = re.compile("[\ud800-\udbff]\\Z")
_PAIR: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_HIGH_ESCAPE: Final = r"\\u[dD][89abAB][0-9a-fA-F]{2}"
_JSON_TOKEN: Final = re.compile(
    r'[^"\\]+|"'
    # An escape of which more may come.
    rf"|(?P<cut>(?:\\(?:u[0-9a-fA-F]{{0,3}})?|{_HIGH_ESCAPE}(?:\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]?)?)?)?)?)\Z)"
    rf"|{_HIGH_ESCAPE}\\u[dD][c-fC-F][0-9a-fA-F]{{2}}|\\u[0-9a-fA-F]{{4}}|\\u|\\[^u]",
    re.DOTALL,
)
_SHORT_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class Refused(Exception):
    """A rule that refuses has matched. `place` is for who asked."""

    def __init__(self, rule: ContentRule) -> None:
        super().__init__(rule.name)
        self.rule = rule
        self.place = ""


class PlainText:
    """One text. What `feed` and `finish` return, joined, is the whole text redacted."""

    __slots__ = ("_at", "_covered", "_high", "_matcher", "_pending", "_scanner", "_struck")

    def __init__(self, matcher: Matcher, struck: Struck) -> None:
        self._matcher = matcher
        self._struck = struck
        self._high = ""
        """First half of a character beyond 16 bits, whose second half comes with the next piece."""
        self._restart()

    def _restart(self) -> None:
        self._scanner = Scanner(self._matcher)
        self._pending = ""
        self._at = 0
        """Where `_pending` begins in the whole text."""
        self._covered = 0
        """Where the last stretch that was taken out ends."""

    @property
    def holds(self) -> bool:
        """Something came that has not gone out yet."""
        return bool(self._pending or self._high)

    def feed(self, text: str) -> str:
        """What may go out now. Raises Refused."""
        if self._high:
            text = self._high + text
            self._high = ""
        if not text.isascii():
            text = _joined_pairs(text)
            if _HIGH_LAST.search(text):
                text, self._high = text[:-1], text[-1]
        return self._pass(text, last=False)

    def finish(self) -> str:
        """The text has ended; what is left of it. Raises Refused."""
        text, self._high = self._high, ""
        return self._pass(text, last=True)

    def _pass(self, text: str, *, last: bool) -> str:
        hits, decided = self._scanner.feed(text, last=last)
        self._pending += text
        pieces: list[str] = []
        for hit in hits:
            self._take_out(hit, pieces)
        self._let_go(decided, pieces)
        return "".join(pieces)

    def _take_out(self, hit: Hit, pieces: list[str]) -> None:
        """Stretches that overlap are one, replaced by what the first one's rule says."""
        if hit.start >= self._covered:
            self._let_go(hit.start, pieces)
            if hit.rule.action != REFUSE:
                pieces.append(self._replacement(hit.rule))
        self._struck(hit.rule)
        if hit.rule.action == REFUSE:
            raise Refused(hit.rule)
        self._covered = max(self._covered, hit.end)

    def _let_go(self, end: int, pieces: list[str]) -> None:
        """The text up to `end`, less what is covered."""
        start = max(self._at, min(self._covered, end))
        if end > start:
            pieces.append(self._written(start, end))
        if end > self._at:
            self._pending = self._pending[end - self._at :]
            self._at = end

    def _written(self, start: int, end: int) -> str:
        return self._pending[start - self._at : end - self._at]

    def _replacement(self, rule: ContentRule) -> str:
        return rule.replacement


class JsonText(PlainText):
    """JSON written out as text. Each of its strings is a text of its own, as is what stands between two strings.

    Matches are looked for in the strings as they read once their escapes are undone; what goes out keeps the escapes
    of the rest, and remains JSON. Text that is no JSON passes through the same rules, backslashes taken literally.
    """

    __slots__ = ("_escapes", "_in_string", "_tail")

    def __init__(self, matcher: Matcher, struck: Struck) -> None:
        super().__init__(matcher, struck)
        self._in_string = False
        self._tail = ""
        """The beginning of an escape whose rest has not come."""

    def _restart(self) -> None:
        super()._restart()
        self._escapes: dict[int, str] = {}
        """How the characters at these offsets were written."""

    @property
    def holds(self) -> bool:
        """See PlainText."""
        return bool(self._tail) or super().holds

    def _pass(self, text: str, *, last: bool) -> str:
        text = self._tail + text
        self._tail = ""
        pieces: list[str] = []
        run: list[str] = []
        self._tokens(text, run, pieces, last=last)
        pieces.append(super()._pass("".join(run), last=last))
        return "".join(pieces)

    def _tokens(self, text: str, run: list[str], pieces: list[str], *, last: bool) -> None:
        """Undo escapes into `run`; a quote ends one text and begins the next."""
        offset = self._at + len(self._pending)
        for found in _JSON_TOKEN.finditer(text):
            part = found[0]
            if part == '"':
                pieces.append(super()._pass("".join(run), last=True))
                pieces.append(part)
                self._in_string = not self._in_string
                self._restart()
                run.clear()
                offset = 0
                continue
            if found["cut"] and not last:
                self._tail = part
                return
            letters = _unescaped(part) if part[0] == "\\" else part
            if letters is not part:
                self._escapes[offset] = part
            run.append(letters)
            offset += len(letters)

    def _written(self, start: int, end: int) -> str:
        text = super()._written(start, end)
        if not self._escapes:
            return text
        written = [(at, how) for at, how in self._escapes.items() if start <= at < end]
        pieces: list[str] = []
        done = start
        for at, how in written:
            pieces += (text[done - start : at - start], how)
            done = at + 1
        pieces.append(text[done - start :])
        self._escapes = {at: how for at, how in self._escapes.items() if at >= end}
        return "".join(pieces)

    def _replacement(self, rule: ContentRule) -> str:
        quoted = orjson.dumps(rule.replacement).decode()
        return quoted[1:-1] if self._in_string else quoted


def _joined_pairs(text: str) -> str:
    """Halves of a character that stand beside each other become that character."""
    return _PAIR.sub(lambda found: found[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)


def _unescaped(token: str) -> str:
    """One character for an escape; the token itself where it is none, or not a whole one."""
    if len(token) == 2:
        return token[1] if token[1] in '"\\/' else _SHORT_ESCAPES.get(token[1], token)
    if len(token) not in (6, 12):
        return token
    code = int(token[2:6], 16)
    if len(token) == 6:
        return chr(code)
    return chr(0x10000 + ((code - 0xD800) << 10) + (int(token[8:], 16) - 0xDC00))


def redacted(matcher: Matcher, text: str, struck: Struck, *, json: bool = False) -> str:
    """A whole text, redacted. Raises Refused."""
    if not matcher.anchored and not (json and "\\" in text) and not matcher.may_match(text):
        return text
    made = JsonText(matcher, struck) if json else PlainText(matcher, struck)
    return made.feed(text) + made.finish()
