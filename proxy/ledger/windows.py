"""When the windows of caps begin and end, in a time zone, over daylight saving.

A day or month begins at local midnight, an hour at the full local hour. A midnight that the clock skips counts
at the instant of the skip, one that comes twice counts the first time; an hour that comes twice is two windows.
So windows never overlap or leave a gap, and days have 23, 24 or 25 hours.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

WINDOWS: Final = ("hour", "day", "month", "total")
ZONES_CACHED_MAX: Final = 64

_current: dict[tuple[str, ZoneInfo], tuple[int, int]] = {}


def window_bounds(window: str, at_ms: int, zone: ZoneInfo) -> tuple[int, int]:
    """First millisecond of the window that holds `at_ms`, and the first one after it; (0, 0) for total.

    Raises ValueError for a window that is not one of `WINDOWS`.
    """
    if window == "total":
        return 0, 0
    bounds = _current.get((window, zone))
    if bounds is None or not bounds[0] <= at_ms < bounds[1]:
        if len(_current) >= ZONES_CACHED_MAX:
            _current.clear()
        bounds = _current[(window, zone)] = _bounds(window, at_ms, zone)
    return bounds


def _bounds(window: str, at_ms: int, zone: ZoneInfo) -> tuple[int, int]:
    local = datetime.fromtimestamp(at_ms // 1000, zone).replace(tzinfo=None)
    begins = sorted({begin for start in _around(window, local) for begin in _instants(window, start, zone)})
    before = [begin for begin in begins if begin <= at_ms]
    after = [begin for begin in begins if begin > at_ms]
    return before[-1], after[0]


def _around(window: str, local: datetime) -> list[datetime]:
    """Beginnings of the local windows near `local`; more than enough on both sides for any shift of the clock."""
    hour = local.replace(minute=0, second=0, microsecond=0)
    if window == "hour":
        return [hour + timedelta(hours=step) for step in range(-3, 5)]
    day = hour.replace(hour=0)
    if window == "day":
        return [day + timedelta(days=step) for step in range(-2, 4)]
    if window == "month":
        month = day.replace(day=1)
        previous = (month - timedelta(days=1)).replace(day=1)
        following = (month + timedelta(days=32)).replace(day=1)
        return [previous, month, following, (following + timedelta(days=32)).replace(day=1)]
    raise ValueError(f"a window is one of {', '.join(WINDOWS)}, not '{window}'")


def _instants(window: str, start: datetime, zone: ZoneInfo) -> list[int]:
    first = start.replace(tzinfo=zone)
    instants = [_milliseconds(first)]
    again = first.replace(fold=1)
    if window == "hour" and again.utcoffset() != first.utcoffset() and _exists(again):
        instants.append(_milliseconds(again))
    return instants


def _exists(moment: datetime) -> bool:
    back = moment.astimezone(UTC).astimezone(moment.tzinfo)
    return back.replace(tzinfo=None, fold=0) == moment.replace(tzinfo=None, fold=0)


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000
