"""What a panel costs a key: one hold, a fixed price, caps and purses; and what it costs who leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest
import yaml

from tests.faults import books
from tests.faults.crowd import Client
from tests.peers.behaviour import Behaviour, Fault
from tests.support.panel_world import Cast, Member, PanelWorld, consensus_file, panel_world
from tests.support.raw import request
from tests.support.world import TEAMS

ORCHESTRATE: Final = "/v1/orchestrate"
CHAT: Final = "/v1/chat/completions"
FAST: Final = 50_000_000
BALANCED: Final = 350_000_000
ID: Final = "x-tollway-request-id"
QUESTION: Final = "What is six times seven?"
BROKEN: Final = Member(roles={"member": Behaviour(status=500)})
HANGING: Final = Behaviour(fault=Fault.HANG_BEFORE_HEAD)
SPEAKING: Final = Behaviour(delay_seconds=0.02, chunks=1000)
APART: Final = {
    "one": Member(),
    "two": Member("It is forty-one.", "41"),
    "three": Member("It is forty.", "40"),
}
"""Members that do not agree, so that somebody has to write the answer."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PanelWorld]:
    """A team with caps on its keys alone, and one that pays in advance."""
    prepaid = {"organisation": "acme", "tier": "standard", "prepaid": "team"}
    teams = {**TEAMS, "teams": {**TEAMS["teams"], "prepaid": prepaid}}
    # Idempotency would keep a stream's pieces; here every run is one of its own.
    with panel_world(
        tmp_path_factory.mktemp("money"), policies={"teams": teams}, config={"reload_seconds": 0.1}
    ) as running:
        yield running
        books.assert_quiet(running.world.gateway)
        books.assert_proven(running.world.gateway)


@pytest.fixture(autouse=True)
def cast(house: PanelWorld) -> Cast:
    house.world.provider.reset()
    house.cast = house.world.provider.answering = Cast({})  # type: ignore[assignment]
    return house.cast


@pytest.fixture(scope="module")
def key(house: PanelWorld) -> str:
    return house.world.gateway.make_key(user="ann")


async def ask(house: PanelWorld, key: str, path: str = ORCHESTRATE, **body: Any) -> httpx.Response:
    asked = {"prompt": QUESTION, "mode": "fast", **body} if path == ORCHESTRATE else body
    async with httpx.AsyncClient(timeout=60) as client:
        return await client.post(house.url + path, headers={"authorization": f"Bearer {key}"}, json=asked)


async def ended(house: PanelWorld, answer: httpx.Response) -> tuple[int, int, int, int, str]:
    """(charged, list, held_charged, held_list, outcome) of its exchange."""
    await books.until_ended(house.world.gateway)
    found: tuple[int, int, int, int, str] = house.hold(answer.headers[ID])
    return found


def spent(house: PanelWorld, scope: str, name: str) -> list[tuple[int, int]]:
    """(spent, held) of every counter of a scope."""
    return house.rows("SELECT spent, held FROM counters WHERE scope = ? AND scope_id = ?", scope, name)


def key_id(house: PanelWorld, user: str) -> str:
    (found,) = house.rows("SELECT DISTINCT key_id FROM holds WHERE user = ?", user)[0]
    return str(found)


# -- one hold


@pytest.mark.parametrize("path", [ORCHESTRATE, CHAT])
async def test_a_run_is_one_hold_of_its_price_and_its_budget(
    house: PanelWorld, key: str, cast: Cast, path: str
) -> None:
    """However many calls it makes, each of which is a row with its role; list is their sum."""
    cast.members = dict(APART)
    body: dict[str, Any] = {"mode": "balanced"}
    if path == CHAT:
        body = {"model": "consensus-balanced", "messages": [{"role": "user", "content": QUESTION}]}
    before = len(books.holds(house.world.gateway))
    answer = await ask(house, key, path, **body)
    assert answer.status_code == 200, answer.text
    charged, listed, held, held_list, outcome = await ended(house, answer)
    assert len(books.holds(house.world.gateway)) == before + 1
    assert (charged, held, held_list, outcome) == (BALANCED, BALANCED, 330_000_000, "served")
    rows = house.attempts(answer.headers[ID])
    assert len(rows) == len(house.world.provider.requests) > 6
    assert sum(cost for *_, cost in rows) == listed
    assert {role.split("/")[0] for role, *_ in rows} >= {"member", "judge", "synthesis"}


@pytest.mark.parametrize(("members", "price", "mode"), [({}, FAST, "fast"), (APART, BALANCED, "balanced")])
async def test_auto_costs_what_it_ended_in(
    house: PanelWorld, key: str, cast: Cast, members: dict[str, Member], price: int, mode: str
) -> None:
    """The dearer one is held."""
    cast.members = dict(members)
    answer = await ask(house, key, mode="auto")
    assert answer.status_code == 200, answer.text
    assert answer.json()["mode"] == mode
    charged, _, held, _, _ = await ended(house, answer)
    assert (charged, held) == (price, BALANCED)
    assert answer.json()["charged_usd"] == ("0.05" if mode == "fast" else "0.35")


