"""The rules that prove payments, balances, ecash and invoices, and the sums of each unit."""

# ruff: noqa: S608 (statements are put together from constants of this file only)

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

_PAYMENT: Final = "'payment ' || payments.id || ' (' || payments.name || ')'"
_BALANCE: Final = "'balance ' || balances.id"
_HOLD: Final = "'hold ' || holds.id"
_TRANSFER: Final = "'transfer ' || origin || '/' || kind"
_PARTS: Final = "captured + credited + returned + change + fee + absorbed + expired + held"
_KINDS: Final = {
    31: ("amount", "'outside'", "'payments'"),
    32: ("fee", "'payments'", "'fees'"),
    33: ("captured", "'payments'", "'income'"),
    34: ("credited", "'payments'", "'balance:' || payments.balance"),
    35: ("returned", "'payments'", "'returned'"),
    36: ("change", "'payments'", "'change'"),
    37: ("absorbed", "'payments'", "'absorbed'"),
    38: ("expired", "'payments'", "'expired'"),
}
"""The part of a payment that a transfer moves, from where, and where to."""


@dataclass(frozen=True, slots=True)
class UnitSums:
    """What became of all that was ever paid in one unit: `deposits` is the sum of all the others."""

    unit: str
    deposits: int
    captured: int
    """Bought answers: by payments, and by balances."""
    refundable: int
    """Left on balances, and settled payments that nobody has."""
    held: int
    """For exchanges under way."""
    change: int
    fees: int
    absorbed: int
    expired: int
    returned: int

    @property
    def accounted(self) -> int:
        """What `deposits` should be."""
        return (
            self.captured + self.refundable + self.held + self.change
            + self.fees + self.absorbed + self.expired + self.returned
        )  # fmt: skip


def unit_sums(connection: sqlite3.Connection) -> list[UnitSums]:
    """One for each unit that anything was paid in."""
    return [UnitSums(*row) for row in connection.execute(_SUMS)]


_SUMS: Final = """
SELECT unit, sum(deposits) AS deposits, sum(captured) AS captured, sum(refundable) AS refundable, sum(held) AS held,
    sum(change) AS change, sum(fees) AS fees, sum(absorbed) AS absorbed, sum(expired) AS expired,
    sum(returned) AS returned
FROM (
    SELECT unit, amount AS deposits, captured, CASE WHEN boot IS NULL THEN held ELSE 0 END AS refundable,
        CASE WHEN boot IS NULL THEN 0 ELSE held END AS held, change, fee AS fees, absorbed, expired, returned
    FROM payments WHERE amount > 0
    UNION ALL SELECT unit, 0, spent, deposited - spent - held - expired, held, 0, 0, 0, expired, 0 FROM balances
) GROUP BY unit ORDER BY unit
"""
_MOVED: Final = """
SELECT book, name, sum(moved) AS amount FROM (
    SELECT debit AS account, -amount AS moved FROM transfers UNION ALL SELECT credit, amount FROM transfers
) JOIN accounts ON accounts.id = account WHERE book IN ('msat', 'usdc') GROUP BY book, name
"""


def _account_rule(account: str, sign: str, expected: str) -> str:
    """An account of every unit holds what the tables say."""
    return f"""
        WITH moved AS ({_MOVED}) SELECT 'book ' || unit, {expected}, {sign}coalesce(amount, 0) FROM ({_SUMS}) AS sums
        LEFT JOIN moved ON book = unit AND name = '{account}' WHERE {expected} <> {sign}coalesce(amount, 0)"""


def _balance_rule(column: str, expected: str) -> str:
    return f"""
        WITH sums AS (
            SELECT balance, sum(CASE WHEN state < 3 THEN tender_held ELSE 0 END) AS held,
                sum(coalesce(tender_paid, 0)) AS paid FROM holds WHERE balance IS NOT NULL GROUP BY balance
        ), credits AS (
            SELECT balance, sum(credited) AS credited FROM payments WHERE balance IS NOT NULL GROUP BY balance
        )
        SELECT {_BALANCE}, {expected}, balances.{column} FROM balances LEFT JOIN sums ON sums.balance = balances.id
        LEFT JOIN credits ON credits.balance = balances.id WHERE balances.{column} <> {expected}"""


def _moved(origin: str, kind: int) -> str:
    return f"coalesce((SELECT amount FROM transfers WHERE origin = {origin} AND kind = {kind}), 0)"


def _parts() -> str:
    return " UNION ALL ".join(
        f"SELECT {_PAYMENT} || ', {part}', {part}, {_moved('payments.id', kind)} FROM payments"
        f" WHERE {part} <> {_moved('payments.id', kind)}"
        for kind, (part, _, _) in _KINDS.items()
    )


