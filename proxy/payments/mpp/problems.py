"""Errors for a client of the Payment scheme: problem documents (RFC 9457) under the types that its drafts name."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

import orjson

from proxy.errors import Refusal

PROBLEM_TYPE: Final = "application/problem+json"
_BASE: Final = "https://paymentauth.org/problems/"
_TITLES: Final = {
    "lightning/malformed-credential": "Malformed Credential",
    "lightning/unknown-challenge": "Unknown Challenge",
    "lightning/invalid-preimage": "Invalid Preimage",
    "lightning/expired-invoice": "Expired Invoice",
    "verification-failed": "Verification Failed",
    "payment-required": "Payment Required",
    "method-unsupported": "Method Unsupported",
}
_BY_CODE: Final = {
    "invalid_payment": "verification-failed",
    "payment_spent": "lightning/unknown-challenge",
    "payment_required": "payment-required",
    "payment_not_accepted": "method-unsupported",
}


class Problem(Refusal):
    """A refusal whose type the drafts name. `kind` is a key of the table above; status 401 unless malformed (400)."""

    def __init__(self, kind: str, message: str) -> None:
        status = HTTPStatus.BAD_REQUEST if kind == "lightning/malformed-credential" else None
        super().__init__("invalid_payment", message, status=status)
        self.kind = kind


def problem_body(refusal: Refusal) -> bytes:
    """The JSON document for any refusal; `code` and the refusal's details are members beside RFC 9457's."""
    kind = refusal.kind if isinstance(refusal, Problem) else _BY_CODE.get(refusal.code)
    problem: dict[str, Any] = {
        "type": "about:blank" if kind is None else _BASE + kind,
        "title": HTTPStatus(refusal.status).phrase if kind is None else _TITLES[kind],
        "status": refusal.status,
        "detail": refusal.message,
        "code": refusal.code,
    }
    return orjson.dumps({**(refusal.details or {}), **problem})


def as_problem(refusal: Refusal) -> Refusal:
    """The same refusal, answered with a problem document: for a client that sent `Authorization: Payment`."""
    refusal.body = problem_body(refusal)
    refusal.headers["content-type"] = PROBLEM_TYPE
    return refusal
