"""What can go wrong for who pays, in words that say what to do next. No message holds a secret."""

from __future__ import annotations


class PayError(Exception):
    """The request was not served."""


class BadOffer(PayError):
    """An offer cannot be read, or contradicts itself. Nothing was paid."""


class OverLimit(PayError):
    """It costs more than may be spent. Nothing was paid."""


class WalletFailure(PayError):
    """The wallet cannot, or would not, pay this."""


class NotPaid(WalletFailure):
    """The invoice has ended, and nobody has paid it."""


class Unreachable(PayError):
    """No answer came. `sent`: what was sent may have arrived."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class Refused(PayError):
    """The proxy answered with an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}" if code else f"{status}: {message}")
        self.status = status
        self.code = code


class NotServed(PayError):
    """It was paid for, and not served. The payment is kept, to be shown again or refunded."""
