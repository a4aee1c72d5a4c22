"""GET /v1/payments/{id} and POST /v1/payments/refund, for a payer who shows the proof of its payment again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from proxy.endpoints.bridge import EXCHANGE
from proxy.endpoints.public import json_answer
from proxy.errors import Refusal
from proxy.exchange import Exchange
from proxy.headers import Headers
from proxy.ledger.payment_api import BalanceState, EcashProof, Payment, PaymentLedger, Proof, Unit
from proxy.ledger.payment_states import PaymentState
from proxy.payments.credentials import all_presented
from proxy.payments.rails import Rails
from proxy.payments.refunds import Refunds
from proxy.pricing.money import MSAT_PER_SAT

MS = 1000
REFUND = {"method": "POST", "path": "/v1/payments/refund"}
_PARTS = ("captured", "credited", "returned", "change", "fee", "absorbed", "expired", "held")


def add(routes: APIRouter, rails: Rails, ledger: PaymentLedger, refunds: Refunds) -> None:
    """Add both endpoints. The right to an answer is the proof, shown in the headers that it paid with."""

    @routes.post("/v1/payments/refund")
    async def refund(request: Request) -> Response:
        """Put a payment that bought nothing on a balance, in the currency that was paid. Again: the same answer."""
        proof = await _shown(rails, _headers(request))
        refunded = await refunds.refund(proof)
        content: dict[str, Any] = {"refunded": True, "payment_id": refunded.payment_id}
        if refunded.state is not None:
            content |= {"token": refunded.token, **_amount(refunded.state)}
        if refunded.ecash:
            content |= {
                "cashu": _token(refunded.ecash),
                "amount": sum(one.amount for one in refunded.ecash) * MSAT_PER_SAT,
                "unit": Unit.MSAT.value,
            }
        return _private(content)

    @routes.get("/v1/payments/{id}")
    async def payment(id: str, request: Request) -> Response:
        """What became of a payment, with the ecash that came back from it."""
        proof = await _shown(rails, _headers(request))
        found = await ledger.payment(proof.rail, proof.key)
        if found is None or found.id != id:
            raise Refusal("not_found", "The proof that was shown is of no payment with this id.")
        content = _entry(found)
        if found.returned or (found.change and found.state is PaymentState.BURNT):
            notes = await ledger.ecash_of(found.row, kept=None if found.returned else False)
            content["cashu"] = _token(notes) or None
        return _private(content)


async def _shown(rails: Rails, headers: Headers) -> Proof:
    """The proof of the one payment in the headers. Raises Refusal, in its rail's own words."""
    found = all_presented(headers)
    if not found:
        raise Refusal(
            "invalid_payment", "Show the payment: send the same payment header as with the request that it was for."
        )
    if len(found) > 1:
        raise Refusal("ambiguous_payment", "Two different payments came with this request. Show one at a time.")
    rail = rails.taking(found[0].credential)
    if rail is None:
        raise Refusal("payment_not_accepted", f"Payments by {found[0].credential.value} are not taken here.")
    return await rail.shown(found[0])


def _entry(payment: Payment) -> dict[str, Any]:
    settled = payment.state is PaymentState.SETTLED
    entry: dict[str, Any] = {
        "id": payment.id,
        "object": "payment",
        "rail": payment.rail,
        "state": payment.state.name.lower(),
        "under_way": payment.leased,
        "amount": payment.amount,
        "unit": payment.unit.value,
        "created_at": _moment(payment.created_ms),
        "changed_at": _moment(payment.changed_ms),
    }
    entry |= {part: getattr(payment, part) for part in _PARTS}
    if payment.reference:
        entry["reference"] = payment.reference
    if settled:
        entry["uses_left"] = max(0, payment.leases_max - payment.leases)
        entry["use_until"] = _moment(payment.use_until_ms) if payment.use_until_ms else None
    entry["refund"] = REFUND if settled and not payment.leased else None
    return entry


def _amount(state: BalanceState) -> dict[str, Any]:
    """What was put on it, whatever was spent since."""
    amount: dict[str, Any] = {"amount": state.deposited, "unit": state.unit.value}
    if state.unit is Unit.MSAT:
        amount["sats"] = state.deposited // MSAT_PER_SAT
    return amount | {"left": state.left, "expires_at": _moment(state.expires_ms)}


def _token(notes: tuple[EcashProof, ...]) -> str:
    from proxy.payments.cashu.swaps import token_of

    return token_of(notes)


def _moment(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // MS, UTC).isoformat().replace("+00:00", "Z")


def _headers(request: Request) -> Headers:
    exchange: Exchange = request.scope[EXCHANGE]
    return exchange.request.headers


def _private(content: dict[str, Any]) -> Response:
    """An answer that nobody on the way may keep."""
    answer = json_answer(content)
    answer.headers["cache-control"] = "no-store"
    return answer