def _ends() -> str:
    payer = " ".join(f"WHEN {kind} THEN {payer}" for kind, (_, payer, _) in _KINDS.items())
    payee = " ".join(f"WHEN {kind} THEN {payee}" for kind, (_, _, payee) in _KINDS.items())
    return f"""
        SELECT {_TRANSFER}, unit || ': ' || wanted_payer || ' to ' || wanted_payee,
            coalesce(payer.book || ' ' || payer.name, 'none') || ' to '
                || coalesce(payee.book || ' ' || payee.name, 'none')
        FROM (
            SELECT transfers.*, coalesce(payments.unit, balances.unit) AS unit,
                CASE transfers.kind {payer} ELSE 'balance:' || balances.id END AS wanted_payer,
                CASE transfers.kind {payee} WHEN 43 THEN 'expired' ELSE 'income' END AS wanted_payee
            FROM transfers LEFT JOIN payments ON transfers.kind BETWEEN 31 AND 38 AND payments.id = origin
            LEFT JOIN holds ON transfers.kind = 41 AND holds.id = origin
            LEFT JOIN balances ON transfers.kind > 40
                AND balances.id = CASE transfers.kind WHEN 41 THEN holds.balance ELSE origin END
            WHERE transfers.kind > 30
        ) AS moved
        LEFT JOIN accounts AS payer ON payer.id = moved.debit LEFT JOIN accounts AS payee ON payee.id = moved.credit
        WHERE payer.book IS NOT unit OR payee.book IS NOT unit
            OR payer.name IS NOT wanted_payer OR payee.name IS NOT wanted_payee"""


