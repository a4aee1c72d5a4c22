"""What a payer is told, and what to do next; nothing here repeats a token or what a mint said."""

from __future__ import annotations

from typing import Final

from proxy.errors import Refusal
from proxy.ledger.payment_api import Payment, PaymentTaken, Taken

PAYMENTS_PATH: Final = "/v1/payments"
REFUND_PATH: Final = f"{PAYMENTS_PATH}/refund"
HEADER: Final = "X-Cashu"
SOON_SECONDS: Final = 2.0
LATER_SECONDS: Final = 10.0


def bad_token(what: str) -> Refusal:
    """The token cannot be read, or is none that can be taken."""
    return Refusal("cashu_bad_token", f"The token in {HEADER} cannot be used: {what}. Nothing was taken.", param=HEADER)


def no_stream() -> Refusal:
    """Change is known at the end only."""
    return Refusal(
        "cashu_no_stream",
        'A streamed answer cannot be paid for with Cashu. Send "stream": false, or pay in another way.',
        param="stream",
    )


def too_many(notes_max: int) -> Refusal:
    """More notes than are swapped at once."""
    return Refusal(
        "cashu_too_many_proofs",
        f"The token has more than {notes_max} proofs. Have your wallet swap them for fewer, larger ones.",
        param=HEADER,
    )


def wrong_unit(unit: str) -> Refusal:
    """Another unit than sat."""
    return Refusal("cashu_wrong_unit", f"The token is not in {unit}. Send one that is.", param=HEADER)


def foreign_mint(mints: list[str]) -> Refusal:
    """A mint that is not on the list."""
    return Refusal(
        "cashu_mint_not_allowed",
        f"The token's mint is not accepted here. Send a token of: {', '.join(mints)}",
        param=HEADER,
        details={"mints": mints},
    )


def underpaid(worth: int, price: int) -> Refusal:
    """Too little even without a fee. Sat."""
    return Refusal(
        "cashu_underpayment",
        f"The token is worth {worth} sats and the price is {price}. Send a token of {price} sats or more, "
        "and the mint's fee.",
        details={"price_sats": price, "token_sats": worth},
    )


def underpaid_after_fees(worth: int, fee: int, price: int) -> Refusal:
    """Too little once the mint has taken its fee. Sat."""
    return Refusal(
        "cashu_underpayment_after_fees",
        f"The token is worth {worth} sats, of which its mint keeps {fee} as a fee, and the price is {price}. "
        f"Send a token of {price + fee} sats or more.",
        details={"price_sats": price, "token_sats": worth, "fee_sats": fee},
    )


def no_exchange_rate() -> Refusal:
    """No price of bitcoin is known."""
    return Refusal(
        "payment_unavailable",
        "The price in sats is not known just now. Try again soon, or pay in another way. Nothing was taken.",
        retry_after_seconds=LATER_SECONDS,
    )


def unavailable(*, retry_after_seconds: float = LATER_SECONDS) -> Refusal:
    """The mint cannot be used now. The notes are the payer's still."""
    return Refusal(
        "payment_unavailable",
        "The token's mint cannot be used just now. Nothing was taken: send the same request again soon.",
        retry_after_seconds=retry_after_seconds,
    )


def spent() -> Refusal:
    """Somebody else had them."""
    return Refusal("cashu_token_spent", "These notes were spent before. Send others.", param=HEADER)


def refused_by_mint() -> Refusal:
    """The mint does not know its own signature."""
    return bad_token("its mint does not accept the notes as its own")


def taken(error: PaymentTaken) -> Refusal:
    """In words for this rail; where the payment may still be found, with its id."""
    payment = error.payment
    where = {"payment_id": payment.id}
    match error.why:
        case Taken.UNDER_WAY:
            return Refusal(
                "payment_under_way",
                f"This token pays for another request that is under way ({payment.id}). Wait for its answer.",
                retry_after_seconds=SOON_SECONDS,
                details=where,
            )
        case Taken.UNKNOWN:
            return Refusal(
                "payment_unknown",
                f"Whether the mint has swapped this token is not known yet ({payment.id}). Send the same request "
                "again later; do not pay anew.",
                retry_after_seconds=LATER_SECONDS,
                details=where,
            )
        case Taken.SPENT:
            return Refusal(
                "cashu_token_spent",
                f"This token has been spent here. Send another one. GET {PAYMENTS_PATH}/{payment.id} with this token "
                f"in {HEADER} gives its change again.",
                details=where,
            )
        case Taken.RETURNED:
            return Refusal("cashu_token_spent", _returned(payment), details=where)
        case Taken.BOUND:
            return Refusal(
                "payment_spent",
                f"This token was first sent with another request ({payment.id}). Send it with that one, or have your "
                "wallet swap its notes.",
                details=where,
            )
        case Taken.WORN_OUT:
            return Refusal(
                "payment_spent",
                f"This token was tried too often ({payment.id}). Have your wallet swap its notes.",
                details=where,
            )
        case Taken.REFUSED:
            return Refusal(
                "cashu_token_spent",
                "The mint has refused these notes before. Send others.",
                param=HEADER,
                details=where,
            )


def _returned(payment: Payment) -> str:
    return (
        f"The value of this token went back to you ({payment.id}), less the mint's fee, as a new token: "
        f"POST {REFUND_PATH} with this token gives it again."
    )
