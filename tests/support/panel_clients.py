"""Asking a panel of `tests.support.panel_world`, and looking at what its members were asked."""

from __future__ import annotations

from typing import Any

import httpx

from tests.faults import books
from tests.support.panel_world import Member, PanelWorld, role_of

ID = "x-tollway-request-id"
PRICES = {"fast": 50_000_000, "balanced": 350_000_000, "deep": 4_500_000_000}
"""Nano-dollars, as shipped."""


async def chat(house: PanelWorld, key: str, **body: Any) -> httpx.Response:
    """A chat completion of a consensus model."""
    asked = {"model": "consensus-fast", "messages": [{"role": "user", "content": "How warm is Oslo?"}], **body}
    return await post(house, key, "chat/completions", asked)


async def orchestrate(house: PanelWorld, key: str, **body: Any) -> httpx.Response:
    """POST /v1/orchestrate, fast unless told otherwise."""
    return await post(house, key, "orchestrate", {"prompt": "What is six times seven?", "mode": "fast", **body})


async def post(house: PanelWorld, key: str, path: str, body: Any, **headers: str) -> httpx.Response:
    """Any body to any path under /v1."""
    async with httpx.AsyncClient(timeout=60) as client:
        return await client.post(
            f"{house.url}/v1/{path}", json=body, headers={"authorization": f"Bearer {key}", **headers}
        )


def told(house: PanelWorld, role: str) -> list[dict[str, Any]]:
    """Bodies of the provider's requests in this role."""
    return [seen.json() for seen in house.world.provider.requests if role_of(seen) == role]


def disagreeing(**more: Any) -> dict[str, Member]:
    """Three answers of three members."""
    return {
        name: Member(f"It is {number}.", str(number), **more)
        for name, number in (("one", 42), ("two", 41), ("three", 40))
    }


async def charged(house: PanelWorld, answer: httpx.Response) -> int:
    """What an answer was charged, once it is settled."""
    await books.until_ended(house.world.gateway)
    return int(house.hold(answer.headers[ID])[0])