PAYMENT_RULES: Final[dict[str, str]] = {
    "a payment is the sum of what became of it": f"""
        SELECT {_PAYMENT}, amount, {_PARTS} FROM payments WHERE amount <> {_PARTS}""",
    "a payment has its transfers": _parts(),
    "a transfer of a payment goes between the accounts of its kind": _ends(),
    "what was not settled brought nothing": f"""
        SELECT {_PAYMENT}, 0, amount FROM payments WHERE state IN (0, 1, 3, 6) AND amount <> 0""",
    "what is final holds nothing": f"""
        SELECT {_PAYMENT}, 'nothing held', held FROM payments WHERE state > 3 AND held <> 0""",
    "what is settled has not been spent": f"""
        SELECT {_PAYMENT}, 'nothing but a fee gone', {_PARTS} - fee - held FROM payments
        WHERE state = 2 AND {_PARTS} <> fee + held""",
    "what was given back bought nothing": f"""
        SELECT {_PAYMENT}, 'nothing bought', captured FROM payments WHERE state = 5 AND captured <> 0""",
    "a payment is in one pair of hands": f"""
        SELECT {_PAYMENT}, CASE state WHEN 1 THEN 'a lease' ELSE 'no lease' END, coalesce('boot ' || boot, 'none')
        FROM payments WHERE CASE state WHEN 1 THEN boot IS NULL WHEN 2 THEN 0 ELSE boot IS NOT NULL END
            OR (boot IS NULL AND (hold IS NOT NULL OR orphaned))""",
    "a payment is leased by an open hold": f"""
        SELECT {_PAYMENT}, 'an open hold of its boot', coalesce('hold ' || holds.id || ', ended', 'none') FROM payments
        LEFT JOIN holds ON holds.id = payments.hold WHERE payments.hold IS NOT NULL
            AND (holds.id IS NULL OR holds.state > 2 OR holds.payment IS NOT payments.id
                OR holds.boot IS NOT payments.boot)""",
    "a payment buys once": f"""
        SELECT {_PAYMENT}, 'one answer or balance, of ' || captured, count(holds.id) || ' of ' || sum(tender_paid)
        FROM payments JOIN holds ON holds.payment = payments.id AND tender_paid > 0 GROUP BY payments.id
        HAVING count(holds.id) > 1 OR sum(tender_paid) <> captured OR payments.state <> 4""",
    "what a payment was put on is there": f"""
        SELECT {_PAYMENT}, coalesce('balance ' || payments.balance, 'no balance'), 'credited ' || credited FROM payments
        LEFT JOIN balances ON balances.id = payments.balance
        WHERE (payments.balance IS NULL AND credited <> 0) OR (payments.balance IS NOT NULL
            AND (balances.id IS NULL OR balances.unit <> payments.unit OR payments.state NOT IN (4, 5)))""",
    "a proof is one payment": """
        SELECT 'proof ' || rail || ' ' || key, 1, count(*) FROM payments GROUP BY rail, key HAVING count(*) > 1""",
    "the tender of a hold is there": f"""
        SELECT {_HOLD}, coalesce('payment ' || payment, 'balance ' || balance, 'one tender'), 'none' FROM holds
        WHERE (payment IS NOT NULL AND (state < 3 OR tender_paid > 0)
                AND NOT EXISTS (SELECT 1 FROM payments WHERE payments.id = holds.payment))
            OR (balance IS NOT NULL AND NOT EXISTS (SELECT 1 FROM balances WHERE balances.id = holds.balance
                AND balances.unit = holds.tender_unit))
            OR (payment IS NOT NULL AND balance IS NOT NULL)
            OR ((coalesce(payment, balance) IS NULL) <> (tender_held IS NULL))""",
    "a balance pays at most what was held": f"""
        SELECT {_HOLD}, CASE WHEN balance IS NULL OR state < 3 THEN 'nothing paid' ELSE 'from 0 to ' || tender_held END,
            coalesce(tender_paid, 'nothing')
        FROM holds WHERE payment IS NULL AND CASE WHEN balance IS NULL OR state < 3 THEN tender_paid IS NOT NULL
            ELSE tender_paid IS NULL OR tender_paid < 0 OR tender_paid > tender_held END""",
    "a balance pays for the input of what a crash left": f"""
        SELECT {_HOLD}, tender_input, tender_paid FROM holds
        WHERE state = 3 AND balance IS NOT NULL AND outcome = 'crashed' AND tender_paid IS NOT tender_input""",
    "a hold has its balance's payment": f"""
        SELECT {_HOLD}, tender_paid, {_moved("holds.id", 41)} FROM holds
        WHERE balance IS NOT NULL AND coalesce(tender_paid, 0) <> {_moved("holds.id", 41)}""",
    "a balance was deposited what payments credited": _balance_rule("deposited", "coalesce(credits.credited, 0)"),
    "a balance holds the sum of its open holds": _balance_rule("held", "coalesce(sums.held, 0)"),
    "a balance has spent what it paid for holds": _balance_rule("spent", "folded + coalesce(sums.paid, 0)"),
    "no balance is below zero": f"""
        SELECT {_BALANCE}, '0 or more left', deposited - spent - held - expired FROM balances
        WHERE spent + held + expired > deposited""",
    "a balance's account holds what is left of it": f"""
        WITH moved AS ({_MOVED}) SELECT {_BALANCE}, deposited - spent - expired, coalesce(amount, 0) FROM balances
        LEFT JOIN moved ON book = unit AND moved.name = 'balance:' || balances.id
        WHERE deposited - spent - expired <> coalesce(amount, 0)""",
    "a balance has its pruned payments": f"""
        SELECT {_BALANCE}, folded, {_moved("balances.id", 42)} FROM balances
        WHERE folded <> {_moved("balances.id", 42)}""",
    "a balance has its end": f"""
        SELECT {_BALANCE}, expired, {_moved("balances.id", 43)} FROM balances
        WHERE expired <> {_moved("balances.id", 43)}""",
    "what came from outside is what payments brought": _account_rule("outside", "-", "deposits"),
    "what is income was captured": _account_rule("income", "", "captured"),
    "all that was paid is accounted for": f"""
        SELECT 'book ' || unit, deposits,
            captured + refundable + held + change + fees + absorbed + expired + returned FROM ({_SUMS})
        WHERE deposits <> captured + refundable + held + change + fees + absorbed + expired + returned""",
    "ecash is whose its payment says": f"""
        SELECT 'note ' || ecash.id, {_PAYMENT}, owner FROM ecash LEFT JOIN payments ON payments.id = payment
        WHERE payments.id IS NULL OR CASE
            WHEN state = 2 THEN owner <> 'nobody'
            WHEN state = 4 AND expired = 0 THEN (owner = 'payer') <> (kept = 0) OR owner = 'nobody'
            WHEN state = 5 AND balance IS NULL THEN owner <> 'payer'
            WHEN state IN (4, 5) THEN owner NOT IN ('us', 'exported') ELSE 1 END""",
    "the ecash of a payment is what it brought": f"""
        SELECT {_PAYMENT}, payments.amount - fee, sum(ecash.amount) * 1000
        FROM payments JOIN ecash ON payment = payments.id
        WHERE unit = 'msat' GROUP BY payments.id HAVING sum(ecash.amount) * 1000 <> payments.amount - fee""",
    "what was given back was ecash": f"""
        SELECT {_PAYMENT}, 'ecash', 'none' FROM payments
        WHERE returned > 0 AND NOT EXISTS (SELECT 1 FROM ecash WHERE payment = payments.id)""",
    "an answer that is kept was paid for": """
        SELECT 'answer of payment ' || payment, 'burnt', coalesce(state, 'none') FROM paid_answers
        LEFT JOIN payments ON payments.id = payment WHERE state IS NOT 4""",
    "an invoice tops up a balance that is there": """
        SELECT 'invoice ' || payment_hash, 'balance ' || terms, 'none' FROM invoices
        WHERE purpose = 'balance' AND terms <> ''
            AND NOT EXISTS (SELECT 1 FROM balances WHERE id = CAST(terms AS INTEGER))""",
    "an invoice that was paid waits no more": """
        SELECT 'invoice ' || payment_hash, 'settled', 'pending' FROM invoices
        JOIN payments ON rail = 'lightning' AND key = payment_hash
        WHERE settled_ms IS NULL AND state IN (2, 4, 5)""",
}
