"""POST /v1/estimate-cost: what a request would cost a payer, before it is made. Free, and nobody is called for it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from proxy import model_refusals
from proxy.admission import Candidates, capable, with_room
from proxy.catalogue import Model
from proxy.config.schema import Generation
from proxy.dialects import DIALECTS, fields
from proxy.dialects.base import Call
from proxy.dialects.json_scan import scan
from proxy.endpoints.bodies import body_bytes_max
from proxy.endpoints.bridge import EXCHANGE
from proxy.endpoints.public import json_answer
from proxy.errors import Refusal
from proxy.exchange import Exchange
from proxy.operations import CHAT, EMBEDDINGS, MESSAGES, RESPONSES, Operation
from proxy.panel_calls import check_panel_call
from proxy.panel_quoting import panel_quote
from proxy.payments.api import Price
from proxy.payments.prices import price_of
from proxy.payments.rails import Rails
from proxy.payments.settings import Payments
from proxy.pricing.money import MSAT_PER_SAT, Nano, usd_text
from proxy.quoting import narrowed, quote

AUTO: Final = "auto"
PREFERENCES: Final = ("quality", "balanced", "cost", "speed")
PARSE_ON_LOOP_BYTES_MAX: Final = 64 << 10
TASK_CHARS_MAX: Final = 64
_MILLI: Final = 1000
_INPUTS: Final = ("messages", "input", "prompt")
_OWN: Final = ("pref", "max_cost", "task", "web_search", "prompt", "model")
"""Members that the endpoint reads itself."""
_DECIDING: Final = fields.spellings(*_OWN, *_INPUTS)
_SERVING: Final = {"messages": (CHAT, MESSAGES), "input": (EMBEDDINGS, RESPONSES), "prompt": (CHAT, MESSAGES)}
_OUTPUT_FIELD: Final = {MESSAGES.name: "max_tokens", RESPONSES.name: "max_output_tokens"}


@dataclass(frozen=True, slots=True)
class Asked:
    """An estimate that is asked for."""

    name: str | None
    """None: `auto`, or nothing."""
    member: str
    """Which of messages, input and prompt has the input."""
    document: dict[str, Any]
    sats_max: int | None

    @classmethod
    def of(cls, document: dict[str, Any]) -> Asked:
        """Raises Refusal `invalid_request` with the member in `param`."""
        fields.check_spelling(document, _DECIDING)
        name = fields.model_of(document) if document.get("model") is not None else None
        given = [member for member in _INPUTS if document.get(member) is not None]
        if len(given) != 1:
            raise Refusal("invalid_request", "Send one of 'messages', 'input' and 'prompt'.", param="messages")
        if fields.flag(document, "web_search"):
            raise Refusal("invalid_request", "No model here searches the web yet: leave it out.", param="web_search")
        pref, task = document.get("pref"), document.get("task")
        if pref is not None and pref not in PREFERENCES:
            fields.wrong("pref", f"one of {', '.join(PREFERENCES)}")
        if task is not None and not (isinstance(task, str) and len(task) <= TASK_CHARS_MAX):
            fields.wrong("task", f"a string of at most {TASK_CHARS_MAX} characters")
        sats_max = fields.integer(document, "max_cost", 0, fields.TOKENS_MAX)
        return cls(None if name == AUTO else name, given[0], document, sats_max)


def add(routes: APIRouter, rails: Rails, bytes_max: int) -> None:
    """Add the endpoint."""

    @routes.post("/v1/estimate-cost", openapi_extra=body_bytes_max(bytes_max))
    async def estimate(request: Request) -> Response:
        """The very price that a 402 for this request would ask."""
        exchange: Exchange = request.scope[EXCHANGE]
        body = await request.body()
        found = await asyncio.to_thread(scan, body) if len(body) > PARSE_ON_LOOP_BYTES_MAX else scan(body)
        asked = Asked.of(found[0])
        model, operation = _model(exchange, asked, rails.settings)
        written = _body(asked, model, operation)
        dialect = DIALECTS[operation.dialect or ""]
        call = await asyncio.to_thread(dialect.parse, written) if len(body) > PARSE_ON_LOOP_BYTES_MAX else None
        price = await _price(model, call or dialect.parse(written), rails)
        return json_answer(_answer(model, price, asked, rails.settings))


def _model(exchange: Exchange, asked: Asked, settings: Payments) -> tuple[Model, Operation]:
    """The model, and what it would be called by. Raises the Refusal that the request itself would end with."""
    generation, name = exchange.generation, asked.name
    name = name or _default(generation)
    listed = generation.models.get(name) or generation.catalogue.get(name)
    if listed is None:
        raise model_refusals.unknown(generation, name)
    operation = next((one for one in _SERVING[asked.member] if one.name in listed.operations), None)
    if operation is None:
        raise Refusal("model_not_available", f"The model '{name}' takes no '{asked.member}'.", param="model")
    if settings.tier is not None and listed.tiers and settings.tier not in listed.tiers:
        raise model_refusals.not_in_tier(generation, operation.name, settings.tier, name, listed)
    if name not in generation.models:
        raise model_refusals.unavailable(generation, operation.name, settings.tier or "", name, listed)
    return listed, operation


def _default(generation: Generation) -> str:
    """The alias `auto`, refused like the request itself where nobody can serve it now; else the first lane."""
    if AUTO in generation.models or AUTO in generation.catalogue:
        return AUTO
    lane = next((one.name for one in generation.models.values() if one.lane), None)
    if lane is None:
        raise Refusal("invalid_request", "There is no default model here: say which 'model'.", param="model")
    return lane


def _body(asked: Asked, model: Model, operation: Operation) -> bytes:
    """The request itself, as a client would send it."""
    document = {member: value for member, value in asked.document.items() if member not in _OWN}
    document["model"] = model.name
    if asked.member == "prompt":
        prompt = asked.document["prompt"]
        if not isinstance(prompt, str):
            fields.wrong("prompt", "a string")
        document["messages"] = [{"role": "user", "content": prompt}]
    field = _OUTPUT_FIELD.get(operation.name)
    if field is not None:
        limit = document.pop("max_tokens", None)
        wanted = document.get(field) or limit
        if wanted is not None or operation is MESSAGES:
            document[field] = model.output_tokens_default if wanted is None else wanted
    elif operation is EMBEDDINGS:
        document.pop("max_tokens", None)
    return orjson.dumps(document)


async def _price(model: Model, call: Call, rails: Rails) -> Price:
    """As it would be priced. Raises Refusal: `context_length_exceeded`, or what a model cannot do."""
    if model.panel is not None:
        check_panel_call(call)
        found = await panel_quote(model, call, model.candidates)
        return await price_of(model, call, found, rails.settings, nano_per_btc=rails.nano_per_btc)
    if model.rates is None:
        raise Refusal(
            "model_not_available", f"The model '{model.name}' has no price and is not for sale.", param="model"
        )
    rate = rails.nano_per_btc
    candidates: Candidates = capable(model, call)
    found = quote(model, call, provider_credential=False, candidates=candidates)
    price = await price_of(model, call, found, rails.settings, nano_per_btc=rate)
    if call.dialect == EMBEDDINGS.dialect:
        return price
    fitting = with_room(candidates, model, price.input_tokens, found.output_tokens)
    if not fitting:
        longest = max(model.context_of(candidate) for candidate in candidates)
        raise Refusal(
            "context_length_exceeded",
            f"The input is about {price.input_tokens} tokens; '{model.name}' takes {longest}. Shorten it.",
            param="messages",
        )
    if len(fitting) == len(candidates):
        return price
    return await price_of(model, call, narrowed(found, model, call, fitting), rails.settings, nano_per_btc=rate)


def _answer(model: Model, price: Price, asked: Asked, settings: Payments) -> dict[str, Any]:
    """`category`, `confidence` and `rc` are a classifier's, of which there is none yet."""
    sats = None if price.msat is None else max(-(-price.msat // MSAT_PER_SAT), _floor(settings))
    answer: dict[str, Any] = {
        "model": model.name,
        "shortName": model.name.rpartition("/")[2],
        "category": None,
        "confidence": None,
        "rc": None,
        "estimatedInputTokens": price.input_tokens,
        "estimatedOutputTokens": price.output_tokens,
        "costSats": sats,
        "costUsd": _number(price.usd),
        "btcPrice": None if price.nano_per_btc is None else _number(Nano(price.nano_per_btc)),
    }
    if price.credits_milli is not None:
        whole, milli = divmod(price.credits_milli, _MILLI)
        answer["costCredits"] = orjson.Fragment(f"{whole}.{milli:03}")
    if asked.sats_max is not None:
        answer["withinMaxCost"] = None if sats is None else sats <= asked.sats_max
    return answer


def _floor(settings: Payments) -> int:
    """Least sats that any rail here asks for one request."""
    floors = [
        settings.l402.sats_min if settings.l402 is not None and settings.lightning is not None else None,
        None if settings.cashu is None else settings.cashu.sats_min,
        None if settings.balance is None else settings.balance.charge_sats_min,
    ]
    return min((floor for floor in floors if floor is not None), default=0)


def _number(nano: Nano) -> orjson.Fragment:
    """A JSON number of exactly these digits, whole dollars without a point: no float comes near it."""
    return orjson.Fragment(usd_text(nano).removesuffix(".00"))
