"""What an invoice buys: the request that was quoted, and everything that costs no more."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

import orjson

from proxy.errors import Refusal
from proxy.payments.api import Ask

FITTING: Final = "Send the request that was quoted, or this one without Authorization to get a new invoice."
ANEW: Final = "Send the request without Authorization to get a new invoice."
REFUND: Final = "What was paid comes back as a balance by POST /v1/payments/refund with the same Authorization."
_VERSION: Final = 1


def invalid(reason: str, advice: str = ANEW) -> Refusal:
    """The refusal of a payment by L402 or MPP: why, and what to do next."""
    return Refusal("invalid_payment", f"{reason}. {advice}")


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a request may be. None: no such limit."""

    path: str
    model: str
    output_tokens: int
    """Of all choices together: asking for several must not buy more."""
    input_chars: int
    input_tokens: int
    input_items: int | None

    @classmethod
    def of(cls, ask: Ask) -> Limits:
        """Just this request."""
        price = ask.price
        items = price.input_items or None
        return cls(ask.path, ask.model, price.output_tokens, price.input_chars, price.input_tokens, items)

    def check(self, ask: Ask, *, same: bool) -> None:
        """Raises Refusal `invalid_payment`. `same`: the very request that was quoted, whose input needs no comparing:
        where counting is too dear at the moment, it is only bounded, and the bound is larger than the count was.
        """
        price = ask.price
        if ask.path != self.path:
            raise invalid(f"Path mismatch: this invoice is for {self.path}", FITTING)
        if ask.model != self.model:
            raise invalid(f"Model mismatch: this invoice is for {self.model}", FITTING)
        if price.output_tokens > self.output_tokens:
            raise invalid(
                f"max_tokens exceeds paid amount: {self.output_tokens} for all choices together were paid for"
            )
        if same:
            return
        if price.input_tokens > self.input_tokens or price.input_chars > self.input_chars:
            raise invalid(
                f"Input exceeds paid amount: {self.input_tokens} tokens in {self.input_chars} characters were paid for",
                FITTING,
            )
        if self.input_items is not None and price.input_items > self.input_items:
            raise invalid(f"Input exceeds paid amount: {self.input_items} items were paid for", FITTING)


@dataclass(frozen=True, slots=True)
class Terms:
    """What was quoted when the invoice was made. Kept with the invoice, shared by L402 and MPP."""

    method: str
    limits: Limits
    usd_nano: int
    rates_digest: str
    request_digest: str
    body_digest: str

    @classmethod
    def of(cls, ask: Ask) -> Terms:
        """The quote for this request."""
        price = ask.price
        return cls(ask.method, Limits.of(ask), int(price.usd), price.rates_digest, ask.request_digest, ask.body_digest)

    def json(self) -> str:
        """As it is kept."""
        return orjson.dumps({"v": _VERSION, **asdict(self)}).decode()

    @classmethod
    def parse(cls, text: str) -> Terms:
        """Raises ValueError for what this version did not write."""
        content = orjson.loads(text)
        if not isinstance(content, dict) or content.pop("v", None) != _VERSION:
            raise ValueError("terms of another version")
        try:
            return cls(**{**content, "limits": Limits(**content["limits"])})
        except (TypeError, KeyError) as error:
            raise ValueError("terms of another form") from error

    def covers(self, ask: Ask) -> None:
        """Raises Refusal `invalid_payment` for a request that costs more than was quoted.

        A change of the operator's prices does not void a quote: dollars are compared where the rates are the same.
        """
        same = ask.request_digest == self.request_digest
        if ask.method != self.method:
            raise invalid(f"Path mismatch: this invoice is for {self.method} {self.limits.path}", FITTING)
        self.limits.check(ask, same=same)
        if not same and ask.price.rates_digest == self.rates_digest and ask.price.usd > self.usd_nano:
            raise invalid("Input exceeds paid amount: this request uses what costs more than was paid", FITTING)
