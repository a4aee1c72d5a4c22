"""Two hundred clients at once against one team's cap: what is served never costs more than it."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.pricing.money import usd_text
from tests.faults import books
from tests.faults.crowd import Client, ask, chat, cost_nano, hold_nano
from tests.peers.behaviour import Behaviour, Fault, Usage
from tests.peers.provider import ANTHROPIC_KEY, OPENAI_KEY
from tests.support.gateway import GatewayProcess
from tests.support.raw import Answer, request
from tests.support.world import GPT_4O_PRICE, TEAMS, World, world

CLIENTS = 200
MAX_TOKENS = 300
OUTPUT_MAX = 100_000
TRIES = 4
PROMPT = "Count to a hundred, please."
PROMPT_WORDS = 5
MODELS = ("quick", "slow", "silent")
WORDS = {"quick": 280, "slow": 300, "silent": 200}
"""What the provider generates: what is held and what it costs are not far apart."""
BEHAVIOURS = {
    "quick": Behaviour(chunks=WORDS["quick"]),
    "slow": Behaviour(chunks=400, delay_seconds=0.001, head_delay_seconds=0.05),
    "silent": Behaviour(chunks=WORDS["silent"], usage=Usage.MISSING),
    "refusing": Behaviour(status=400),
}
"""By model. A silent one reports no usage: its tokens are counted by the proxy, two for each of its words."""
CAP = CLIENTS // 4 * hold_nano(chat("quick", prompt=PROMPT, max_tokens=MAX_TOKENS, stream=True), MAX_TOKENS)
LONG = {"connect_seconds": 5, "first_byte_seconds": 30, "idle_seconds": 30, "total_seconds": 60}


@pytest.fixture
def capped(tmp_path: Path) -> Iterator[World]:
    """A proxy in front of models of every temper, and a team with a cap for a quarter of the crowd."""
    model = {"candidates": ["openai"], "price": GPT_4O_PRICE, "context": 128_000, "output_max": OUTPUT_MAX}
    cap = {"usd": usd_text(CAP), "window": "month"}
    team = {"organisation": "acme", "tier": "standard", "caps": [cap]}
    with world(
        tmp_path,
        config={"drain_client_gone_seconds": 5},
        policies={
            "models": {"models": dict.fromkeys(BEHAVIOURS, model)},
            "teams": {**TEAMS, "teams": {"default": team}},
        },
        deadlines=LONG,
    ) as running:
        for name, behaviour in BEHAVIOURS.items():
            running.provider.script(behaviour, model=name)
        yield running


@dataclass(slots=True)
class Crowd:
    """What became of everybody."""

    keys: list[str]
    outcomes: Counter[str] = field(default_factory=Counter)
    refusals: list[Answer] = field(default_factory=list)

    async def storm(self, *addresses: tuple[str, int]) -> None:
        """All at once, over as many proxies as there are addresses."""
        await asyncio.gather(*(self._client(number, addresses[number % len(addresses)]) for number in range(CLIENTS)))

    async def _client(self, number: int, address: tuple[str, int]) -> None:
        """Comes back a few times where there is nothing left: what others did not use is free again by then."""
        for _ in range(TRIES):
            outcome = await self._try(number, address)
            self.outcomes[outcome] += 1
            if outcome != "402":
                return
            await asyncio.sleep(0.05)

    async def _try(self, number: int, address: tuple[str, int]) -> str:
        """Of ten: five streams, two of them cut; four whole answers, one of them left; one refused by the provider."""
        kind = number // 2 % 10
        model = "refusing" if kind == 9 else MODELS[number // 20 % len(MODELS)]
        body = chat(model, prompt=PROMPT, max_tokens=MAX_TOKENS, stream=kind < 5)
        async with Client(address) as client:
            await client.send(request(body, key=self.keys[number % len(self.keys)]))
            if kind == 8:
                await asyncio.sleep(0.02)
                client.leave()
                return "left"
            if await client.head() == 200 and kind < 2:
                await client.until(b'"content":"w')
                client.leave()
                return "cut"
            answer = await client.rest()
            if answer.status == 402:
                self.refusals.append(answer)
            return str(answer.status)


def provider_nano(running: World) -> int:
    """What the provider did for us, by its own words and list price, whoever was still there to see it."""
    total = 0
    for seen in running.provider.requests:
        model = seen.json()["model"]
        if seen.whole and model in WORDS:
            total += cost_nano(PROMPT_WORDS, WORDS[model])
    return total


def assert_refusals_tell(refusals: list[Answer]) -> None:
    """Which cap, how much is left, when it resets."""
    assert refusals
    for refusal in refusals:
        error: dict[str, Any] = refusal.json()["error"]
        assert error["code"] == "quota_exhausted"
        assert (error["cap"]["scope"], error["cap"]["id"], error["cap"]["window"]) == ("team", "default", "month")
        assert error["cap"]["limit_usd"] == usd_text(CAP)
        assert float(error["cap"]["left_usd"]) < float(error["cap"]["needed_usd"])
        assert error["cap"]["resets_at"] in error["message"]
        assert error["cap"]["left_usd"] in error["message"]


def small(tokens: int) -> bytes:
    """A short request with this output limit."""
    return chat("quick", prompt="Hi", max_tokens=tokens)


def tokens_for(left: int) -> int:
    """The largest output limit whose hold fits; its own digits make the body longer."""
    for digits in range(6, 0, -1):
        least = 10 ** (digits - 1)
        tokens = least + (left - hold_nano(small(least), least)) // 10_000
        if tokens >= least:
            return min(tokens, 10**digits - 1)
    raise ValueError(f"nothing fits into {left}")


async def spends_the_rest(gateway: GatewayProcess, key: str) -> None:
    """No hold leaked: a request for all that is left is served, one for more than that is refused."""
    address = gateway.address("api")
    spent, _ = books.team_cap(gateway)
    left = CAP - spent
    tokens = tokens_for(left)
    over = await ask(address, small(tokens + 1), key=key)
    assert_refusals_tell([over])
    assert over.json()["error"]["cap"]["left_usd"] == usd_text(left)
    assert (await ask(address, small(tokens), key=key)).status == 200
    await books.until_ended(gateway)
    assert books.team_cap(gateway) == (spent + cost_nano(1, min(tokens, WORDS["quick"])), 0)


async def assert_within_the_cap(running: World, crowd: Crowd) -> None:
    """The sums, by the provider's figures and by ours."""
    gateway = running.gateway
    await books.until_ended(gateway)
    assert {"200", "402", "400", "cut", "left"} <= crowd.outcomes.keys()
    assert_refusals_tell(crowd.refusals)
    spent, held = books.team_cap(gateway)
    assert held == 0
    assert CAP // 2 < provider_nano(running) <= spent <= CAP
    assert spent == sum(hold.charged or 0 for hold in books.holds(gateway))
    await spends_the_rest(gateway, crowd.keys[0])
    books.assert_proven(gateway)


