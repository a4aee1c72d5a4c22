"""What ran on partners' machines, and what they get of it.

An exchange counts for the partner whose upstream served it: the last of its attempts that did. The partner is the one
whom the configuration named when the call was made; changing it later moves nothing. An exchange belongs to the
moment at which its hold was made. Attempts that failed, and those of a process that died, count for nobody.
"""

# ruff: noqa: S608 (statements are put together from constants of this file only)

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import Final

from proxy.pricing.money import Nano

SERVED: Final = """
SELECT hold_id, at_ms, partner, upstream, coalesce(input_tokens, 0) AS input_tokens,
    coalesce(output_tokens, 0) AS output_tokens, coalesce(list_cost, 0) AS list_cost, charged,
    coalesce(paid, min(charged, held_charged)) AS revenue
FROM attempts JOIN holds ON holds.id = hold_id
WHERE partner IS NOT NULL AND state = 3 AND attempts.outcome = 'served' AND number = (
    SELECT max(number) FROM attempts AS others WHERE others.hold_id = holds.id AND others.outcome = 'served')
"""
"""One row for each exchange that a partner served. `revenue` is what its caller owes or a purse has paid: of
`charged` neither what was reported above the hold nor what a purse did not pay."""


@dataclass(frozen=True, slots=True)
class PartnerUsage:
    """Sums of one upstream of a partner."""

    upstream: str
    requests: int
    input_tokens: int
    output_tokens: int
    list: Nano
    """What the attempts cost at list."""
    charged: Nano
    revenue: Nano


@dataclass(frozen=True, slots=True)
class Statement:
    """A partner's usage of a span of time, by upstream, and its share."""

    partner: str
    share_percent: Decimal | None
    """None: nothing was agreed, or the configuration does not say."""
    rows: tuple[PartnerUsage, ...]

    @property
    def total(self) -> PartnerUsage:
        """The sum of all rows."""
        return PartnerUsage(
            "total",
            sum(row.requests for row in self.rows),
            sum(row.input_tokens for row in self.rows),
            sum(row.output_tokens for row in self.rows),
            Nano(sum(row.list for row in self.rows)),
            Nano(sum(row.charged for row in self.rows)),
            Nano(sum(row.revenue for row in self.rows)),
        )

    @property
    def share(self) -> Nano | None:
        """The partner's part of the revenue, rounded down to a nano-dollar once, over all of it."""
        if self.share_percent is None:
            return None
        exact = Decimal(self.total.revenue) * self.share_percent / 100
        return Nano(int(exact.to_integral_value(ROUND_FLOOR)))


def statement(
    connection: sqlite3.Connection, partner: str, share_percent: Decimal | None, *, since_ms: int, until_ms: int
) -> Statement:
    """Of [since_ms, until_ms), dearest upstream first; from exchanges and from the days folded from pruned ones."""
    bounds = {"partner": partner, "since": since_ms, "until": until_ms}
    rows = connection.execute(_STATEMENT, bounds).fetchall()
    return Statement(partner, share_percent, tuple(PartnerUsage(*row) for row in rows))


def partners_seen(connection: sqlite3.Connection) -> set[str]:
    """Every partner who has served anything."""
    return {name for (name,) in connection.execute(_SEEN)}


_STATEMENT: Final = f"""
SELECT upstream, sum(requests), sum(input_tokens), sum(output_tokens), sum(list), sum(charged), sum(revenue) FROM (
    SELECT upstream, 1 AS requests, input_tokens, output_tokens, list_cost AS list, charged, revenue FROM ({SERVED})
    WHERE partner = :partner AND at_ms >= :since AND at_ms < :until
    UNION ALL SELECT upstream, requests, input_tokens, output_tokens, list, charged, revenue FROM partner_days
    WHERE partner = :partner AND at_ms >= :since AND at_ms < :until
) GROUP BY upstream ORDER BY sum(revenue) DESC, upstream
"""
_SEEN: Final = """
SELECT DISTINCT partner FROM attempts WHERE partner IS NOT NULL UNION SELECT partner FROM partner_days
"""
