"""The life of a payment: one table of what may follow what, whatever the rail.

seen -> leased -> settled | unknown -> burnt | refunded | refused

A proof is leased by one exchange at a time, in the transaction that makes the exchange's hold and before anything is
asked of the world outside. Its value is ours once it is `settled`; it is `burnt` just before the answer goes out.
What could not be known is `unknown` and belongs to the reconciler alone.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class PaymentState(IntEnum):
    """Where a payment stands. BURNT, REFUNDED and REFUSED are final."""

    SEEN = 0
    """Known, nothing taken: it may be tried (again)."""
    LEASED = 1
    """An exchange has it, and asks the world outside for the money."""
    SETTLED = 2
    """The money is ours. With a lease: an exchange is being served for it; without: it may be used, or returned."""
    UNKNOWN = 3
    """Outside was asked, and nobody knows what came of it."""
    BURNT = 4
    """It has bought an answer, or a balance, or nobody claimed it for a year."""
    REFUNDED = 5
    """It went back to the payer: to a balance, or as ecash."""
    REFUSED = 6
    """Nothing was taken, and nothing ever will be with this proof."""


class Event(IntEnum):
    """What can befall a payment."""

    LEASE = 0
    """An exchange takes it. Refused while another has it."""
    SETTLE = 1
    """The money came."""
    DOUBT = 2
    """Nobody knows whether it came."""
    REFUSE = 3
    """It did not, and cannot."""
    FREE = 4
    """It did not come, or the upstream failed before its first content: the payer may try again."""
    BURN = 5
    """The answer is about to go out, or the balance is funded."""
    REFUND = 6
    """It goes back."""


_S, _E = PaymentState, Event
TRANSITIONS: Final[dict[tuple[PaymentState, Event], PaymentState]] = {
    (_S.SEEN, _E.LEASE): _S.LEASED,
    (_S.SEEN, _E.REFUSE): _S.REFUSED,
    (_S.LEASED, _E.SETTLE): _S.SETTLED,
    (_S.LEASED, _E.DOUBT): _S.UNKNOWN,
    (_S.LEASED, _E.REFUSE): _S.REFUSED,
    (_S.LEASED, _E.FREE): _S.SEEN,
    (_S.UNKNOWN, _E.DOUBT): _S.UNKNOWN,
    (_S.UNKNOWN, _E.SETTLE): _S.SETTLED,
    (_S.UNKNOWN, _E.REFUSE): _S.REFUSED,
    (_S.UNKNOWN, _E.FREE): _S.SEEN,
    (_S.SETTLED, _E.LEASE): _S.SETTLED,
    (_S.SETTLED, _E.FREE): _S.SETTLED,
    (_S.SETTLED, _E.BURN): _S.BURNT,
    (_S.SETTLED, _E.REFUND): _S.REFUNDED,
}
"""Everything that is not here is a fault, and changes nothing."""
FINAL: Final = frozenset({PaymentState.BURNT, PaymentState.REFUNDED, PaymentState.REFUSED})
