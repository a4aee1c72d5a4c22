"""`content` of policies/teams.yaml: shipped rules by name, patterns of one's own, checked before they run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Final

import re2  # type: ignore[import-untyped]

from proxy.config.problems import Marks, Problem, near
from proxy.config.rules import PATTERN_CHARS_MAX, ContentEntry
from proxy.content_patterns import PATTERNS
from proxy.policy import ContentRule

PATTERN_BYTES_MAX: Final = 8 << 20
"""Memory of one compiled pattern."""
_WITHOUT_TEXT: Final = ("", "a", " ", "a ", " a", "\n", "a\n", "\na", "ab", "1", "_")
"""In these every kind of edge stands: what matches nothing but an edge shows itself in one of them."""


def build_content(entries: Iterable[ContentEntry], marks: Marks, problems: list[Problem]) -> tuple[ContentRule, ...]:
    """The rules in their order; what is wrong goes to `problems`."""
    built: dict[str, ContentRule] = {}
    for index, entry in enumerate(entries):
        part = marks.below(index)
        if entry.name in built:
            problems.append(part.problem(("name",), f"the rule '{entry.name}' stands here twice"))
        base = _base(entry, part, problems)
        if base is not None:
            built[entry.name] = _changed(base, entry)
    return tuple(built.values())


def _base(entry: ContentEntry, marks: Marks, problems: list[Problem]) -> ContentRule | None:
    shipped = PATTERNS.get(entry.name)
    if entry.pattern is None:
        if shipped is None:
            message = f"no rule '{entry.name}' ships with Tollway; one of your own needs a 'pattern'"
            problems.append(marks.problem(("name",), message, suggestion=near(entry.name, PATTERNS)))
        return shipped
    if shipped is not None:
        problems.append(marks.problem(("name",), f"'{entry.name}' is the name of a shipped rule; choose another"))
    if entry.action is None:
        problems.append(marks.problem((), f"say what becomes of a match of '{entry.name}': action: refuse or redact"))
    if (wrong := pattern_mistake(entry.pattern)) is not None:
        problems.append(marks.problem(("pattern",), wrong))
    return ContentRule(entry.name, entry.pattern, entry.action or "refuse")


def _changed(base: ContentRule, entry: ContentEntry) -> ContentRule:
    on = entry.on
    return replace(
        base,
        action=entry.action or base.action,
        requests=base.requests if on is None else "requests" in on,
        answers=base.answers if on is None else "answers" in on,
        replacement=base.replacement if entry.replacement is None else entry.replacement,
        match_chars_max=entry.match_chars_max or base.match_chars_max,
        check=entry.check or base.check,
    )


@lru_cache(maxsize=1024)
def pattern_mistake(pattern: str) -> str | None:
    """What keeps a pattern from being used; None where nothing does."""
    if len(pattern) > PATTERN_CHARS_MAX:
        return f"the pattern is longer than {PATTERN_CHARS_MAX} characters"
    options = re2.Options()
    options.log_errors = False
    options.max_mem = PATTERN_BYTES_MAX
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        said = error.args[0] if error.args else "unknown"
        words = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        return f"not a pattern in RE2 syntax: {words} (there are no look-arounds and no back-references)"
    if any(found.end() == found.start() for text in _WITHOUT_TEXT for found in compiled.finditer(text)):
        return "the pattern can match the empty text, so it would be found everywhere"
    return None
