"""The 402: one body and one set of headers that offer every rail at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.headers import Headers
from proxy.payments.api import Ask, IssuedInvoice

if TYPE_CHECKING:
    from proxy.payments.rails import Rails

ROUTE_MODEL = "x-route-model"
"""Which model `auto` or a lane stands for: what a paid retry must name."""


def challenge(exchange: Exchange, rails: Rails, ask: Ask, invoice: IssuedInvoice | None) -> Response:
    """402 with every rail that can take this payment now. Raises Refusal `payment_unavailable` where none can."""
    headers = Headers({"content-type": "application/json", "cache-control": "no-store"})
    members: dict[str, Any] = {
        "error": "Payment Required",
        "description": rails.settings.description or f"{ask.model} inference, pay-per-request",
        "model": ask.model,
        "provider": exchange.generation.owner,
        "max_tokens": ask.price.max_tokens,
        "estimated_input_tokens": ask.price.input_tokens,
    }
    offers = [offer for rail in rails.rails if (offer := rail.offer(ask, invoice)) is not None]
    if not any(offer.headers for offer in offers):
        raise Refusal(
            "payment_unavailable",
            "No way to pay is available at the moment. Nothing was taken; try again shortly.",
            retry_after_seconds=30,
        )
    for offer in offers:
        members |= offer.members
        for name, value in offer.headers:
            headers.add(name, value)
    if exchange.model is not None and (
        exchange.model.lane or exchange.call is None or exchange.call.model != ask.model
    ):
        headers[ROUTE_MODEL] = ask.model
    return Response(402, headers, orjson.dumps(members))
