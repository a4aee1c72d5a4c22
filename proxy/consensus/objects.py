"""JSON objects within text of doubtful quality, found and read in linear time; and several of them made one."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

OBJECT_CHARS_MAX: Final = 64_000
NESTING_MAX: Final = 32

_MARKS: Final = re.compile(r'["{}\n]|\\.', re.DOTALL)
_CODE_FENCE: Final = re.compile(r"^```[A-Za-z0-9]{0,10}[ \t]*\n(.*?)\n?```$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Spans:
    """Where objects stand in a text."""

    closed: tuple[tuple[int, int], ...]
    """From brace to behind its brace, outermost ones only, in order."""
    open: int | None
    """The first brace that nothing closes; objects behind it stand in it."""


def spans(text: str) -> Spans:
    """Outermost objects. A brace in prose that nobody closes does not hide what comes behind it. Braces in strings do
    not count, but only within objects, and a string ends with its line at the latest: prose has lone quotes."""
    starts: list[int] = []
    closed: list[tuple[int, int]] = []
    quoted = False
    for found in _MARKS.finditer(text):
        mark = found[0]
        if mark == "\n":
            quoted = False
        elif mark == '"':
            quoted = bool(starts) and not quoted
        elif mark == "{" and not quoted:
            starts.append(found.start())
        elif mark == "}" and not quoted and starts:
            start = starts.pop()
            while closed and closed[-1][0] > start:
                closed.pop()
            closed.append((start, found.end()))
    return Spans(tuple(closed), starts[0] if starts else None)


def last_object(text: str) -> dict[str, Any] | None:
    """The last outermost JSON object of the text. None where there is none or it is broken, has duplicate keys, is
    nested too deep or too large: an earlier one is never taken in its place."""
    found = spans(text).closed
    return _loaded(text[slice(*found[-1])]) if found else None


def read_object(text: str) -> dict[str, Any] | None:
    """A text that is one JSON object, perhaps within a Markdown code fence; None otherwise."""
    text = text.strip()
    if text.startswith("```") and len(text) <= OBJECT_CHARS_MAX and (within := _CODE_FENCE.match(text)):
        text = within[1].strip()
    return _loaded(text) if text.startswith("{") and text.endswith("}") else None


def depth(value: Any) -> int:
    """How deep arrays and objects are nested; 0 for a scalar. Counts to one beyond NESTING_MAX at most."""
    level, layer = 0, [value]
    while level <= NESTING_MAX and (holders := [each for each in layer if isinstance(each, dict | list)]):
        level += 1
        layer = [each for holder in holders for each in (holder.values() if isinstance(holder, dict) else holder)]
    return level


def merged_object(objects: Sequence[dict[str, Any]], weights: Sequence[Fraction]) -> dict[str, Any]:
    """Field by field the value with most weight behind it, at a tie the earliest's; objects field by field, lists
    whole. Validate it against the schema: fields of different members need not go together."""
    return _merged(list(zip(objects, weights, strict=True)), 0)


def _merged(voices: list[tuple[dict[str, Any], Fraction]], level: int) -> dict[str, Any]:
    total = sum((weight for _, weight in voices), Fraction(0))
    result: dict[str, Any] = {}
    for key in dict.fromkeys(key for each, _ in voices for key in each):
        said = [(each[key], weight) for each, weight in voices if key in each]
        if sum((weight for _, weight in said), Fraction(0)) * 2 < total:
            continue
        groups: dict[str, list[tuple[Any, Fraction]]] = {}
        for value, weight in said:
            groups.setdefault(_kind(value), []).append((value, weight))
        leading = max(groups.values(), key=_weight)
        if isinstance(leading[0][0], dict) and level < NESTING_MAX:
            result[key] = _merged(leading, level + 1)
        else:
            result[key] = leading[0][0]
    return result


def _kind(value: Any) -> str:
    """Objects are one choice, whatever is in them; everything else is one with its equals."""
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)


def _weight(group: list[tuple[Any, Fraction]]) -> Fraction:
    return sum((weight for _, weight in group), Fraction(0))


class _BrokenError(ValueError):
    """Not JSON as we take it."""


def _loaded(text: str) -> dict[str, Any] | None:
    if len(text) > OBJECT_CHARS_MAX or _nesting(text) > NESTING_MAX:
        return None
    try:
        found = json.loads(text, object_pairs_hook=_unique, parse_constant=_refused, parse_float=_finite, strict=False)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _nesting(text: str) -> int:
    """An upper bound, quick to find: brackets in strings count as well."""
    level = deepest = 0
    for each in re.findall(r"[\[\]{}]", text):
        level += 1 if each in "[{" else -1
        deepest = max(deepest, level)
    return deepest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _BrokenError("a key stands twice")
    return result


def _refused(constant: str) -> Any:
    raise _BrokenError(f"{constant} is no JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise _BrokenError("a number is too large")
    return value
