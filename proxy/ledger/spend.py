"""What was spent, by team, user, key, model or day: sums over settled holds and the days folded from pruned ones.

An exchange belongs to the moment at which its hold was made, as in the windows of caps. Days are put together
from quarter hours, which no time zone's offset or change of offset cuts.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from proxy.pricing.money import ZERO, Nano

GROUPS: Final = ("team", "user", "key", "model", "day")
_QUARTER_HOUR_MS: Final = 900_000
_COLUMNS: Final = {
    "team": "team",
    "user": "team || '/' || user",
    "key": "key_id",
    "model": "model",
    "day": f"at_ms / {_QUARTER_HOUR_MS}",
}


@dataclass(slots=True)
class SpendRow:
    """Sums of one group."""

    group: str
    """Team, team/user, key id, model, or day as YYYY-MM-DD."""
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    charged: Nano = ZERO
    list: Nano = ZERO
    charged_overage: Nano = ZERO
    """The part of `charged` that was above its holds."""
    list_overage: Nano = ZERO
    paid: Nano = ZERO
    """The part of `charged` that purses paid in advance."""

    def add(self, sums: tuple[int, ...]) -> None:
        """Add sums in the order of the fields after `group`."""
        for field, amount in zip(_SUMS, sums, strict=True):
            setattr(self, field, getattr(self, field) + amount)


_SUMS: Final = tuple(field.name for field in fields(SpendRow))[1:]


def spend(connection: sqlite3.Connection, by: str, *, since_ms: int, until_ms: int, zone: ZoneInfo) -> list[SpendRow]:
    """Rows of [since_ms, until_ms), dearest first, days in order. Raises ValueError for an unknown group."""
    if by not in GROUPS:
        raise ValueError(f"spend is grouped by one of {', '.join(GROUPS)}, not '{by}'")
    rows: dict[str, SpendRow] = {}
    bounds = {"since": since_ms, "until": until_ms}
    connection.execute("BEGIN")
    try:
        for query in (_HOLDS, _ATTEMPTS, _DAYS):
            for group, *sums in connection.execute(query.format(group=_COLUMNS[by]), bounds):
                name = _day(group, zone) if by == "day" else group
                rows.setdefault(name, SpendRow(name)).add(tuple(sums))
    finally:
        connection.execute("ROLLBACK")
    if by == "day":
        return sorted(rows.values(), key=lambda row: row.group)
    return sorted(rows.values(), key=lambda row: (-row.charged, -row.list, row.group))


def total(rows: list[SpendRow]) -> SpendRow:
    """The sum of all rows."""
    result = SpendRow("total")
    for row in rows:
        result.add(tuple(getattr(row, field) for field in _SUMS))
    return result


def _day(quarter_hour: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(quarter_hour * _QUARTER_HOUR_MS // 1000, zone).date().isoformat()


_HOLDS: Final = """
SELECT {group}, count(*), 0, 0, 0, 0, sum(charged), sum(coalesce(list, 0)),
    sum(max(0, charged - held_charged)), sum(max(0, coalesce(list, 0) - coalesce(held_list, 0))),
    sum(coalesce(paid, 0))
FROM holds WHERE state = 3 AND at_ms >= :since AND at_ms < :until GROUP BY 1
"""
_ATTEMPTS: Final = """
SELECT {group}, 0, sum(coalesce(input_tokens, 0)), sum(coalesce(output_tokens, 0)), sum(coalesce(cached_tokens, 0)),
    sum(coalesce(reasoning_tokens, 0)), 0, 0, 0, 0, 0
FROM holds JOIN attempts ON attempts.hold_id = holds.id
WHERE state = 3 AND at_ms >= :since AND at_ms < :until GROUP BY 1
"""
_DAYS: Final = """
SELECT {group}, sum(requests), sum(input_tokens), sum(output_tokens), sum(cached_tokens), sum(reasoning_tokens),
    sum(charged), sum(list), sum(charged_overage), sum(list_overage), sum(paid)
FROM days WHERE at_ms >= :since AND at_ms < :until GROUP BY 1
"""
