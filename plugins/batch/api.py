"""POST /v1/batch, GET and DELETE /v1/batch/{id}, each within the batches of the caller's own key."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from proxy import model_refusals
from proxy.batches.api import BatchReport, ItemReport, ItemState
from proxy.batches.requests import BODY_BYTES_MAX, Wanted, parse
from proxy.batches.service import Batches
from proxy.endpoints.access import is_callable, keyholder
from proxy.endpoints.bodies import body_bytes_max
from proxy.endpoints.bridge import EXCHANGE
from proxy.endpoints.public import json_answer
from proxy.errors import Refusal
from proxy.exchange import Exchange
from proxy.idempotency.api import asked, key_of
from proxy.identities import Identity
from proxy.operations import ORCHESTRATE
from proxy.webhooks.service import Webhooks

PATH: Final = "/v1/batch"
ON_LOOP_BYTES_MAX: Final = 64 << 10
"""Larger bodies are parsed in a thread."""


def router(batches: Batches, webhooks: Webhooks) -> APIRouter:
    """All three endpoints, for the holder of a key of ours."""
    routes = APIRouter()

    @routes.post(PATH, openapi_extra=body_bytes_max(BODY_BYTES_MAX))
    async def queue(request: Request) -> Response:
        """Queue 1 to 20 prompts: 202, durably. One that is wrong refuses them all, and nothing is charged."""
        exchange, identity = _exchange(request), _holder(request)
        body = await request.body()
        key = key_of(exchange.request.headers)
        once = None if key is None else asked(f"key:{identity.key_id}", key, PATH, body)
        if len(body) > ON_LOOP_BYTES_MAX:
            wanted = await asyncio.to_thread(parse, body, exchange.generation)
        else:
            wanted = parse(body, exchange.generation)
        _check_models(exchange, identity, wanted)
        if wanted.webhook_url is not None:
            await webhooks.check(wanted.webhook_url)
        address = exchange.client_address
        peer = exchange.origin.peer if address is None else str(address)
        made = await batches.add(
            identity.key_id, wanted.prompts, peer=peer, webhook_url=wanted.webhook_url, once=once
        )  # fmt: skip
        answer = _answer(made, 202)
        answer.headers["location"] = f"{PATH}/{made.id}"
        return answer

    @routes.get(f"{PATH}/{{id}}")
    async def look(request: Request, id: str) -> Response:
        """What has become of it so far, results included."""
        found = await batches.report(_holder(request).key_id, id)
        if found is None:
            raise _unknown()
        return _answer(found)

    @routes.delete(f"{PATH}/{{id}}")
    async def cancel(request: Request, id: str) -> Response:
        """Leave out what has not begun, and cancel what runs. What has ended stays."""
        found = await batches.cancel(_holder(request).key_id, id)
        if found is None:
            raise _unknown()
        return _answer(found)

    return routes


def _exchange(request: Request) -> Exchange:
    exchange: Exchange = request.scope[EXCHANGE]
    return exchange


def _holder(request: Request) -> Identity:
    """Who holds one of our keys. Raises Refusal."""
    identity = keyholder(_exchange(request))
    if identity is None:
        raise Refusal(
            "invalid_api_key",
            "A batch needs a Tollway key: 'Authorization: Bearer KEY'. It is worked off while nobody waits, so it "
            f"cannot be paid for by the request: send each prompt to POST /v1/{ORCHESTRATE.name} for that.",
        )
    return identity


def _check_models(exchange: Exchange, identity: Identity, wanted: Wanted) -> None:
    """Refuse what every prompt of that mode would be refused for later."""
    for name in wanted.models:
        model = exchange.generation.models[name]
        if model.tiers and identity.tier not in model.tiers:
            raise model_refusals.not_in_tier(exchange.generation, ORCHESTRATE.name, identity.tier, name, model)
        if not is_callable(exchange, model):
            raise Refusal("model_not_allowed", f"Your key may not call '{name}': use another mode.", param="mode")


def _unknown() -> Refusal:
    return Refusal("not_found", "There is no such batch of your key, or it was forgotten when its time was over.")


def _answer(report: BatchReport, status: int = 200) -> Response:
    answer = json_answer(_entry(report), status)
    answer.headers["cache-control"] = "no-store"
    return answer


def _entry(report: BatchReport) -> dict[str, Any]:
    started = min((item.started_ms for item in report.items if item.started_ms is not None), default=None)
    return {
        "id": report.id,
        "object": "batch",
        "status": report.status,
        "counts": report.counts,
        "created": report.created_ms // 1000,
        "started": _seconds(started),
        "ended": _seconds(report.ended_ms),
        "expires": report.expires_ms // 1000,
        "items": [_item(item) for item in report.items],
    }


def _item(item: ItemReport) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "index": item.number,
        "status": item.state.value,
        "started": _seconds(item.started_ms),
        "ended": _seconds(item.ended_ms),
    }
    if item.state is ItemState.COMPLETED:
        entry["result"] = orjson.Fragment(item.outcome)
    elif item.state is ItemState.FAILED:
        entry["error"] = orjson.Fragment(item.outcome)
    return entry


def _seconds(ms: int | None) -> int | None:
    return None if ms is None else ms // 1000
