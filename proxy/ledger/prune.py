"""Folds old exchanges into a row a day, so that the file stops growing while every sum stays provable."""

# ruff: noqa: S608 (statements are put together from constants of this file only)

from __future__ import annotations

import sqlite3
from typing import Final
from zoneinfo import ZoneInfo

import orjson

from proxy.ledger.partners import SERVED
from proxy.ledger.windows import window_bounds

HOLDS_PER_TRANSACTION_MAX: Final = 200
"""Short transactions: proxies go on writing between them."""
_FOLDED_KIND: Final = 10
"""Added to the kind of a hold's transfer for that of its day."""
_OF_HOLDS: Final = "(kind <= 5 OR kind = 41) AND origin"
_Old = tuple[int, int, int, str, str, str, str, int, int, int, int, str, int | None, int, int | None, int]


def prune(connection: sqlite3.Connection, *, before_ms: int, zone: ZoneInfo) -> int:
    """Fold ended holds made before `before_ms`, their attempts and transfers; says how many holds.

    What purses and balances have paid stays provable, and what partners have served stays in their statements. The
    newest hold always stays, so that ids are never given twice. Days are those of `zone`. The connection is the
    caller's own, never a running ledger's.
    """
    pruned = 0
    while True:
        connection.execute("BEGIN IMMEDIATE")
        try:
            old: list[_Old] = connection.execute(_OLD, (before_ms, HOLDS_PER_TRANSACTION_MAX)).fetchall()
            for hold in old:
                _fold(connection, hold, zone)
            if not old:
                _drop_counters(connection, before_ms)
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        if not old:
            return pruned
        pruned += len(old)


def _fold(connection: sqlite3.Connection, hold: _Old, zone: ZoneInfo) -> None:
    hold_id, at_ms, state, team, user, key_id, model, charged, list_, over, list_over, counters, purse, paid = hold[:14]
    balance, tendered = hold[14:]
    if state == 3:
        start, _ = window_bounds("day", at_ms, zone)
        tokens = connection.execute(_TOKENS, (hold_id,)).fetchone()
        (day,) = connection.execute(
            _DAY, (start, team, user, key_id, model, *tokens, charged, list_, over, list_over, paid)
        ).fetchone()
        connection.execute(_MOVE, (day, _FOLDED_KIND, start, hold_id))
        for counter in orjson.loads(counters):
            connection.execute(_COUNT, (list_, charged, list_over, over, counter))
        if purse is not None:
            connection.execute(_PAY, (purse, start, hold_id))
            connection.execute(_PURSE, (paid, over, purse))
        if balance is not None and tendered:
            connection.execute(_DRAW, (balance, start, hold_id))
            connection.execute("UPDATE balances SET folded = folded + ? WHERE id = ?", (tendered, balance))
        connection.execute(_PARTNER_DAY, (start, hold_id))
    for table, column in (("transfers", _OF_HOLDS), ("attempts", "hold_id"), ("holds", "id")):
        connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (hold_id,))


def _drop_counters(connection: sqlite3.Connection, before_ms: int) -> None:
    # No hold that is left may count in a window that is dropped.
    (oldest,) = connection.execute("SELECT coalesce(min(at_ms), 0) FROM holds").fetchone()
    connection.execute(
        "DELETE FROM counters WHERE end_ms > 0 AND end_ms <= ? AND held = 0 AND spent = folded",
        (min(before_ms, oldest),),
    )


_OLD: Final = """
SELECT id, at_ms, state, team, user, key_id, model, charged, coalesce(list, 0), max(0, charged - held_charged),
    max(0, coalesce(list, 0) - coalesce(held_list, 0)), counters, purse, coalesce(paid, 0),
    balance, coalesce(tender_paid, 0)
FROM holds WHERE state >= 3 AND at_ms < ? AND id < (SELECT max(id) FROM holds) ORDER BY id LIMIT ?
"""
_TOKENS: Final = """
SELECT coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0), coalesce(sum(cached_tokens), 0),
    coalesce(sum(reasoning_tokens), 0) FROM attempts WHERE hold_id = ?
"""
_DAY: Final = """
INSERT INTO days (at_ms, team, user, key_id, model, requests, input_tokens, output_tokens, cached_tokens,
    reasoning_tokens, charged, list, charged_overage, list_overage, paid) VALUES (?,?,?,?,?,1,?,?,?,?,?,?,?,?,?)
ON CONFLICT (at_ms, team, user, key_id, model) DO UPDATE SET requests = requests + 1,
    input_tokens = input_tokens + excluded.input_tokens, output_tokens = output_tokens + excluded.output_tokens,
    cached_tokens = cached_tokens + excluded.cached_tokens,
    reasoning_tokens = reasoning_tokens + excluded.reasoning_tokens, charged = charged + excluded.charged,
    list = list + excluded.list, charged_overage = charged_overage + excluded.charged_overage,
    list_overage = list_overage + excluded.list_overage, paid = paid + excluded.paid
RETURNING id
"""
_MOVE: Final = """
INSERT INTO transfers (origin, kind, debit, credit, amount, at_ms)
SELECT ?1, kind + ?2, debit, credit, amount, ?3 FROM transfers WHERE origin = ?4 AND kind <= 4
ON CONFLICT (origin, kind) DO UPDATE SET amount = amount + excluded.amount
"""
_COUNT: Final = """
UPDATE counters SET folded = folded + CASE basis WHEN 'list' THEN ?1 ELSE ?2 END,
    folded_overage = folded_overage + CASE basis WHEN 'list' THEN ?3 ELSE ?4 END WHERE id = ?5
"""
_PAY: Final = """
INSERT INTO transfers (origin, kind, debit, credit, amount, at_ms)
SELECT ?1, 15, debit, credit, amount, ?2 FROM transfers WHERE origin = ?3 AND kind = 5
ON CONFLICT (origin, kind) DO UPDATE SET amount = amount + excluded.amount
"""
_DRAW: Final = """
INSERT INTO transfers (origin, kind, debit, credit, amount, at_ms)
SELECT ?1, 42, debit, credit, amount, ?2 FROM transfers WHERE origin = ?3 AND kind = 41
ON CONFLICT (origin, kind) DO UPDATE SET amount = amount + excluded.amount
"""
_PURSE: Final = "UPDATE purses SET folded = folded + ?, folded_overage = folded_overage + ? WHERE id = ?"
_PARTNER_DAY: Final = f"""
INSERT INTO partner_days (at_ms, partner, upstream, requests, input_tokens, output_tokens, list, charged, revenue)
SELECT ?1, partner, upstream, 1, input_tokens, output_tokens, list_cost, charged, revenue
FROM ({SERVED}) WHERE hold_id = ?2
ON CONFLICT (at_ms, partner, upstream) DO UPDATE SET requests = requests + 1,
    input_tokens = input_tokens + excluded.input_tokens, output_tokens = output_tokens + excluded.output_tokens,
    list = list + excluded.list, charged = charged + excluded.charged, revenue = revenue + excluded.revenue
"""
