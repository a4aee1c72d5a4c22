"""Proves that the ledger's sums hold. Reads one snapshot; changes nothing.

Each rule is a query for what breaks it, giving the subject, what it should be and what it is.
"""

# ruff: noqa: S608 (statements are put together from constants of this file only)

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.ledger.audit_payments import PAYMENT_RULES
from proxy.ledger.audit_purses import PURSE_RULES
from proxy.ledger.boots import is_alive
from proxy.ledger.payment_states import PaymentState

FINDINGS_PER_RULE_MAX: Final = 100
RULES_OF_THE_FILE: Final = 3
"""Beside `RULES`: no hold and no payment is left to a dead process, and the file is intact."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not hold."""

    rule: str
    subject: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.subject}: expected {self.expected}, found {self.found}"


def audit(connection: sqlite3.Connection, database: Path) -> list[Finding]:
    """Everything that does not hold; empty when the books are clean. Works while proxies are running."""
    findings: list[Finding] = []
    connection.execute("BEGIN")
    try:
        for rule, query in RULES.items():
            for subject, expected, found in connection.execute(query).fetchmany(FINDINGS_PER_RULE_MAX):
                findings.append(Finding(rule, str(subject), str(expected), str(found)))
        findings += _abandoned(connection, database)
        findings += _left_leased(connection, database)
        findings += _damaged(connection)
    finally:
        connection.execute("ROLLBACK")
    return findings


def _abandoned(connection: sqlite3.Connection, database: Path) -> list[Finding]:
    rows = connection.execute(
        "SELECT boot, (SELECT boot FROM boots WHERE id = holds.boot), count(*) FROM holds WHERE state < 3 GROUP BY boot"
    ).fetchall()
    return [
        Finding("no hold of a dead process is open", f"boot {name or number}", "0 open holds", f"{count} open holds")
        for number, name, count in rows
        if name is None or not is_alive(database, name)
    ]


def _left_leased(connection: sqlite3.Connection, database: Path) -> list[Finding]:
    rows = connection.execute(
        "SELECT boot, (SELECT boot FROM boots WHERE id = payments.boot), count(*) FROM payments"
        " WHERE boot IS NOT NULL GROUP BY boot"
    ).fetchall()
    return [
        Finding("no payment is leased by a dead process", f"boot {name or number}", "0 leases", f"{count} leases")
        for number, name, count in rows
        if name is None or not is_alive(database, name)
    ]


def _damaged(connection: sqlite3.Connection) -> list[Finding]:
    rows = connection.execute(f"PRAGMA integrity_check({FINDINGS_PER_RULE_MAX})").fetchall()
    return [Finding("the file is intact", "database", "ok", text) for (text,) in rows if text != "ok"]


_COUNTED: Final = """
WITH counted AS (
    SELECT each.value AS counter, holds.state < 3 AS open,
        CASE basis WHEN 'list' THEN coalesce(held_list, 0) ELSE held_charged END AS held,
        CASE basis WHEN 'list' THEN coalesce(list, 0) ELSE coalesce(charged, 0) END AS spent
    FROM holds JOIN json_each(holds.counters) AS each JOIN counters ON counters.id = each.value WHERE holds.state < 4
), sums AS (
    SELECT counter, sum(CASE WHEN open THEN held ELSE 0 END) AS held,
        sum(CASE WHEN open THEN 0 ELSE spent END) AS spent,
        sum(CASE WHEN open THEN 0 ELSE max(0, spent - held) END) AS overage
    FROM counted GROUP BY counter
)
"""
_COUNTER: Final = "'counter ' || id || ' (' || scope || ' ' || scope_id || ', ' || window || ', ' || basis || ')'"
_HOLD: Final = "'hold ' || holds.id"


def _counter_rule(column: str, expected: str) -> str:
    return (
        f"{_COUNTED} SELECT {_COUNTER}, {expected}, counters.{column} FROM counters"
        f" LEFT JOIN sums ON sums.counter = counters.id WHERE counters.{column} <> {expected}"
    )


