"""`hours` of policies/teams.yaml: days, times of the wall clock, time zones."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from proxy.config.problems import Marks, Path, Problem, near
from proxy.config.rules import HoursEntry
from proxy.policy.rules import Hours

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES_A_DAY: Final = 1440
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])|(24):(00)")
_LOOSE_TIME: Final = re.compile(r"([0-9]{1,2})(?:[:.h]([0-9]{2}))?")


def build_hours(entries: Iterable[HoursEntry], marks: Marks, problems: list[Problem], zone: str) -> tuple[Hours, ...]:
    """The windows; what cannot be read goes to `problems`."""
    built = []
    for index, entry in enumerate(entries):
        part = marks.below(index)
        days = frozenset(day for at, text in enumerate(entry.days) for day in _days(text, part, ("days", at), problems))
        start = _minute(entry.start, part, "from", problems)
        end = _minute(entry.end, part, "to", problems)
        if start == MINUTES_A_DAY:
            problems.append(part.problem(("from",), "a day ends at 24:00; it begins at 00:00", suggestion="00:00"))
        if entry.time_zone is not None and not is_zone(entry.time_zone):
            problems.append(zone_problem(entry.time_zone, part))
        built.append(Hours(days, start, end, entry.time_zone or zone))
    return tuple(built)


def _days(text: str, marks: Marks, path: Path, problems: list[Problem]) -> list[int]:
    """`mon`, or `fri-mon`, which goes over the end of the week."""
    first, dash, last = text.lower().partition("-")
    if first in DAYS and (last in DAYS or not dash):
        start = DAYS.index(first)
        length = (DAYS.index(last) - start) % 7 + 1 if dash else 1
        return [(start + step) % 7 for step in range(length)]
    parts = [part if part in DAYS else near(part, DAYS) or _short(part) for part in (first, last) if part]
    hint = "-".join(part for part in parts if part) if all(parts) and parts else None
    message = f"'{text}' is neither a day (mon, tue, ... sun) nor a span of them (mon-fri)"
    problems.append(marks.problem(path, message, suggestion=hint))
    return []


def _short(word: str) -> str | None:
    return word[:3] if word[:3] in DAYS else None


def _minute(text: str, marks: Marks, key: str, problems: list[Problem]) -> int:
    found = _TIME.fullmatch(text)
    if found is None:
        loose = _LOOSE_TIME.fullmatch(text)
        hint = f"{int(loose[1]):02d}:{loose[2] or '00'}" if loose else ""
        message = f"'{text}' is not a time of day as in 08:30"
        problems.append(marks.problem((key,), message, suggestion=hint if _TIME.fullmatch(hint) else None))
        return 0
    hour, minute = found[1] or found[3], found[2] or found[4]
    return int(hour) * 60 + int(minute)


@lru_cache(maxsize=1024)
def is_zone(name: str) -> bool:
    """Whether `name` is an IANA time zone of this machine."""
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def zone_problem(name: str, marks: Marks) -> Problem:
    """What is said about an unknown one, which stands at `time_zone` below `marks`."""
    message = f"'{name}' is not an IANA time zone"
    return marks.problem(("time_zone",), message, suggestion=near(name, zoneinfo.available_timezones()))
