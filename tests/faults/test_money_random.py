"""Money under everything at once: faults, hedges, twins and clients that leave, and every sum holds afterwards."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from proxy.ledger.books import State
from proxy.usage import TOKENS_MAX
from tests.faults import books
from tests.faults.crowd import Client, chat
from tests.peers.behaviour import Behaviour, Fault, Usage
from tests.peers.provider import ScriptedProvider
from tests.support.raw import Answer, request
from tests.support.world import CHAIN, MODELS, ROUTING, World, world

EXCHANGES: Final = 360
AT_ONCE: Final = 12
SEED: Final = 20_261_121
DEADLINES: Final = {"connect_seconds": 1, "first_byte_seconds": 0.5, "idle_seconds": 0.5, "total_seconds": 5}
TEXT: Final = "one two three four five six seven eight nine ten"
LANE_NANO: Final = 3_000
INPUT_NANO, OUTPUT_NANO = 2_500, 10_000
GRANT_USD: Final = "1000"
FAULTS: Final = [
    Fault.HANG_BEFORE_HEAD, Fault.HANG_AFTER_HEAD, Fault.HANG_MID, Fault.HANG_BEFORE_END, Fault.CLOSE_BEFORE_HEAD,
    Fault.RESET_BEFORE_HEAD, Fault.RESET_MID, Fault.HALF_CLOSE_MID, Fault.GARBAGE, Fault.GARBAGE_MID, Fault.GZIP,
    Fault.ERROR_EVENT_FIRST, Fault.ERROR_EVENT_MID, Fault.WRONG_TYPE, Fault.CLOSE_AFTER, Fault.NO_FRAMING,
    Fault.TRAILING_DATA,
]  # fmt: skip
ODD_USAGE: Final[list[Usage | dict[str, int] | None]] = [
    Usage.MISSING,
    None,
    {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    {"prompt_tokens": -5, "completion_tokens": -9, "total_tokens": -14},
    {"prompt_tokens": 1 << 40, "completion_tokens": 1 << 50, "total_tokens": 1 << 51},
]
ALARMS: Final = [word for word in books.LOST if word != "ledger_overage"] + ["closing_failed", "Traceback"]


@dataclass(slots=True)
class Told:
    """What one client saw."""

    model: str
    words: int
    choices: int
    left: bool = False
    user: str = ""
    answer: Answer | None = None


@dataclass(slots=True)
class Scene:
    """A prepaid team's proxy with a hedging lane over two providers, and what its clients saw."""

    world: World
    first: ScriptedProvider
    second: ScriptedProvider
    keys: list[str]
    told: list[Told] = field(default_factory=list)

    @property
    def providers(self) -> list[ScriptedProvider]:
        """All that calls go to."""
        return [self.first, self.second, self.world.provider]


