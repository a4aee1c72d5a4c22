"""What a ledger's file says of payments and balances, read beside the proxy or after its death."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.ledger.audit import audit
from proxy.ledger.audit_payments import UnitSums, unit_sums
from proxy.ledger.books import State
from proxy.ledger.payment_states import PaymentState
from proxy.ledger.schema import DATABASE_NAME, connect

SECONDS_MAX = 20.0
_PAYMENT = (
    "name, rail, key, unit, state, boot, leases, amount, captured, credited, returned, change, fee, absorbed, held"
)


@dataclass(frozen=True, slots=True)
class PaymentSeen:
    """A payment as it stands."""

    name: str
    rail: str
    key: str
    unit: str
    state: PaymentState
    leased: bool
    leases: int
    amount: int
    captured: int
    credited: int
    returned: int
    change: int
    fee: int
    absorbed: int
    held: int


@dataclass(frozen=True, slots=True)
class BalanceSeen:
    """A balance as it stands."""

    unit: str
    deposited: int
    spent: int
    held: int


class PaymentBooks:
    """Of the proxy whose configuration is in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "var" / DATABASE_NAME

    def rows(self, statement: str, *values: Any) -> list[Any]:
        """The result of a query."""
        with closing(sqlite3.connect(self._path, timeout=10)) as connection:
            return connection.execute(statement, values).fetchall()

    def payments(self) -> list[PaymentSeen]:
        """All, oldest first."""
        found = self.rows(f"SELECT {_PAYMENT} FROM payments ORDER BY id")
        return [PaymentSeen(*row[:4], PaymentState(row[4]), row[5] is not None, *row[6:]) for row in found]

    def newest(self) -> PaymentSeen:
        """The payment seen last."""
        return self.payments()[-1]

    def payment(self, key: str) -> PaymentSeen | None:
        """The payment whose proof has this key."""
        return next((one for one in self.payments() if one.key == key), None)

    def balance(self, token: str) -> BalanceSeen:
        """The balance behind a token."""
        digest = hashlib.sha256(token.encode()).digest()
        (row,) = self.rows("SELECT unit, deposited, spent, held FROM balances WHERE digest=?", digest)
        return BalanceSeen(*row)

    def open_holds(self) -> int:
        """Holds that have not ended."""
        return int(self.rows("SELECT count(*) FROM holds WHERE state < ?", State.SETTLED)[0][0])

    def until_ended(self) -> None:
        """Return once nothing is under way. Raises TimeoutError."""
        self.until(
            lambda: self.open_holds() == 0 and not any(one.leased for one in self.payments()),
            "something is still under way",
        )

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Return once `condition` holds. Raises TimeoutError with `what`."""
        deadline = time.monotonic() + SECONDS_MAX
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: {self.payments()[-3:]}")
            time.sleep(0.01)

    def sums(self) -> dict[str, UnitSums]:
        """What became of all that was paid, by unit."""
        with closing(connect(self._path, create=False)) as connection:
            return {one.unit: one for one in unit_sums(connection)}

    def prove(self) -> None:
        """By the rules of `tollway ledger audit`."""
        with closing(connect(self._path, create=False)) as connection:
            assert audit(connection, self._path) == []
