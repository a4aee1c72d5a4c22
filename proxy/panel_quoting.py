"""What a panel's run costs at most, and whether the panel can take the call at all."""

from __future__ import annotations

import asyncio
from typing import Final

import orjson

from proxy.admission import Candidates, needs
from proxy.catalogue import JSON_SCHEMA, TOOLS, VISION, Model
from proxy.consensus.settings import Mode
from proxy.dialects.base import Call
from proxy.errors import Refusal
from proxy.panels import INPUT_BYTES_PER_TOKEN, seated
from proxy.pricing import tokens
from proxy.pricing.bounds import input_bound
from proxy.pricing.money import ZERO
from proxy.pricing.quote import Quote

ENCODE_ON_LOOP_BYTES_MAX: Final = 64 << 10


async def panel_quote(model: Model, call: Call, candidates: Candidates) -> Quote:
    """The price of the mode, its budget as the list cost, and the candidates as they are given: the permitted ones.

    A failed run owes nothing, so that no part of the price is input. Raises Refusal: `model_not_allowed` where too few
    members are permitted, `invalid_request` for what the panel cannot do, `unbounded_cost`, `context_length_exceeded`.
    """
    panel = model.panel
    if panel is None:
        raise TypeError(f"'{model.name}' is no panel")
    if call.unbounded is not None:
        raise Refusal(
            "unbounded_cost", f"This request uses {call.unbounded}, whose cost cannot be bounded. Leave it out."
        )
    mode = seated(panel, candidates)
    _check_needs(model, mode, call)
    asked = call.output_tokens_max
    return Quote(
        input_tokens=await _input_tokens(model, mode, call, candidates),
        output_tokens=min(panel.tokens.final if asked is None else asked, panel.tokens.final_max),
        choices=1,
        charged=panel.price.usd,
        list=panel.budget,
        input_charged=ZERO,
        candidates=candidates,
    )


def _check_needs(model: Model, mode: Mode, call: Call) -> None:
    """Images need a member that sees them, tools and schemas a synthesiser that takes them."""
    needed = needs(call)
    writers = mode.synthesisers
    if VISION in needed and not any(seat.vision for seat in mode.seats):
        raise _cannot(model, "read images", "messages", "none of its members can be shown any")
    if TOOLS in needed and not any(seat.tools for seat in writers):
        raise _cannot(model, "call tools", "tools", "none of its synthesisers can")
    if JSON_SCHEMA in needed and not any(seat.json_schema for seat in writers):
        raise _cannot(model, "answer by a JSON schema", "response_format", "none of its synthesisers can")


def _cannot(model: Model, what: str, param: str, why: str) -> Refusal:
    return Refusal(
        "invalid_request",
        f"'{model.name}' cannot {what}: {why}. Use a model that can, or leave it out of the request.",
        param=param,
    )


async def _input_tokens(model: Model, mode: Mode, call: Call, candidates: Candidates) -> int:
    """Tokens of the question: their bound where that is within the mode's limit, else counted, and by its bytes where
    those are more than the limit's tokens can have."""
    limit = mode.input_tokens_max
    images = _image_tokens_max(mode, candidates) if call.images else None
    bound = input_bound(call, image_tokens_max=images)
    if bound is None:
        raise _cannot(model, "read images", "messages", "what an image costs is not known")
    if bound <= limit:
        return bound
    counted = await tokens.count_call_async(call, tokens.FALLBACK_ENCODING, image_tokens_max=images)
    spelled = bound - len(call.body) + await _spelled_bytes(call)
    if counted is None or max(counted, -(-spelled // INPUT_BYTES_PER_TOKEN)) > limit:
        raise _too_long(model, limit, counted, spelled)
    return counted


async def _spelled_bytes(call: Call) -> int:
    """Length of the body without escapes: a client may spell a letter of two bytes with six."""
    if len(call.body) <= ENCODE_ON_LOOP_BYTES_MAX:
        return len(orjson.dumps(call.document))
    return len(await asyncio.to_thread(orjson.dumps, call.document))


def _image_tokens_max(mode: Mode, candidates: Candidates) -> int | None:
    """Of the members that are shown images; None: there is none of them."""
    seeing = {seat.model for seat in mode.seats if seat.vision}
    known = [one.image_tokens_max for one in candidates if one.model in seeing and one.image_tokens_max is not None]
    return max(known, default=None)


def _too_long(model: Model, limit: int, counted: int | None, spelled: int) -> Refusal:
    size = "too long to be counted" if counted is None else f"about {counted} tokens in {spelled} bytes"
    return Refusal(
        "context_length_exceeded",
        f"The input is {size}; '{model.name}' takes {limit} tokens at its price, and no more than "
        f"{limit * INPUT_BYTES_PER_TOKEN} bytes. Shorten it, or use a mode that takes more.",
        param="messages",
    )