def _transfer_rule(kind: int, expected: str) -> str:
    found = f"coalesce((SELECT amount FROM transfers WHERE origin = holds.id AND kind = {kind}), 0)"
    return f"SELECT {_HOLD}, {expected}, {found} FROM holds WHERE state = 3 AND {expected} IS NOT {found}"


def _day_rule(kind: int, expected: str) -> str:
    found = f"coalesce((SELECT amount FROM transfers WHERE origin = days.id AND kind = {kind}), 0)"
    return f"SELECT 'day ' || days.id, {expected}, {found} FROM days WHERE {expected} IS NOT {found}"


RULES: Final[dict[str, str]] = {
    "a counter holds the sum of its open holds": _counter_rule("held", "coalesce(sums.held, 0)"),
    "a counter has spent the sum of its settled holds": _counter_rule("spent", "folded + coalesce(sums.spent, 0)"),
    "a counter's overage is what was settled above its holds": _counter_rule(
        "overage", "folded_overage + coalesce(sums.overage, 0)"
    ),
    "no counter is over its limit but by overage": f"""
        SELECT {_COUNTER}, 'at most ' || limit_max, spent + held - overage FROM counters
        WHERE spent + held - overage > limit_max""",
    "every counter of a hold is there": f"""
        SELECT {_HOLD}, 'counter ' || each.value, 'none' FROM holds JOIN json_each(holds.counters) AS each
        WHERE NOT EXISTS (SELECT 1 FROM counters WHERE counters.id = each.value)""",
    "a settled hold has its charged transfer": _transfer_rule(1, "min(charged, held_charged) - coalesce(paid, 0)"),
    "a settled hold has its charged overage": _transfer_rule(2, "max(0, charged - held_charged)"),
    "a settled hold has its purse's payment": _transfer_rule(5, "coalesce(paid, 0)"),
    "a settled hold has its list transfer": _transfer_rule(3, "min(coalesce(list, 0), coalesce(held_list, 0))"),
    "a settled hold has its list overage": _transfer_rule(4, "max(0, coalesce(list, 0) - coalesce(held_list, 0))"),
    "of a fixed price nothing more is charged after a crash than is owed": f"""
        SELECT {_HOLD}, owed, charged FROM holds
        WHERE state = 3 AND outcome = 'crashed' AND owed IS NOT NULL AND charged IS NOT owed
        AND (charged IS NOT held_charged OR NOT EXISTS (
            SELECT 1 FROM payments WHERE payments.id = payment AND payments.state = {int(PaymentState.BURNT)}))""",
    "a day has its charged transfer": _day_rule(11, "charged - charged_overage - paid"),
    "a day has its charged overage": _day_rule(12, "charged_overage"),
    "a day has its list transfer": _day_rule(13, "list - list_overage"),
    "a day has its list overage": _day_rule(14, "list_overage"),
    "a transfer comes from what can move money": """
        SELECT 'transfer ' || origin || '/' || kind, 'what can move money', 'none' FROM transfers
        WHERE CASE WHEN kind <= 5 THEN NOT EXISTS (SELECT 1 FROM holds WHERE id = origin AND state = 3)
            WHEN kind BETWEEN 11 AND 14 THEN NOT EXISTS (SELECT 1 FROM days WHERE id = origin)
            WHEN kind = 15 THEN NOT EXISTS (SELECT 1 FROM purses WHERE id = origin)
            WHEN kind IN (21, 22) THEN NOT EXISTS (SELECT 1 FROM grants WHERE id = origin)
            WHEN kind BETWEEN 31 AND 38 THEN NOT EXISTS (SELECT 1 FROM payments WHERE id = origin)
            WHEN kind = 41 THEN NOT EXISTS (SELECT 1 FROM holds WHERE id = origin AND state = 3)
            WHEN kind IN (42, 43) THEN NOT EXISTS (SELECT 1 FROM balances WHERE id = origin) ELSE 1 END""",
    "a transfer goes between the accounts of its kind": """
        SELECT 'transfer ' || origin || '/' || kind,
            wanted || ': ' || CASE kind % 2 WHEN 1 THEN 'team:' ELSE 'overage:' END || team || ' to ' || sink,
            coalesce(payer.book || ' ' || payer.name, 'none') || ' to '
                || coalesce(payee.book || ' ' || payee.name, 'none')
        FROM (
            SELECT transfers.*, coalesce(holds.team, days.team) AS team,
                CASE WHEN kind % 10 <= 2 THEN 'charged' ELSE 'list' END AS wanted,
                CASE WHEN kind % 10 <= 2 THEN 'income' ELSE 'providers' END AS sink
            FROM transfers LEFT JOIN holds ON kind <= 4 AND holds.id = origin
            LEFT JOIN days ON kind BETWEEN 11 AND 14 AND days.id = origin WHERE kind <= 4 OR kind BETWEEN 11 AND 14
        ) AS moved
        LEFT JOIN accounts AS payer ON payer.id = moved.debit LEFT JOIN accounts AS payee ON payee.id = moved.credit
        WHERE payer.name IS NOT CASE kind % 2 WHEN 1 THEN 'team:' ELSE 'overage:' END || team
            OR payee.name IS NOT sink OR payer.book IS NOT wanted OR payee.book IS NOT wanted""",
    "the accounts of a book sum to zero": """
        SELECT 'book ' || coalesce(book, 'of no account'), 0, sum(moved) FROM (
            SELECT debit AS account, -amount AS moved FROM transfers
            UNION ALL SELECT credit, amount FROM transfers
        ) LEFT JOIN accounts ON accounts.id = account GROUP BY book HAVING sum(moved) <> 0 OR book IS NULL""",
    "the attempts of a hold cost its list total": f"""
        SELECT {_HOLD}, list, coalesce(sum(list_cost), 0) FROM holds LEFT JOIN attempts ON hold_id = holds.id
        WHERE state = 3 AND list IS NOT NULL AND holds.outcome <> 'invalid_amount' GROUP BY holds.id
        HAVING list <> coalesce(sum(list_cost), 0)""",
    "an ended hold has its amounts and its end": f"""
        SELECT {_HOLD}, 'charged, outcome and end', 'some missing' FROM holds WHERE CASE WHEN state = 3
            THEN charged IS NULL OR outcome IS NULL OR ended_ms IS NULL
            WHEN state = 4 THEN charged IS NOT 0 OR outcome IS NULL OR ended_ms IS NULL
            ELSE charged IS NOT NULL OR list IS NOT NULL OR ended_ms IS NOT NULL END""",
    "an ended hold has no attempt under way": f"""
        SELECT {_HOLD}, 'an outcome of attempt ' || number, 'none' FROM holds JOIN attempts ON hold_id = holds.id
        WHERE state >= 3 AND attempts.outcome IS NULL""",
    "a hold is dispatched when it has attempts": f"""
        SELECT {_HOLD}, CASE state WHEN 0 THEN 'no attempt' ELSE 'an attempt' END, attempts FROM (
            SELECT id, state, (SELECT count(*) FROM attempts WHERE hold_id = holds.id) AS attempts FROM holds
            WHERE state < 3
        ) AS holds WHERE (state = 0) <> (attempts = 0)""",
    "an attempt belongs to a hold": """
        SELECT 'attempt ' || hold_id || '/' || number, 'a hold', 'none' FROM attempts
        WHERE NOT EXISTS (SELECT 1 FROM holds WHERE holds.id = hold_id)""",
    "an exchange has one hold": """
        SELECT 'exchange ' || exchange_id, 1, count(*) FROM holds GROUP BY exchange_id HAVING count(*) > 1""",
    "a transfer happens once": """
        SELECT 'transfer ' || origin || '/' || kind, 1, count(*) FROM transfers
        GROUP BY origin, kind HAVING count(*) > 1""",
    **PURSE_RULES,
    **PAYMENT_RULES,
}