# -- caps


async def test_a_cap_counts_the_price_or_the_real_cost(house: PanelWorld, cast: Cast) -> None:
    """As it says: to the nano-dollar."""
    key = house.world.gateway.make_key(user="both", caps=("1/total", "1/day:list"))
    first = await ask(house, key)
    cast.members = {"two": BROKEN, "three": BROKEN, "spare": BROKEN}
    degraded = await ask(house, key)
    cast.members = dict.fromkeys(("one", "two", "three", "spare"), BROKEN)
    failed = await ask(house, key)
    assert [first.status_code, degraded.status_code, failed.status_code] == [200, 200, 503]
    listed = sum([(await ended(house, answer))[1] for answer in (first, degraded, failed)])
    counters = dict(house.rows("SELECT basis, spent FROM counters WHERE scope_id = ?", key_id(house, "both")))
    assert counters == {"charged": FAST + FAST // 2, "list": listed} and listed > 0


async def test_runs_at_once_never_go_over_a_cap(house: PanelWorld, cast: Cast) -> None:
    """Of twelve, the five that fit run; the others are refused before anything is called."""
    key = house.world.gateway.make_key(user="crowd", caps=("0.27/total",))
    slow = Member(roles={"member": Behaviour(head_delay_seconds=0.5)})
    cast.members = dict.fromkeys(("one", "two", "three"), slow)
    answers = await asyncio.gather(*(ask(house, key) for _ in range(12)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200] * 5 + [402] * 7
    assert len(house.world.provider.requests) == 5 * 3
    for refused in (answer for answer in answers if answer.status_code == 402):
        assert refused.json()["error"]["code"] == "quota_exhausted"
        assert "0.05" in refused.text
    await books.until_ended(house.world.gateway)
    assert spent(house, "key", key_id(house, "crowd")) == [(5 * FAST, 0)]


async def test_a_budget_that_a_list_cap_cannot_hold_is_refused(house: PanelWorld) -> None:
    """What is held at list is the mode's budget, whatever the run will cost."""
    key = house.world.gateway.make_key(user="small", caps=("0.04/total:list",))
    answer = await ask(house, key)
    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "quota_exhausted")
    assert house.world.provider.requests == []


# -- a purse


def fill(house: PanelWorld, usd: str) -> None:
    house.world.gateway.cli("credit", "grant", usd, "--team", "prepaid")


def purse(house: PanelWorld) -> tuple[int, int]:
    (row,) = house.rows("SELECT granted - spent, held FROM purses WHERE scope_id = 'prepaid'")
    return row


async def test_a_purse_pays_the_price_and_is_refused_what_it_lacks(house: PanelWorld, cast: Cast) -> None:
    """402 says what is missing before any call; degraded takes a part, a failed run nothing."""
    key = house.world.gateway.make_key(team="prepaid", user="purse")
    empty = await ask(house, key)
    assert (empty.status_code, empty.json()["error"]["code"]) == (402, "quota_exhausted")
    fill(house, "0.12")
    assert (await ask(house, key)).status_code == 200
    await books.until_ended(house.world.gateway)
    assert purse(house) == (70_000_000, 0)
    calls = len(house.world.provider.requests)
    refused = await ask(house, key, mode="balanced")
    assert refused.status_code == 402 and len(house.world.provider.requests) == calls
    told = refused.json()["error"]["balance"]
    assert (told["left_usd"], told["needed_usd"]) == ("0.07", "0.35")
    cast.members = {"two": BROKEN, "three": BROKEN, "spare": BROKEN}
    assert (await ask(house, key)).json()["degraded"] is True
    await books.until_ended(house.world.gateway)
    assert purse(house) == (45_000_000, 0)
    refused = await ask(house, key)
    assert refused.status_code == 402
    fill(house, "0.05")
    cast.members = dict.fromkeys(("one", "two", "three", "spare"), BROKEN)
    for stream in (False, True):
        await ask(house, key, stream=stream)
    await books.until_ended(house.world.gateway)
    assert purse(house) == (95_000_000, 0)


# -- who leaves


async def leave(house: PanelWorld, key: str, until: Any, body: dict[str, Any] | None = None) -> None:
    """Ask, wait until it holds, be gone; every call has to be cut within a second."""
    provider = house.world.provider
    async with Client(house.world.gateway.address("api")) as client:
        await client.send(request({"prompt": QUESTION, "mode": "fast", **(body or {})}, key=key, path=ORCHESTRATE))
        await until(client)
        client.leave()
        await provider.until(lambda: all(one.cut or one.answered for one in provider.requests), 1.0)
    await books.until_ended(house.world.gateway)


def newest(house: PanelWorld) -> tuple[int, int, int, str]:
    (row,) = house.rows("SELECT charged, list, held_list, outcome FROM holds ORDER BY id DESC LIMIT 1")
    return row


def speaking(house: PanelWorld, count: int) -> Any:
    """So many calls have begun to answer."""

    async def holds(_: Client) -> None:
        def begun() -> bool:
            return len([one for one in house.world.provider.requests if one.pieces_sent > 3]) >= count

        await house.world.provider.until(begun)

    return holds


@pytest.mark.parametrize("stream", [False, True])
async def test_who_leaves_before_the_answer_pays_what_the_calls_had_cost(
    house: PanelWorld, key: str, cast: Cast, stream: bool
) -> None:
    """Counted, not the most that they could have cost."""
    cast.members = dict.fromkeys(("one", "two", "three"), Member(roles={"member": SPEAKING}))
    await leave(house, key, speaking(house, 3), {"stream": stream})
    charged, listed, _, outcome = newest(house)
    assert outcome == "client_gone" and 0 < charged == listed < FAST // 10


async def test_who_leaves_after_the_first_token_pays_the_price(house: PanelWorld, key: str, cast: Cast) -> None:
    """The answer had begun; the synthesiser's call is cut as well."""
    cast.members = {**APART, "one": Member(roles={"synthesise": SPEAKING})}

    async def token(client: Client) -> None:
        await client.until(b"event: token", 3)

    await leave(house, key, token, {"stream": True})
    charged, listed, _, outcome = newest(house)
    assert outcome == "client_gone" and charged == FAST > listed > 0


async def test_who_leaves_while_the_answer_is_written_pays_what_was_counted(
    house: PanelWorld, key: str, cast: Cast
) -> None:
    """A client that reads nothing any more and then leaves: the driver hangs in its write, and the calls are still
    counted before the hold ends."""
    flood = " ".join(["forty-two"] * 300_000)
    cast.members = {**APART, "one": Member(written=flood)}
    cast.members["one"].roles["synthesise"] = Behaviour(text=flood, fault=Fault.HANG_BEFORE_END)
    provider = house.world.provider
    async with Client(house.world.gateway.address("api")) as client:
        body = {"prompt": QUESTION, "mode": "fast", "stream": True}
        await client.send(request(body, key=key, path=ORCHESTRATE))
        await client.until(b"event: token")
        await asyncio.sleep(0.5)  # Until nothing more fits between us: nobody outside can see that.
        client.leave()
        await provider.until(lambda: all(one.cut or one.answered for one in provider.requests), 1.5)
    await books.until_ended(house.world.gateway)
    charged, listed, held_list, outcome = newest(house)
    assert (charged, outcome) == (FAST, "client_gone") and 0 < listed < held_list
    last = house.rows("SELECT role, counted, list_cost FROM attempts ORDER BY hold_id DESC, number DESC LIMIT 1")
    assert last[0][0].startswith("synthesis") and last[0][1] == 1


# -- a changed file


async def test_a_running_run_keeps_the_prices_that_it_began_with(house: PanelWorld, key: str, cast: Cast) -> None:
    """The next one has the new: price, budget, degraded share and credits."""
    gateway, provider = house.world.gateway, house.world.provider
    slow = Member(roles={"member": Behaviour(head_delay_seconds=1.5)})
    cast.members = dict.fromkeys(("one", "two", "three"), slow)
    path = gateway.folder / "policies" / "consensus.yaml"
    old = path.read_text()
    changed = consensus_file(fast={"price": {"usd": 0.07, "credits": 2}, "budget_usd": 0.06})
    async with asyncio.TaskGroup() as group:
        running = group.create_task(ask(house, key))
        await provider.until(lambda: len(provider.requests) == 3)
        path.write_text(yaml.safe_dump(changed, sort_keys=False))
        await books.until(lambda: gateway.log().count('"reloaded"') + gateway.log().count("reloaded") > 0, "no reload")
    first = running.result()
    assert (first.json()["charged_usd"], first.json()["credits_charged"]) == ("0.05", 1)
    assert (await ended(house, first))[::2][:2] == (FAST, FAST)
    cast.members = {}
    try:
        second = await ask(house, key)
        assert (second.json()["charged_usd"], second.json()["credits_charged"]) == ("0.07", 2)
        charged, _, held, held_list, _ = await ended(house, second)
        assert (charged, held, held_list) == (70_000_000, 70_000_000, 60_000_000)
    finally:
        path.write_text(old)
        count = gateway.log().count("reloaded")
        await books.until(lambda: gateway.log().count("reloaded") > count, "no reload back")
