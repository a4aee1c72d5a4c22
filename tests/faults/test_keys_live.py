"""Keys made, revoked, rotated and expired by commands, as a running proxy sees it within a second."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator

import pytest

from tests.faults.crowd import Client, ask, chat
from tests.peers.behaviour import Behaviour
from tests.support.raw import Answer, request
from tests.support.world import World, world

WITHIN_SECONDS = 1.0
"""What is promised."""
GRACE_SECONDS = 2


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One proxy that runs all the while."""
    with world(tmp_path_factory.mktemp("keys")) as running:
        yield running


async def status(running: World, key: str) -> int:
    return (await ask(running.gateway.address("api"), chat(), key=key)).status


async def turns(running: World, key: str, wanted: int) -> None:
    """The key is answered `wanted`, at the latest when the promised second is over."""
    promised = time.monotonic() + WITHIN_SECONDS
    while time.monotonic() < promised:
        if await status(running, key) == wanted:
            return
        await asyncio.sleep(0.02)
    assert await status(running, key) == wanted


def command(running: World, *arguments: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(running.gateway.cli("keys", *arguments, "--json").stdout)
    return found


async def test_a_new_key_works_within_a_second(live: World) -> None:
    """A guessed one, remembered as unknown, does not."""
    guessed = "lld_" + "5" * 32
    assert await status(live, guessed) == 401
    made = command(live, "create", "--team", "default", "--user", "ann")["key"]
    await turns(live, made, 200)
    assert await status(live, guessed) == 401


@pytest.mark.parametrize("by", ["id", "key"])
async def test_a_revoked_key_is_refused_within_a_second(live: World, by: str) -> None:
    """Whether it is named by its id or by itself; another key of the same user works on."""
    made = command(live, "create", "--team", "default", "--user", "ann")
    other = command(live, "create", "--team", "default", "--user", "ann")
    assert await status(live, made["key"]) == 200
    command(live, "revoke", made[by])
    await turns(live, made["key"], 401)
    assert await status(live, other["key"]) == 200


async def test_a_revoked_key_is_refused_on_a_connection_that_is_kept_alive(live: World) -> None:
    """Identity is of the request, not of the connection; an exchange under way is served to its end."""
    made = command(live, "create", "--team", "default")
    live.provider.script(Behaviour(chunks=20, delay_seconds=0.1))
    address = live.gateway.address("api")
    async with Client(address) as kept, Client(address) as streaming:
        await streaming.send(request(chat(stream=True), key=made["key"]))
        await streaming.until(b'"content":"w')
        assert (await kept.ask(request(chat(), key=made["key"]))).status == 200
        await asyncio.to_thread(command, live, "revoke", made["id"])

        async def again() -> Answer:
            return await kept.ask(request(chat(), key=made["key"]))

        promised = time.monotonic() + WITHIN_SECONDS
        while (refused := await again()).status == 200 and time.monotonic() < promised:
            await asyncio.sleep(0.02)
        refused = refused if refused.status != 200 else await again()
        assert (refused.status, refused.code) == (401, "invalid_api_key")
        await streaming.head()
        assert (await streaming.rest()).body.endswith(b"data: [DONE]\n\n")
        assert (await kept.ask(request(path="/health", method="GET"))).status == 200


async def test_a_rotated_key_works_until_its_grace_is_over(live: World) -> None:
    """Old and new have the same id; without grace the old one ends with the command."""
    made = command(live, "create", "--team", "default")
    rotated = command(live, "rotate", made["id"], "--grace", f"{GRACE_SECONDS}s")
    over = time.monotonic() + GRACE_SECONDS
    assert rotated["id"] == made["id"] and rotated["key"] != made["key"]
    await turns(live, rotated["key"], 200)
    if time.monotonic() < over - 0.5:
        assert await status(live, made["key"]) == 200
    await ends(live, made["key"], over)
    assert await status(live, rotated["key"]) == 200
    last = command(live, "rotate", made["id"], "--grace", "0s")
    await turns(live, rotated["key"], 401)
    await turns(live, last["key"], 200)


async def test_an_expiring_key_ends_by_itself(live: World) -> None:
    """Without any command, also where it is remembered from a moment ago."""
    began = time.monotonic()
    made = command(live, "create", "--team", "default", "--expires", f"{GRACE_SECONDS}s")
    while await status(live, made["key"]) == 200:
        assert time.monotonic() < began + GRACE_SECONDS + WITHIN_SECONDS + 1
        await asyncio.sleep(0.05)
    assert time.monotonic() >= began + GRACE_SECONDS
    assert await status(live, made["key"]) == 401


async def ends(running: World, key: str, over: float) -> None:
    """The key works until `over`, and not a second longer."""
    while time.monotonic() < over:
        await asyncio.sleep(0.05)
    await turns(running, key, 401)


async def test_a_rotation_keeps_what_was_spent(live: World) -> None:
    """Caps count by id: the new key of a spent one has as little left."""
    made = command(live, "create", "--team", "default", "--cap", "0.001/day")
    live.provider.script(Behaviour(chunks=60))
    body = chat(max_tokens=60)
    assert (await ask(live.gateway.address("api"), body, key=made["key"])).status == 200
    rotated = command(live, "rotate", made["id"], "--grace", "0s")
    await turns(live, rotated["key"], 402)
    refused = await ask(live.gateway.address("api"), body, key=rotated["key"])
    assert (refused.status, refused.code) == (402, "quota_exhausted")
    assert refused.json()["error"]["cap"]["id"] == made["id"]