def one(upstream: str, price: str) -> dict[str, Any]:
    return {"candidates": [upstream], "price": {"input": price, "output": price}, "context": 128_000}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Dedup is on, half of the slow calls are hedged, and no circuit opens."""
    models = {
        "gpt-4o": MODELS["gpt-4o"],
        "first-model": one("first", "1"),
        "second-model": one("second", "2"),
        "lane": {
            "lane": ["first-model", "second-model"],
            "price": {"input": "3", "output": "3"},
            "strategy": "priority",
            "sticky": False,
            "hedge": True,
        },
    }
    caps = [{"usd": 2000, "window": "total"}, {"usd": 2000, "window": "total", "basis": "list"}]
    team = {"organisation": "acme", "tier": "standard", "prepaid": "team", "caps": caps}
    routing = {"routing": {**ROUTING, "hedge_samples_min": 20, "hedge_percent_max": 50}}
    chain: list[Any] = [routing if isinstance(entry, dict) else entry for entry in CHAIN]
    chain.insert(chain.index("cost_preview"), "dedup")
    with ScriptedProvider() as first, ScriptedProvider() as second:
        more = {
            name: {"base_url": f"{provider.url}/v1", "key": "${OPENAI_API_KEY}", "deadlines": DEADLINES}
            for name, provider in (("first", first), ("second", second))
        }
        with world(
            tmp_path,
            config={"chain": chain, "drain_client_gone_seconds": 1},
            policies={
                "models": {"models": models},
                "teams": {"organisations": {"acme": {}}, "teams": {"default": team}},
            },
            more_upstreams=more,
            deadlines=DEADLINES,
        ) as running:
            running.gateway.cli("credit", "grant", GRANT_USD, "--team", "default", "--note", "all", "--id", "all")
            yield Scene(running, first, second, [books.make_key(running.gateway, user=f"u{n % 2}") for n in range(4)])


def behaviour(dice: random.Random) -> Behaviour:
    """Mostly well, now and then not at all."""
    throw = dice.random()
    pause = dice.choice([0, 0.01])
    if throw < 0.55:
        return Behaviour(text=TEXT, head_delay_seconds=dice.choice([0, 0, 0, 0.05]), delay_seconds=pause)
    if throw < 0.8:
        return Behaviour(text=TEXT, fault=dice.choice(FAULTS), after_chunks=dice.randrange(5))
    if throw < 0.9:
        return Behaviour(text=TEXT, usage=dice.choice(ODD_USAGE))
    if throw < 0.95:
        return Behaviour(body=b'{"error":{"message":"no"}}')
    return Behaviour(status=dice.choice([400, 429, 500, 503]))


async def client(scene: Scene, dice: random.Random, count: int) -> None:
    """One after the other, by any of the keys; some leave, most of those with a key of their own to be found by."""
    for _ in range(count):
        stream, words, choices = dice.random() < 0.5, dice.randrange(1, 6), dice.choice([1, 1, 1, 2])
        model = dice.choice(["lane", "lane", "gpt-4o"])
        body = chat(model, prompt=" ".join(["hello"] * words), stream=stream, max_tokens=20, n=choices)
        told = Told(model, words, choices, left=dice.random() < 0.35)
        key = dice.choice(scene.keys)
        if told.left and dice.random() < 0.7:
            told.user = f"leaver-{len(scene.told)}"
            key = books.make_key(scene.world.gateway, user=told.user)
        scene.told.append(told)
        async with Client(scene.world.gateway.address("api")) as connection:
            await connection.send(request(body, key=key, headers=(f"user-agent: {told.user or 'crowd'}",)))
            if not told.left:
                told.answer = await connection.answer()
                continue
            if dice.random() < 0.5:
                await connection.head()
            else:
                await asyncio.sleep(dice.random() * 0.03)
            connection.leave()


async def test_every_sum_holds_after_everything_at_once(scene: Scene) -> None:
    """No hold stays open, the audit is clean, and a purse has paid exactly what its exchanges say.

    What a client got whole was charged by what the provider reported; what it got from memory or could not get at
    all was not.
    """
    dice = random.Random(SEED)
    warm = chat("lane", max_tokens=20, prompt="warm")
    async with Client(scene.world.gateway.address("api")) as connection:
        for _ in range(21):
            assert (await connection.ask(request(warm, key=scene.keys[0], headers=("x-no-cache: 1",)))).status == 200
    for provider in scene.providers:
        provider.script(*[behaviour(dice) for _ in range(2 * EXCHANGES)])
    dices = [random.Random(dice.random()) for _ in range(AT_ONCE)]
    await asyncio.gather(*[client(scene, own, EXCHANGES // AT_ONCE) for own in dices])
    gateway = scene.world.gateway
    await books.until_ended(gateway)
    books.assert_clean(gateway)
    ((granted, spent, held),) = books.rows(gateway, "SELECT granted, spent, held FROM purses")
    ((paid, above),) = books.rows(gateway, "SELECT sum(paid), sum(paid > min(charged, held_charged)) FROM holds")
    assert (spent, held, above) == (paid, 0, 0)
    assert 0 < spent < granted
    found = Counter((check_left if told.answer is None else check_answered)(scene, told) for told in scene.told)
    for wanted in ("charged", "counted", "from memory", "left, charged"):
        assert found[wanted], found
    log = gateway.log()
    for word in (
        "Traceback",
        "finish_failed",
        "exchange_failed",
        "closing_failed",
        "ledger_double_end",
        "ledger_end_lost",
    ):
        assert word not in log, log[-4000:]


def attempts(scene: Scene, hold_id: int) -> list[Any]:
    query = "SELECT outcome, counted, output_tokens FROM attempts WHERE hold_id = ? ORDER BY number"
    return books.rows(scene.world.gateway, query, hold_id)


def check_answered(scene: Scene, told: Told) -> str:
    """What became of an exchange whose client read its answer to the end."""
    answer = told.answer
    assert answer is not None
    holds = books.rows(
        scene.world.gateway,
        "SELECT id, charged, paid, held_charged FROM holds WHERE exchange_id = ?",
        answer.headers["x-tollway-request-id"],
    )
    if answer.headers.get("x-dedup") == "hit":
        assert holds == []
        return "from memory"
    ((hold_id, charged, paid, held),) = holds
    tries = attempts(scene, hold_id)
    served = [row for row in tries if row[0] == "served"]
    if answer.status != 200:
        assert (charged, paid, served) == (0, 0, []), answer.body
        return "refused"
    ((_, counted, output),) = served
    assert 0 < paid <= held
    if output >= TOKENS_MAX:
        assert charged == held
        return "held in full"
    assert charged == paid
    if counted:
        return "counted"
    into, out = (LANE_NANO, LANE_NANO) if told.model == "lane" else (INPUT_NANO, OUTPUT_NANO)
    assert charged == told.words * into + told.choices * len(TEXT.split()) * out
    return "charged"


def check_left(scene: Scene, told: Told) -> str:
    """What became of an exchange whose client left: what reached a provider and was not a failure is charged."""
    if not told.user:
        return "left"
    reached = any(s.header("user-agent") == told.user for provider in scene.providers for s in provider.requests)
    holds = books.rows(
        scene.world.gateway, "SELECT id, state, charged, paid, held_charged FROM holds WHERE user = ?", told.user
    )
    if not holds:
        assert not reached
        return "left early"
    ((hold_id, state, charged, paid, held),) = holds
    if state == State.RELEASED:
        assert not reached
        return "left early"
    worked = any(outcome in ("served", "running") for outcome, _, _ in attempts(scene, hold_id))
    assert reached or not worked
    assert (charged > 0, paid > 0) == (worked, worked)
    assert paid <= min(charged, held)
    return "left, charged" if worked else "left, failed"
