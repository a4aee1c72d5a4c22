"""Payers whose transfers fail after they were tried without fault: each such transaction costs our signer its gas.

A payer can bring that about at will, by code that answers a trial otherwise than the chain, or by moving its money away
in between; so a payer's are counted.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

REVERTS_MAX: Final = 3
"""Of one payer, until `REVERTS_SECONDS` after the first of them."""
REVERTS_SECONDS: Final = 3600.0
PAYERS_MAX: Final = 10_000
"""Remembered at once; the longest known is forgotten."""


class Reverts:
    """Counts of this process. Times are of one monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._since: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def note(self, payer: str, now: float) -> None:
        """A transaction for this payer has just failed."""
        since, count = self._of(payer, now)
        self._since[payer] = (since, count + 1)
        while len(self._since) > PAYERS_MAX:
            self._since.popitem(last=False)

    def too_many(self, payer: str, now: float) -> bool:
        """Nothing more is sent for this payer for now."""
        return self._of(payer, now)[1] >= REVERTS_MAX

    def _of(self, payer: str, now: float) -> tuple[float, int]:
        since, count = self._since.get(payer, (now, 0))
        return (now, 0) if now - since >= REVERTS_SECONDS else (since, count)
