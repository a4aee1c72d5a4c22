"""/v1/byo/keys: list, register, rotate and remove the upstream keys of the caller's team. No answer holds a key."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, SecretStr
from starlette.responses import Response

from proxy.byo import ByoStore, Invalid, NoEncryptionKey, Registration, TooMany, UnknownAlias, Wanted, check_public
from proxy.endpoints.access import keyholder, tier_of
from proxy.endpoints.bridge import EXCHANGE
from proxy.endpoints.public import json_answer
from proxy.errors import Refusal
from proxy.exchange import Exchange
from proxy.identities import Identity

OPERATIONS_MAX: Final = 8


class NewKey(BaseModel):
    """A registration. Either `upstream` or `base_url`."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, strict=True, protected_namespaces=())

    alias: str
    """byo-..."""
    model: str
    """What the upstream calls it."""
    key: SecretStr
    upstream: str | None = None
    base_url: str | None = None
    operations: list[str] = []
    """None named: all that the upstream serves; of a base URL chat.completions and embeddings."""
    credential_header: str | None = None
    """Of a base URL: authorization (Bearer), x-api-key or api-key."""


class Rotation(BaseModel):
    """Another key for an alias."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, strict=True)

    alias: str
    key: SecretStr


def router(store: ByoStore, tiers: tuple[str, ...], log: Any) -> APIRouter:
    """All four endpoints. One change at a time is written, in a thread."""
    routes = APIRouter(dependencies=[Depends(_holder)])  # Before a body is looked into.
    turn = asyncio.Lock()

    async def change(
        request: Request, event: str, write: Callable[[str], Awaitable[Registration]]
    ) -> tuple[Registration, dict[str, str]]:
        identity = _allowed(request, tiers)
        with _refusals():
            async with turn:
                made = await write(identity.team)
                troubles = await asyncio.to_thread(store.troubles, identity.team)
        log.info(event, team=made.team, alias=made.alias, registration=made.id, by=identity.key_id)
        return made, troubles

    @routes.get("/v1/byo/keys")
    async def listing(request: Request) -> Response:
        """The team's registrations, oldest first."""
        identity = _holder(request)
        with _refusals():
            async with turn:
                found = await asyncio.to_thread(store.registrations, identity.team)
                troubles = await asyncio.to_thread(store.troubles, identity.team)
        return json_answer({"object": "list", "data": [_entry(one, troubles.get(one.id)) for one in found]})

    @routes.post("/v1/byo/keys")
    async def register(request: Request, body: NewKey) -> Response:
        """Register a key under a new alias: 201."""
        _allowed(request, tiers)
        with _refusals():
            if len(body.operations) > OPERATIONS_MAX:
                raise Invalid("operations", f"At most {OPERATIONS_MAX}.")
            generation = _exchange(request).generation
            fields = body.model_dump(exclude={"key"})
            wanted = Wanted.parse(generation, **fields, secret=body.key.get_secret_value())
            await check_public(wanted, generation.byo)
        made, troubles = await change(
            request, "byo_registered", lambda team: asyncio.to_thread(store.add, team, wanted)
        )
        return json_answer(_entry(made, troubles.get(made.id)), 201)

    @routes.post("/v1/byo/keys/rotate")
    async def rotate(request: Request, body: Rotation) -> Response:
        """Another key in place of the old one, which is forgotten at once."""
        secret = body.key.get_secret_value()
        made, troubles = await change(
            request, "byo_rotated", lambda team: asyncio.to_thread(store.rotate, team, body.alias, secret)
        )
        return json_answer(_entry(made, troubles.get(made.id)))

    @routes.delete("/v1/byo/keys")
    async def remove(request: Request, alias: str = Query()) -> Response:
        """End an alias and forget its key."""
        made, _ = await change(request, "byo_removed", lambda team: asyncio.to_thread(store.remove, team, alias))
        return json_answer({"id": made.id, "object": "byo.key", "alias": made.alias, "deleted": True})

    return routes


def _exchange(request: Request) -> Exchange:
    exchange: Exchange = request.scope[EXCHANGE]
    return exchange


def _holder(request: Request) -> Identity:
    """Who holds one of our keys. Raises Refusal."""
    identity = keyholder(_exchange(request))
    if identity is None:
        raise Refusal("invalid_api_key", "Send your Tollway key: 'Authorization: Bearer KEY'.")
    return identity


def _allowed(request: Request, tiers: tuple[str, ...]) -> Identity:
    """Who may change registrations. Raises Refusal."""
    identity = _holder(request)
    tier = tier_of(_exchange(request))
    if tiers and tier not in tiers:
        raise Refusal("policy_denied", f"Your tier ({tier}) cannot register upstream keys. {', '.join(tiers)} can.")
    return identity


@contextmanager
def _refusals() -> Iterator[None]:
    """Problems as the public API tells them."""
    try:
        yield
    except Invalid as error:
        raise Refusal("invalid_request", f"{error.param}: {error}", param=error.param) from None
    except TooMany as error:
        raise Refusal("conflict", str(error), param="alias") from error
    except UnknownAlias as error:
        raise Refusal("not_found", f"{error} GET /v1/byo/keys lists them.", param="alias") from error
    except NoEncryptionKey as error:
        raise Refusal("not_found", "This proxy takes no upstream keys of its customers. Ask its operator.") from error
    except sqlite3.Error as error:
        raise Refusal("overloaded", "The registrations cannot be reached. Try again.", retry_after_seconds=1) from error


def _entry(one: Registration, trouble: str | None) -> dict[str, Any]:
    entry = {
        "id": one.id,
        "object": "byo.key",
        "alias": one.alias,
        "upstream": one.upstream,
        "base_url": None if one.upstream is not None else one.base_url,
        "model": one.model,
        "operations": list(one.operations),
        "key_hint": one.hint,
        "created": one.created_ms // 1000,
        "rotated": None if one.rotated_ms is None else one.rotated_ms // 1000,
        "available": trouble is None,
    }
    return entry if trouble is None else entry | {"reason": trouble}