def make_keys(gateway: GatewayProcess) -> list[str]:
    """Two users' keys, two each."""
    return [books.make_key(gateway, user=user) for user in ("ann", "bob", "ann", "bob")]


async def test_a_crowd_never_overruns_the_teams_cap(capped: World) -> None:
    """Streamed and whole, cut, left, slow and refused: the provider's own figures stay below the cap."""
    crowd = Crowd(make_keys(capped.gateway))
    await crowd.storm(capped.gateway.address("api"))
    await assert_within_the_cap(capped, crowd)
    books.assert_quiet(capped.gateway)


@pytest.fixture
def sibling(capped: World, tmp_path: Path) -> Iterator[GatewayProcess]:
    """A second proxy of the same operator: other ports, the same policies, upstreams and state."""
    folder = tmp_path / "sibling"
    folder.mkdir()
    shutil.copytree(tmp_path / "policies", folder / "policies")
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, "state": str(tmp_path / "var")}))
    keys = {"OPENAI_API_KEY": OPENAI_KEY, "ANTHROPIC_API_KEY": ANTHROPIC_KEY}
    with GatewayProcess(folder, environment=keys) as gateway:
        yield gateway


async def test_two_proxies_on_one_state_share_the_cap(capped: World, sibling: GatewayProcess) -> None:
    """The crowd comes to both at once; one cap, one ledger, one audit log."""
    crowd = Crowd(make_keys(capped.gateway))
    await crowd.storm(capped.gateway.address("api"), sibling.address("api"))
    await assert_within_the_cap(capped, crowd)
    assert sibling.stop() == 0
    for gateway in (capped.gateway, sibling):
        books.assert_quiet(gateway)
    assert {line["listener"] for line in capped.gateway.audit_lines()} == {"api"}
    assert len(capped.gateway.audit_lines()) >= crowd.outcomes.total()


async def test_the_death_of_one_proxy_leaves_the_others_holds_alone(capped: World, sibling: GatewayProcess) -> None:
    """It starts again beside the one that lives: its own holds end in full, no other is touched."""
    capped.provider.script(Behaviour(chunks=50, fault=Fault.HANG_MID, after_chunks=5), model="slow")
    key = books.make_key(capped.gateway)
    body = chat("slow", prompt=PROMPT, max_tokens=MAX_TOKENS, stream=True)
    held = hold_nano(body, MAX_TOKENS)
    async with AsyncExitStack() as stack:
        for gateway in (capped.gateway, sibling):
            for _ in range(10):
                client = await stack.enter_async_context(Client(gateway.address("api")))
                await client.send(request(body, key=key))
                await client.until(b'"content":"w')
        sibling.kill()
        sibling.start()
        assert books.open_count(capped.gateway) == 10
        assert books.team_cap(capped.gateway) == (10 * held, 10 * held)
        capped.provider.drop_connections()
        await books.until_ended(capped.gateway)
    books.assert_clean(capped.gateway)
