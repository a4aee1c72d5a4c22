"""Prepaid purses: what was granted, what is held, what was paid. Synchronous; inside the writer's transaction.

A purse is remembered and written back as the counters of caps are (`remembered.py`).
"""

# ruff: noqa: S608 (statements are put together from constants of this file only)

from __future__ import annotations

import sqlite3
from typing import Final

from proxy.ledger.api import Grant, Purse, PurseExceeded, PurseState
from proxy.ledger.errors import AMOUNT_NANO_MAX, GrantConflict, GrantTooLarge, StaleCounters
from proxy.ledger.remembered import Remembered
from proxy.ledger.transfers import TransferKind, Transfers
from proxy.pricing.money import Nano

PURSES_CACHED_MAX: Final = 50_000
GRANTS_ACCOUNT: Final = "grants"
_FIELDS: Final = "id, scope, scope_id, wallet, granted, spent, held, overage"


class Row:
    """A purse as it will stand after this batch, and as it stood in the file."""

    __slots__ = ("granted", "held", "id", "overage", "purse", "read", "spent")

    def __init__(self, row: tuple[int, str, str, str, int, int, int, int]) -> None:
        self.id, scope, scope_id, wallet, self.granted, self.spent, self.held, self.overage = row
        self.purse = Purse(scope, scope_id, wallet)
        self.read = self.amounts

    @property
    def amounts(self) -> tuple[int, int, int]:
        return self.granted, self.spent, self.held

    @property
    def left(self) -> int:
        return self.granted - self.spent - self.held

    @property
    def state(self) -> PurseState:
        return PurseState(self.purse, Nano(self.granted), Nano(self.spent), Nano(self.held))


class Purses:
    """The table of purses, through the connection of the books."""

    def __init__(self, connection: sqlite3.Connection, transfers: Transfers) -> None:
        self._execute = connection.execute
        self._transfers = transfers
        self._kept: Remembered[Purse, Row] = Remembered(
            connection,
            "UPDATE purses SET granted=?, spent=?, held=?, overage=? WHERE id=? AND granted=? AND spent=? AND held=?",
            lambda row: (*row.amounts, row.overage),
            rows_max=PURSES_CACHED_MAX,
        )
        self.forget = self._kept.forget
        self.write = self._kept.write

    def state(self, purse: Purse) -> PurseState:
        """Where a purse stands; one that nothing was put into needs no row."""
        row = self._find(purse)
        return PurseState(purse, Nano(0), Nano(0), Nano(0)) if row is None else row.state

    def fitting(self, purse: Purse, amount: int) -> Row:
        """The purse, once it is sure that `amount` fits into it. Raises PurseExceeded."""
        row = self._find(purse)
        if amount and (row is None or amount > row.left):
            raise PurseExceeded(PurseState(purse, Nano(0), Nano(0), Nano(0)) if row is None else row.state)
        return self._made(purse) if row is None else row

    def hold(self, row: Row, amount: int) -> None:
        """Set `amount` aside, which `fitting` let through in the same transaction."""
        row.held += amount
        self._kept.change(row)

    def end(self, purse_id: int, hold_id: int, *, held: int, paid: int, overage: int, at_ms: int) -> None:
        """Pay `paid` of the `held` amount of a hold and free the rest."""
        row = self._loaded(purse_id)
        row.held -= held
        row.spent += paid
        row.overage += overage
        self._kept.change(row)
        if paid:
            self._transfers.move(hold_id, TransferKind.PAID, "charged", account_of(row.purse), "income", paid, at_ms)

    def grant(self, grant: Grant) -> tuple[PurseState, bool]:
        """Put money in, or take it out; says whether it happened now, and not before under the same id.

        Raises GrantConflict, GrantTooLarge, PurseExceeded; then nothing was changed.
        """
        earlier = self._execute("SELECT id, purse, amount, note FROM grants WHERE name=?", (grant.id,)).fetchone()
        if earlier is not None:
            row = self._loaded(earlier[1])
            if (row.purse, *earlier[2:]) != (grant.purse, grant.amount, grant.note):
                raise GrantConflict(f"the grant '{grant.id}' was made with other contents")
            return row.state, False
        row = self._taking(grant) if grant.amount < 0 else self._filling(grant)
        row.granted += grant.amount
        self._kept.change(row)
        origin = self._execute(
            "INSERT INTO grants (name, purse, amount, note, at_ms) VALUES (?,?,?,?,?) RETURNING id",
            (grant.id, row.id, grant.amount, grant.note, grant.at_ms),
        ).fetchone()[0]
        account = account_of(grant.purse)
        if grant.amount > 0:
            ends, kind = (GRANTS_ACCOUNT, account), TransferKind.GRANTED
        else:
            ends, kind = (account, GRANTS_ACCOUNT), TransferKind.TAKEN_OUT
        self._transfers.move(origin, kind, "charged", *ends, abs(grant.amount), grant.at_ms)
        return row.state, True

    def _taking(self, grant: Grant) -> Row:
        return self.fitting(grant.purse, -grant.amount)

    def _filling(self, grant: Grant) -> Row:
        row = self._find(grant.purse)
        if grant.amount + (0 if row is None else row.granted) > AMOUNT_NANO_MAX:
            raise GrantTooLarge("the purse would hold more than the ledger can count")
        return self._made(grant.purse) if row is None else row

    def _made(self, purse: Purse) -> Row:
        self._execute(
            "INSERT INTO purses (scope, scope_id, wallet) VALUES (?,?,?)", (purse.scope, purse.scope_id, purse.wallet)
        )
        row = self._find(purse)
        if row is None:
            raise StaleCounters("a purse just made is not there")
        return row

    def _find(self, purse: Purse) -> Row | None:
        known = self._kept.find(purse)
        if known is not None:
            return known
        row = self._execute(
            f"SELECT {_FIELDS} FROM purses WHERE scope=? AND scope_id=? AND wallet=?",
            (purse.scope, purse.scope_id, purse.wallet),
        ).fetchone()
        if row is None:
            return None
        return self._kept.keep(purse, Row(row))

    def _loaded(self, purse_id: int) -> Row:
        row = self._kept.at(purse_id)
        if row is None:
            found = self._execute(f"SELECT {_FIELDS} FROM purses WHERE id=?", (purse_id,)).fetchone()
            if found is None:
                raise StaleCounters(f"purse {purse_id} of an open hold is gone")
            row = Row(found)
            self._kept.keep(row.purse, row)
        return row


def account_of(purse: Purse) -> str:
    """Name of the account that a purse is in the books."""
    return f"purse:{purse.scope}:{purse.scope_id}:{purse.wallet}"
