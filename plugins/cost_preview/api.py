"""POST /v1/cost-preview and GET /v1/cost-preview/rates: what callers may ask about prices before they call."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from plugins.cost_preview.estimate import ESTIMATOR, Estimate, count_input, output_limit
from plugins.cost_preview.rates import RatesCache, rates_by_side, usd
from proxy import model_refusals
from proxy.catalogue import BYO_PREFIX, Model
from proxy.dialects import fields
from proxy.dialects.json_scan import scan
from proxy.endpoints.access import keyholder, tier_of
from proxy.endpoints.bridge import EXCHANGE
from proxy.endpoints.public import json_answer
from proxy.errors import Refusal
from proxy.exchange import Exchange
from proxy.operations import CHAT
from proxy.panels import run_price
from proxy.policy.known_as import meant_names
from proxy.policy.rules import NO_RULES
from proxy.policy.verdicts import denied_call
from proxy.pricing.money import Nano, usd_text
from proxy.pricing.rates import Rates
from proxy.usage import Usage

_DECIDING = fields.spellings("model", "messages", "max_tokens", "max_completion_tokens")
_FREE = Rates(0, 0)
_BYO_NOTE = "This model is served with your own upstream key: your provider bills you for it, nothing is charged here."


def router(rates: RatesCache, byo: Any) -> APIRouter:
    """Both endpoints. `byo` gives the models that a team registered: `models(team)` and `model(team, name)`."""
    routes = APIRouter()

    @routes.get("/v1/cost-preview/rates")
    async def table(request: Request) -> Response:
        """Every model's rates, the catalogue of chat models, and which of all models the caller can call."""
        exchange: Exchange = request.scope[EXCHANGE]
        identity = keyholder(exchange)
        own = {} if identity is None else byo.models(identity.team)
        headers = {"cache-control": f"private, max-age={rates.seconds}", "vary": "authorization, x-api-key"}
        return Response(rates.table(exchange, own), 200, headers, media_type="application/json")

    @routes.post("/v1/cost-preview")
    async def preview(request: Request) -> Response:
        """What a chat completion would cost: the least, the expected and the most. Nothing is called or charged."""
        exchange: Exchange = request.scope[EXCHANGE]
        document = await _document(request)
        messages = fields.messages_of(document)
        limit = output_limit(document)
        name = fields.model_of(document)
        if name is None:
            raise Refusal("invalid_request", "Say which model: the member 'model' is missing.", param="model")
        model, rates = _allowed(exchange, name, byo)
        counted = await count_input(messages, image_tokens_max=model.image_tokens_max)
        if rates is None or model.panel is not None:
            return json_answer(_run_preview(name, model, counted, limit))
        return json_answer(_preview(name, model, rates, Estimate.of(counted, limit)))

    return routes


async def _document(request: Request) -> dict[str, Any]:
    document, _, _ = scan(await request.body())
    fields.check_spelling(document, _DECIDING)
    return document


def _allowed(exchange: Exchange, name: str, byo: Any) -> tuple[Model, Rates | None]:
    """The model and what the caller would pay for it; None for a panel, which has a price of its own.

    Raises the Refusal that a chat completion would end with.
    """
    identity = keyholder(exchange)
    model = exchange.generation.models.get(name)
    if model is None and identity is not None and name.startswith(BYO_PREFIX):
        model = byo.model(identity.team, name)
    listed = exchange.generation.catalogue.get(name) if model is None else model
    if listed is None:
        raise model_refusals.unknown(exchange.generation, name)
    if CHAT.name not in listed.operations:
        raise Refusal("model_not_available", f"The model '{name}' does not serve {CHAT.name}.", param="model")
    if identity is None and not (listed.open and exchange.origin.loopback):
        raise Refusal("invalid_api_key", f"The model '{name}' needs a Tollway key: send it as Bearer token.")
    tier = tier_of(exchange)
    if tier is not None and listed.tiers and tier not in listed.tiers:
        raise model_refusals.not_in_tier(exchange.generation, CHAT.name, tier, name, listed)
    if model is None:
        raise model_refusals.unavailable(exchange.generation, CHAT.name, tier or "", name, listed)
    rates = _FREE if model.byo else model.rates
    if rates is None and model.panel is None:
        raise Refusal("model_not_available", f"The model '{name}' has no price and is not served.", param="model")
    denial = denied_call(exchange.policy or NO_RULES, model, (model.name,), meant_names(exchange.generation, model))
    if denial is not None:
        raise denial.refusal()
    return model, rates


def _preview(name: str, model: Model, rates: Rates, estimate: Estimate) -> dict[str, Any]:
    low, expected, high = (
        rates.cost(Usage(estimate.input_tokens, output)) for output in (estimate.low, estimate.expected, estimate.high)
    )
    input_cost = rates.cost(Usage(estimate.input_tokens, 0))
    answer: dict[str, Any] = {
        "ok": True,
        "model": name,
        "input_tokens": estimate.input_tokens,
        "est_output_tokens": {"low": estimate.low, "expected": estimate.expected, "high": estimate.high},
        "est_cost_usd": {"low": _usd(low), "expected": _usd(expected), "high": _usd(high)},
        "breakdown": {"input_usd": _usd(input_cost), "output_usd": _usd(Nano(expected - input_cost))},
        "rate_per_1m": rates_by_side(rates),
        "currency": "usd",
        "estimator": ESTIMATOR,
    }
    if model.byo:
        answer |= {"est_cost_usd": 0, "note": _BYO_NOTE}
    return answer


def _run_preview(name: str, model: Model, input_tokens: int, limit: int | None) -> dict[str, Any]:
    """A panel's: the price of a run, whatever it puts out. Raises Refusal `context_length_exceeded`."""
    panel = model.panel
    if panel is None:
        raise Refusal("model_not_available", f"The model '{name}' has no price and is not served.", param="model")
    if input_tokens > panel.input_tokens_max:
        raise Refusal(
            "context_length_exceeded",
            f"The input is about {input_tokens} tokens; '{name}' takes {panel.input_tokens_max}. Shorten it.",
            param="messages",
        )
    output = min(panel.tokens.final if limit is None else limit, panel.tokens.final_max)
    estimate, usd_of_run = Estimate.of(input_tokens, output), _usd(panel.price.usd)
    return {
        "ok": True,
        "model": name,
        "input_tokens": input_tokens,
        "est_output_tokens": {"low": estimate.low, "expected": estimate.expected, "high": estimate.high},
        "est_cost_usd": {"low": usd_of_run, "expected": usd_of_run, "high": usd_of_run},
        "price_per_run": run_price(panel),
        "currency": "usd",
        "estimator": ESTIMATOR,
    }


def _usd(nano: Nano) -> Any:
    return usd(usd_text(nano))
