"""/v1/conversations: the caller's own, to look at and to delete."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from proxy.accounts import account_of
from proxy.conversations.api import Summary
from proxy.conversations.service import Conversations
from proxy.endpoints.bridge import EXCHANGE
from proxy.endpoints.public import json_answer
from proxy.errors import Refusal
from proxy.exchange import Exchange
from proxy.idempotency.service import Once

LISTED_MAX: Final = 1000
_HOUR_SECONDS: Final = 3600


def router(conversations: Conversations, once: Once) -> APIRouter:
    """All three endpoints. What is not the caller's does not exist."""
    routes = APIRouter()

    @routes.get("/v1/conversations")
    async def listing(request: Request, limit: int = Query(default=100, ge=1, le=LISTED_MAX)) -> Response:
        """Ids, times and numbers of turns, the conversation spoken in last first."""
        found = await conversations.listing(_owner(request), limit + 1)
        data = [_entry(one, conversations.hours) for one in found[:limit]]
        return _private({"object": "list", "data": data, "has_more": len(found) > limit})

    @routes.get("/v1/conversations/{id}")
    async def reading(request: Request, id: str) -> Response:
        """One conversation with its turns, the oldest first."""
        found = await conversations.find(_owner(request), id)
        messages = [{"role": turn.role, "content": turn.text, "created": turn.at_ms // 1000} for turn in found.turns]
        return _private(_entry(found.summary, conversations.hours) | {"messages": messages})

    @routes.delete("/v1/conversations/{id}")
    async def deleting(request: Request, id: str) -> Response:
        """Forget it, and the answers of it that an Idempotency-Key would have told again."""
        owner = _owner(request)
        await once.forget(owner, id)
        await conversations.delete(owner, id)
        return _private({"id": id, "object": "conversation", "deleted": True})

    return routes


def _owner(request: Request) -> str:
    exchange: Exchange = request.scope[EXCHANGE]
    owner = account_of(exchange)
    if owner is None:
        raise Refusal("invalid_api_key", "Send your Tollway key or the token of your balance: 'Authorization: Bearer'.")
    return owner


def _entry(one: Summary, hours: int) -> dict[str, Any]:
    last = one.last_ms // 1000
    return {
        "id": one.id,
        "object": "conversation",
        "created": one.created_ms // 1000,
        "last_turn": last,
        "expires": last + hours * _HOUR_SECONDS,
        "turns": one.turns,
    }


def _private(content: dict[str, Any]) -> Response:
    response = json_answer(content)
    response.headers["cache-control"] = "no-store"
    return response
