"""The public errors: one table `code -> status, type`, and the envelope every refusal is sent in.

Raise `Refusal("code", "what to do next")` anywhere inside the chain; the link it leaves becomes the
answer, so the plugins further out still add their headers. `Retry-After` is set from
`retry_after_seconds`, which every 429 and 503 must carry.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import orjson


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """What a public code means on the wire: HTTP status and the envelope's `type`."""

    status: int
    type: str


_INVALID = "invalid_request_error"

CODES: Final[dict[str, ErrorCode]] = {
    "invalid_request": ErrorCode(400, _INVALID),
    "invalid_json": ErrorCode(400, _INVALID),
    "invalid_header": ErrorCode(400, _INVALID),
    "invalid_path": ErrorCode(400, _INVALID),
    "unbounded_cost": ErrorCode(400, _INVALID),
    "context_length_exceeded": ErrorCode(400, _INVALID),
    "ambiguous_payment": ErrorCode(400, _INVALID),
    "x402_bad_payload": ErrorCode(400, _INVALID),
    "cashu_bad_token": ErrorCode(400, _INVALID),
    "cashu_no_stream": ErrorCode(400, _INVALID),
    "cashu_too_many_proofs": ErrorCode(400, _INVALID),
    "cashu_wrong_unit": ErrorCode(400, _INVALID),
    "cashu_mint_not_allowed": ErrorCode(400, _INVALID),
    "cashu_token_spent": ErrorCode(400, _INVALID),
    "payment_not_accepted": ErrorCode(400, _INVALID),
    "invalid_api_key": ErrorCode(401, "authentication_error"),
    "invalid_payment": ErrorCode(401, "authentication_error"),
    "invalid_balance": ErrorCode(401, "authentication_error"),
    "quota_exhausted": ErrorCode(402, "insufficient_quota"),
    "payment_required": ErrorCode(402, "payment_error"),
    "x402_underpayment": ErrorCode(402, "payment_error"),
    "x402_settlement_failed": ErrorCode(402, "payment_error"),
    "cashu_underpayment": ErrorCode(402, "payment_error"),
    "cashu_underpayment_after_fees": ErrorCode(402, "payment_error"),
    "insufficient_balance": ErrorCode(402, "payment_error"),
    "model_not_in_tier": ErrorCode(403, _INVALID),
    "model_not_allowed": ErrorCode(403, "permission_error"),
    "policy_denied": ErrorCode(403, "permission_error"),
    "content_refused": ErrorCode(403, "permission_error"),
    "path_not_allowed": ErrorCode(403, "permission_error"),
    "target_not_allowed": ErrorCode(403, "permission_error"),
    "model_not_available": ErrorCode(404, _INVALID),
    "not_found": ErrorCode(404, _INVALID),
    "method_not_allowed": ErrorCode(405, _INVALID),
    "proxy_authentication_required": ErrorCode(407, "authentication_error"),
    "request_timeout": ErrorCode(408, _INVALID),
    "conflict": ErrorCode(409, _INVALID),
    "payment_under_way": ErrorCode(409, _INVALID),
    "payment_spent": ErrorCode(409, _INVALID),
    "payload_too_large": ErrorCode(413, _INVALID),
    "unsupported_media_type": ErrorCode(415, _INVALID),
    "misdirected_request": ErrorCode(421, _INVALID),
    "idempotency_mismatch": ErrorCode(422, _INVALID),
    "rate_limited": ErrorCode(429, "rate_limit_error"),
    "too_many_streams": ErrorCode(429, "rate_limit_error"),
    "headers_too_large": ErrorCode(431, _INVALID),
    "internal_error": ErrorCode(500, "api_error"),
    "upstream_error": ErrorCode(502, "api_error"),
    "upstream_unavailable": ErrorCode(503, "api_error"),
    "upstream_circuit_open": ErrorCode(503, "api_error"),
    "no_consortium_machine_available": ErrorCode(503, "api_error"),
    "payment_unknown": ErrorCode(503, "payment_error"),
    "payment_unavailable": ErrorCode(503, "payment_error"),
    "overloaded": ErrorCode(503, "api_error"),
    "draining": ErrorCode(503, "api_error"),
    "upstream_timeout": ErrorCode(504, "api_error"),
}


class Refusal(Exception):
    """A request answered with an error on purpose. `code` is a key of `CODES`."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_seconds: float | None = None,
        headers: dict[str, str] | None = None,
        details: dict[str, Any] | None = None,
        status: int | None = None,
        close: bool = False,
        operator_note: str = "",
        body: bytes | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_seconds = retry_after_seconds
        self.headers = headers or {}
        self.details = details
        self.status = CODES[code].status if status is None else status
        self.close = close
        """The connection's framing can no longer be trusted: close it after the answer."""
        self.operator_note = operator_note
        """How to mend it, with names of upstreams or variables: told on loopback, where the caller is the operator."""
        self.body = body
        """In the place of the envelope: the offers of a 402, a problem document. None: the envelope."""

    def envelope(self, *, dialect: str | None = None, for_operator: bool = False) -> bytes:
        """The JSON body: OpenAI's shape, or Anthropic's for its dialect (`{"type": "error", ...}`)."""
        if self.body is not None:
            return self.body
        message = f"{self.message} {self.operator_note}" if for_operator and self.operator_note else self.message
        return error_body(message, CODES[self.code].type, self.code, self.param, self.details, dialect=dialect)

    def wire_headers(self) -> dict[str, str]:
        """Headers of the answer, `Retry-After` in whole seconds, rounded up, never 0."""
        headers = {"content-type": "application/json", **self.headers}
        if self.retry_after_seconds is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after_seconds)))
        return headers


def error_body(
    message: str,
    type_: str,
    code: str,
    param: str | None = None,
    details: dict[str, Any] | None = None,
    *,
    dialect: str | None = None,
) -> bytes:
    """One error envelope as JSON bytes. `details` are extra members beside the four standard ones."""
    error: dict[str, Any] = {"message": message, "type": type_, "code": code, "param": param}
    if details:
        error.update(details)
    if dialect == "anthropic.messages":
        return orjson.dumps({"type": "error", "error": error})
    return orjson.dumps({"error": error})
