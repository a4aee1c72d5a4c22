"""Why an operation of the ledger was not done. The others of its batch are."""

from __future__ import annotations

import sqlite3
from typing import Final

AMOUNT_NANO_MAX: Final = 10**18
"""Largest amount in one row: a thousand million dollars, far inside 64 bits."""
AMOUNT_UNITS_MAX: Final = 10**18
"""Likewise of a payment or balance: ten million bitcoins, a million million dollars."""


class LedgerClosed(Exception):
    """The ledger is closed, or its writer has failed. Nothing was written."""


class LedgerError(Exception):
    """An operation that the state of the books does not allow. Nothing was changed."""


class DuplicateHold(LedgerError):
    """The exchange already has a hold."""


class HoldNotOpen(LedgerError):
    """The hold has ended, or is not in the state that the operation needs."""


class GrantConflict(LedgerError):
    """There is a grant of this id with other contents."""


class GrantTooLarge(LedgerError):
    """The purse would hold more than the ledger can count."""


class StaleCounters(sqlite3.OperationalError):
    """Counters changed under the write lock: the batch is rolled back and done again."""
