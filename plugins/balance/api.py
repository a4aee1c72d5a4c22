"""POST /v1/balance: one endpoint for all there is to do with a balance, as the body and the headers say."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from plugins.balance.counter import Answer, Counter, Shown
from proxy.endpoints.bridge import EXCHANGE
from proxy.endpoints.public import json_answer
from proxy.errors import Refusal
from proxy.exchange import Exchange


class BalanceRequest(BaseModel):
    """Exactly one of `action`, `sats` and `payment_hash`."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, strict=True)

    action: Literal["status"] | None = Field(default=None, description="With the token as Bearer: where it stands.")
    sats: int | None = Field(default=None, description="Buy so much, or top the Bearer's balance up by it.")
    payment_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        default=None, description="Ask whether the invoice with this hash was paid."
    )
    poll_secret: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        default=None, description="What came with that invoice: asking for the token wants it."
    )


def router(counter: Counter) -> APIRouter:
    """The endpoint. No answer of it may be kept by anybody on the way."""
    routes = APIRouter()

    @routes.post("/v1/balance")
    async def balance(request: Request, body: BalanceRequest) -> Response:
        """Buy (402 with an invoice), poll, top up, ask for the status; with a payment in the headers: pay at once."""
        exchange: Exchange = request.scope[EXCHANGE]
        _check(body)
        shown = Shown.of(exchange.request.headers)
        if body.action is not None:
            return _sent(await counter.status(shown))
        if body.payment_hash is not None:
            return _sent(await counter.poll(shown, body.payment_hash, body.poll_secret))
        sats = counter.check_sats(body.sats)
        if shown.payment is not None:
            return _sent(await counter.pay(exchange, shown, sats))
        return _sent(await counter.offer(exchange, shown, sats))

    return routes


def _check(body: BalanceRequest) -> None:
    given = [name for name in ("action", "sats", "payment_hash") if getattr(body, name) is not None]
    if len(given) != 1:
        raise Refusal(
            "invalid_request",
            'Send one of {"sats": N} to buy or top up, {"payment_hash": H, "poll_secret": S} to ask whether an invoice '
            'was paid, or {"action": "status"} with the token.',
            param=given[1] if given else None,
        )
    if body.poll_secret is not None and body.payment_hash is None:
        raise Refusal("invalid_request", "'poll_secret' goes with 'payment_hash'.", param="poll_secret")


def _sent(answer: Answer) -> Response:
    content: dict[str, Any] = answer.content
    response = json_answer(content, answer.status)
    response.headers["cache-control"] = "no-store"
    for name, value in answer.headers:
        response.headers.append(name, value)
    return response
