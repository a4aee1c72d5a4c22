"""Credit on the admin listener: what `tollway credit` does, for programs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from typing import Annotated

from fastapi import APIRouter, Header
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from proxy.clock import Clock
from proxy.config.schema import Generation
from proxy.credit import BadCredit, Owner, parse_usd, plain_grant, plain_state
from proxy.endpoints.public import json_answer
from proxy.errors import Refusal
from proxy.keys import KeyStore
from proxy.ledger.api import Grant, PurseExceeded, PurseState
from proxy.ledger.credit import purses
from proxy.ledger.schema import connect
from proxy.ledger.store import SqliteLedger
from proxy.pricing.money import Nano, usd_text


class GrantEntry(BaseModel):
    """The body of POST /credit/grants."""

    model_config = ConfigDict(extra="forbid", strict=True)

    usd: str = Field(description='Dollars as decimal text: "25.00". "-5.00" takes out what is neither spent nor held.')
    id: str | None = Field(default=None, description="Makes it happen once; or send Idempotency-Key.")
    team: str | None = None
    user: str | None = Field(default=None, description="Of the team.")
    key: str | None = Field(default=None, description="Id of a key.")
    organisation: str | None = None
    wallet: str = Field(default="balance", description="balance or frontier.")
    note: str = ""


def router(*, ledger: SqliteLedger, keys: KeyStore, generation: Callable[[], Generation], clock: Clock) -> APIRouter:
    """`POST /credit/grants`, `GET /credit/balances`."""
    routes = APIRouter()

    @routes.post("/credit/grants")
    async def grant(entry: GrantEntry, idempotency_key: Annotated[str | None, Header()] = None) -> Response:
        """Put money into a purse, once under its id: 200 with the balance, again and again; 409 for other contents."""
        wanted = _wanted(entry, idempotency_key, keys, generation(), clock.now_ms())
        try:
            state = await ledger.grant(wanted)
        except PurseExceeded as error:
            raise Refusal(
                "conflict", f"Only {usd_text(error.state.left)} USD are left, so that much cannot be taken out."
            ) from error
        return json_answer({**plain_grant(wanted), "balance": plain_state(state)})

    @routes.get("/credit/balances")
    async def balances() -> Response:
        """Every purse: what was put in, spent, held and is left."""
        await ledger.flush()
        return json_answer({"balances": [plain_state(state) for state in await asyncio.to_thread(_read, ledger)]})

    return routes


def _read(ledger: SqliteLedger) -> list[PurseState]:
    with closing(connect(ledger.path, create=False)) as connection:
        return purses(connection)


def _wanted(
    entry: GrantEntry, idempotency_key: str | None, keys: KeyStore, generation: Generation, now_ms: int
) -> Grant:
    if entry.id is not None and idempotency_key is not None and entry.id != idempotency_key:
        raise Refusal("invalid_request", "'id' and Idempotency-Key differ: send one of them.", param="id")
    name = entry.id or idempotency_key
    if not name:
        raise Refusal("invalid_request", "Send 'id' or Idempotency-Key, so that it happens once.", param="id")
    negative = entry.usd.startswith("-")
    try:
        amount = parse_usd(entry.usd.removeprefix("-"))
        purse = Owner(entry.team, entry.user, entry.key, entry.organisation).purse(generation, keys, entry.wallet)
    except BadCredit as error:
        raise Refusal("invalid_request", str(error), param=error.param) from error
    return Grant(name, purse, Nano(-amount) if negative else amount, entry.note, now_ms)
