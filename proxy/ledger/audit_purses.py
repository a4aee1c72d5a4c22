"""The rules that prove the purses, as those of `proxy.ledger.audit` prove the caps."""

# ruff: noqa: S608 (statements are put together from constants of this file only)

from __future__ import annotations

from typing import Final

_ACCOUNT: Final = "'purse:' || scope || ':' || scope_id || ':' || wallet"
_PURSE: Final = f"'purse ' || purses.id || ' (' || {_ACCOUNT} || ')'"
_HOLD: Final = "'hold ' || holds.id"
_SUMS: Final = """
WITH sums AS (
    SELECT purse, sum(CASE WHEN state < 3 THEN held_charged ELSE 0 END) AS held, sum(coalesce(paid, 0)) AS paid,
        sum(CASE WHEN state = 3 THEN max(0, charged - held_charged) ELSE 0 END) AS overage
    FROM holds WHERE purse IS NOT NULL GROUP BY purse
), granted AS (SELECT purse, sum(amount) AS amount FROM grants GROUP BY purse)
"""


def _purse_rule(column: str, expected: str) -> str:
    return (
        f"{_SUMS} SELECT {_PURSE}, {expected}, purses.{column} FROM purses LEFT JOIN sums ON sums.purse = purses.id"
        f" LEFT JOIN granted ON granted.purse = purses.id WHERE purses.{column} <> {expected}"
    )


def _moved(origin: str, kind: int) -> str:
    return f"coalesce((SELECT amount FROM transfers WHERE origin = {origin} AND kind = {kind}), 0)"


PURSE_RULES: Final[dict[str, str]] = {
    "a purse was granted the sum of its grants": _purse_rule("granted", "coalesce(granted.amount, 0)"),
    "a purse holds the sum of its open holds": _purse_rule("held", "coalesce(sums.held, 0)"),
    "a purse has spent what it paid for holds": _purse_rule("spent", "folded + coalesce(sums.paid, 0)"),
    "a purse's overage is what was settled above its holds": _purse_rule(
        "overage", "folded_overage + coalesce(sums.overage, 0)"
    ),
    "no purse is below zero": f"""
        SELECT {_PURSE}, '0 or more left', granted - spent - held FROM purses WHERE spent + held > granted""",
    "a purse's account holds what was granted and not spent": f"""
        SELECT {_PURSE}, granted - spent, coalesce(balance, 0) FROM purses LEFT JOIN (
            SELECT name, sum(moved) AS balance FROM (
                SELECT debit AS account, -amount AS moved FROM transfers WHERE kind IN (5, 15, 22)
                UNION ALL SELECT credit, amount FROM transfers WHERE kind = 21
            ) JOIN accounts ON accounts.id = account WHERE book = 'charged' GROUP BY name
        ) ON name = {_ACCOUNT} WHERE granted - spent <> coalesce(balance, 0)""",
    "a purse has its pruned payments": f"""
        SELECT {_PURSE}, folded, {_moved("purses.id", 15)} FROM purses WHERE folded <> {_moved("purses.id", 15)}""",
    "the days' payments are the purses'": """
        SELECT 'days', (SELECT coalesce(sum(folded), 0) FROM purses), sum_ FROM (
            SELECT coalesce(sum(paid), 0) AS sum_ FROM days
        ) WHERE sum_ <> (SELECT coalesce(sum(folded), 0) FROM purses)""",
    "a grant has its transfer": f"""
        SELECT 'grant ' || name, amount, {_moved("grants.id", 21)} - {_moved("grants.id", 22)} FROM grants
        WHERE amount <> {_moved("grants.id", 21)} - {_moved("grants.id", 22)}""",
    "a grant belongs to a purse": """
        SELECT 'grant ' || name, 'purse ' || purse, 'none' FROM grants
        WHERE NOT EXISTS (SELECT 1 FROM purses WHERE purses.id = grants.purse)""",
    "a payment or grant goes between the accounts of its kind": """
        SELECT 'transfer ' || origin || '/' || kind,
            CASE kind WHEN 21 THEN 'grants to ' || own WHEN 22 THEN own || ' to grants' ELSE own || ' to income' END,
            coalesce(payer.name, 'none') || ' to ' || coalesce(payee.name, 'none')
        FROM (
            SELECT transfers.*, 'purse:' || scope || ':' || scope_id || ':' || wallet AS own
            FROM transfers LEFT JOIN holds ON kind = 5 AND holds.id = origin
            LEFT JOIN grants ON kind > 20 AND grants.id = origin
            LEFT JOIN purses ON purses.id = CASE kind WHEN 5 THEN holds.purse WHEN 15 THEN origin ELSE grants.purse END
            WHERE kind IN (5, 15, 21, 22)
        ) AS moved
        LEFT JOIN accounts AS payer ON payer.id = moved.debit LEFT JOIN accounts AS payee ON payee.id = moved.credit
        WHERE payer.book IS NOT 'charged' OR payee.book IS NOT 'charged'
            OR payer.name IS NOT CASE kind WHEN 21 THEN 'grants' ELSE own END
            OR payee.name IS NOT CASE kind WHEN 21 THEN own WHEN 22 THEN 'grants' ELSE 'income' END""",
    "the purse of a hold is there": f"""
        SELECT {_HOLD}, 'purse ' || purse, 'none' FROM holds
        WHERE purse IS NOT NULL AND NOT EXISTS (SELECT 1 FROM purses WHERE purses.id = holds.purse)""",
    "a purse pays at most what was held and charged": f"""
        SELECT {_HOLD}, CASE WHEN purse IS NULL OR state < 3 THEN 'nothing paid'
            ELSE 'from 0 to ' || min(charged, held_charged) END, coalesce(paid, 'nothing')
        FROM holds WHERE CASE WHEN purse IS NULL OR state < 3 THEN paid IS NOT NULL
            ELSE paid IS NULL OR paid < 0 OR paid > min(charged, held_charged) END""",
    "a purse pays for the input of what a crash left": f"""
        SELECT {_HOLD}, min(input_charged, held_charged), paid FROM holds
        WHERE state = 3 AND purse IS NOT NULL AND outcome = 'crashed'
            AND paid IS NOT min(input_charged, held_charged)""",
    "a hold of money names the source of its prices": f"""
        SELECT {_HOLD}, 'a source of prices', 'none' FROM holds WHERE held_charged > 0 AND price_source = ''""",
}
