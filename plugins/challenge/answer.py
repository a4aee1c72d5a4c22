"""The 402: one body and one set of headers that offer every rail at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.headers import Headers
from proxy.payments.api import Ask, IssuedInvoice, Rail

if TYPE_CHECKING:
    from proxy.payments.rails import Rails

ROUTE_MODEL = "x-route-model"
"""Which model `auto` or a lane stands for: what a paid retry must name."""


def challenge(exchange: Exchange, rails: Rails, ask: Ask, invoice: IssuedInvoice | None) -> Response:
    """402 with every rail that can take this payment now. Raises Refusal `payment_unavailable` where none can."""
    headers = Headers({"content-type": "application/json", "cache-control": "no-store"})
    members: dict[str, Any] = {
        "error": "Payment Required",
        "description": rails.settings.description,
        "model": ask.model,
        "provider": exchange.generation.owner,
        "max_tokens": ask.price.max_tokens,
        "estimated_input_tokens": ask.price.input_tokens,
    }
    offers = {rail: offer for rail in rails.rails if (offer := rail.offer(ask, invoice)) is not None}
    if not any(offer.headers for offer in offers.values()):
        raise _nothing_offered(rails, ask, invoice)
    if not rails.settings.description:
        members["description"] = f"{ask.model} inference, pay-per-request{_over(offers)}"
    for offer in offers.values():
        members |= offer.members
        for name, value in offer.headers:
            headers.add(name, value)
    if exchange.model is not None and (
        exchange.model.lane or exchange.call is None or exchange.call.model != (ask.named or ask.model)
    ):
        headers[ROUTE_MODEL] = ask.model
    return Response(402, headers, orjson.dumps(members))


def _nothing_offered(rails: Rails, ask: Ask, invoice: IssuedInvoice | None) -> Refusal:
    whole = replace(ask, stream=False)
    if ask.stream and any((offer := rail.offer(whole, invoice)) is not None and offer.headers for rail in rails.rails):
        return Refusal(
            "cashu_no_stream",
            'A streamed answer cannot be paid for in any way that is on offer now. Send "stream": false.',
            param="stream",
        )
    return Refusal(
        "payment_unavailable",
        "No way to pay is available at the moment. Nothing was taken; try again shortly.",
        retry_after_seconds=30,
    )


def _over(rails: Iterable[Rail]) -> str:
    """' over Lightning' | ' over Lightning or USDC' | ' over Lightning, USDC, or Cashu'"""
    ways = list(dict.fromkeys(rail.money for rail in rails if rail.money))
    if len(ways) > 2:
        ways = [", ".join([*ways[:-1], f"or {ways[-1]}"])]
    return f" over {' or '.join(ways)}" if ways else ""
