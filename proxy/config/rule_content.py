"""`content` of policies/teams.yaml: shipped rules by name, patterns of one's own, checked before they run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

from proxy.config.problems import Marks, Problem, near
from proxy.config.rules import PATTERN_CHARS_MAX, ContentEntry
from proxy.policy.content_patterns import PATTERNS
from proxy.policy.rules import ContentRule
from proxy.text.matching import problem


def build_content(entries: Iterable[ContentEntry], marks: Marks, problems: list[Problem]) -> tuple[ContentRule, ...]:
    """The rules in their order; what is wrong goes to `problems`."""
    built: dict[str, ContentRule] = {}
    for index, entry in enumerate(entries):
        part = marks.below(index)
        if entry.name in built:
            problems.append(part.problem(("name",), f"the rule '{entry.name}' stands here twice"))
        base = _base(entry, part, problems)
        if base is not None:
            built[entry.name] = rule = _changed(base, entry)
            if (entry.pattern is not None or entry.match_chars_max is not None) and (wrong := _mistake(rule)):
                problems.append(part.problem(("pattern",), wrong))
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
def _mistake(rule: ContentRule) -> str | None:
    if len(rule.pattern) > PATTERN_CHARS_MAX:
        return f"the pattern is longer than {PATTERN_CHARS_MAX} characters"
    return problem(rule)
