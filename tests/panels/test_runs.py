"""Panels of a whole proxy: real sockets, a scripted provider, the ledger's own rows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults import books
from tests.peers.behaviour import Behaviour, Fault
from tests.support.panel_world import Cast, Member, PanelWorld, panel_world

PRICES = {"fast": 50_000_000, "balanced": 350_000_000, "deep": 4_500_000_000}
ID = "x-tollway-request-id"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PanelWorld]:
    with panel_world(tmp_path_factory.mktemp("panels")) as running:
        yield running


@pytest.fixture(scope="module")
def key(house: PanelWorld) -> str:
    return house.world.gateway.make_key(user="ann")


@pytest.fixture(autouse=True)
def cast(house: PanelWorld) -> Cast:
    house.world.provider.reset()
    house.cast = Cast({})
    house.world.provider.answering = house.cast
    return house.cast


async def ask(house: PanelWorld, key: str, **body: Any) -> httpx.Response:
    async with httpx.AsyncClient(timeout=60) as client:
        return await client.post(
            f"{house.url}/v1/orchestrate",
            headers={"authorization": f"Bearer {key}"},
            json={"prompt": "What is six times seven?", **body},
        )


async def settled(house: PanelWorld, request_id: str) -> Any:
    await books.until_ended(house.world.gateway)
    return house.hold(request_id)


async def test_members_that_agree_answer_without_a_synthesis(house: PanelWorld, key: str) -> None:
    """Three calls; each is a row with its role; the price is charged, the real cost beside it under the budget."""
    answer = await ask(house, key, mode="fast")
    assert answer.status_code == 200, answer.text
    result = answer.json()
    assert (result["answer"], result["source"], result["mode"]) == ("It is forty-two.", "typed_agreement", "fast")
    assert (result["agreement"], result["degraded"], result["dissent"]) == (1.0, False, [])
    charged, listed, held, held_list, outcome = await settled(house, answer.headers[ID])
    assert (charged, held, outcome) == (PRICES["fast"], PRICES["fast"], "served")
    rows = house.attempts(answer.headers[ID])
    assert sorted(role for role, *_ in rows) == ["member/0/one", "member/0/three", "member/0/two"]
    assert sum(cost for *_, cost in rows) == listed < held_list
    assert result["usage"]["total_tokens"] == sum(
        one["prompt_tokens"] + one["completion_tokens"] for one in result["usage"]["calls"]
    )


async def test_members_that_disagree_are_judged_refined_and_written_together(
    house: PanelWorld, key: str, cast: Cast
) -> None:
    """Balanced: answers, ballots, one refinement, a synthesis. Dissent is shown."""
    cast.members = {
        "one": Member(like="forty-two"),
        "two": Member("It is forty-one.", "41", like="forty-two"),
        "three": Member("It is forty.", "40", like="forty-two"),
    }
    answer = await ask(house, key, mode="balanced")
    assert answer.status_code == 200, answer.text
    result = answer.json()
    roles = [role for role, *_ in house.attempts(answer.headers[ID])]
    assert {role.split("/")[0] for role in roles} >= {"member", "judge", "synthesis"}
    assert (result["answer"], result["source"]) == ("After all: forty-two.", "synthesis")
    assert result["dissent"] and result["quality"]["basis"] == "judges"
    charged, listed, _, held_list, _ = await settled(house, answer.headers[ID])
    assert charged == PRICES["balanced"] and 0 < listed < held_list


async def test_deep_runs_with_five_members(house: PanelWorld, key: str, cast: Cast) -> None:
    """Within the calls that the mode may make."""
    cast.members = {
        name: Member(f"It is {number}.", str(number), "open", (f"The product is {number}.",), verdict="contradicted")
        for name, number in zip(("one", "two", "three", "four", "five"), (42, 41, 40, 39, 38), strict=True)
    }
    answer = await ask(house, key, mode="deep")
    assert answer.status_code == 200, answer.text
    roles = [role.split("/")[0] for role, *_ in house.attempts(answer.headers[ID])]
    assert 11 <= len(roles) <= 36
    assert roles.count("member") == 5 and roles.count("synthesis") == 1
    charged, *_ = await settled(house, answer.headers[ID])
    assert charged == PRICES["deep"]


async def test_the_stream_says_what_the_whole_answer_says(house: PanelWorld, key: str, cast: Cast) -> None:
    """Named events in order; the tokens are the answer; `done` is the result."""
    cast.members = {"two": Member("Forty-one.", "41"), "three": Member("Forty.", "40")}
    answer = await ask(house, key, mode="fast", stream=True)
    events = [
        (block.split("\n")[0][7:], json.loads(block.split("data: ", 1)[1]))
        for block in answer.text.split("\n\n")
        if block.startswith("event: ")
    ]
    names = [name for name, _ in events]
    assert names[0] == "accepted" and names[-1] == "done" and "synthesis.started" in names
    assert [data["seq"] for _, data in events] == list(range(len(events)))
    result = events[-1][1]["result"]
    assert "".join(data["text"] for name, data in events if name == "token") == result["answer"]


async def test_too_few_members_are_a_degraded_answer_at_a_part_of_the_price(
    house: PanelWorld, key: str, cast: Cast
) -> None:
    """One survivor is returned as it is."""
    broken = Member(roles={"member": Behaviour(status=500)})
    cast.members = {"two": broken, "three": broken, "spare": broken}
    answer = await ask(house, key, mode="fast")
    assert answer.status_code == 200, answer.text
    result = answer.json()
    assert (result["degraded"], result["source"]) == (True, "sole_survivor")
    charged, *_ = await settled(house, answer.headers[ID])
    assert charged == PRICES["fast"] // 2


@pytest.mark.parametrize("stream", [False, True])
async def test_a_run_without_any_answer_returns_the_charge(
    house: PanelWorld, key: str, cast: Cast, stream: bool
) -> None:
    """503 with a reason for each member, or an error event; nothing is charged."""
    cast.members = dict.fromkeys(("one", "two", "three", "spare"), Member(roles={"member": Behaviour(status=500)}))
    answer = await ask(house, key, mode="fast", stream=stream)
    if stream:
        assert "event: error" in answer.text and "event: done" not in answer.text
    else:
        assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
    charged, *_ = await settled(house, answer.headers[ID])
    assert charged == 0


async def test_a_client_that_leaves_cancels_every_call(house: PanelWorld, key: str, cast: Cast) -> None:
    """Within a second, on every connection; it pays what the calls had cost, at most the price."""
    hanging = Member(roles={"member": Behaviour(delay_seconds=0.2, chunks=500)})
    cast.members = dict.fromkeys(("one", "two", "three"), hanging)
    provider = house.world.provider

    async def leave() -> None:
        async with (
            httpx.AsyncClient(timeout=60) as client,
            client.stream(
                "POST",
                f"{house.url}/v1/orchestrate",
                headers={"authorization": f"Bearer {key}"},
                json={"prompt": "What is six times seven?", "mode": "fast", "stream": True},
            ),
        ):
            await provider.until(
                lambda: len(provider.requests) == 3 and all(r.pieces_sent > 2 for r in provider.requests)
            )

    await leave()
    await provider.until(lambda: all(seen.cut for seen in provider.requests), 1.0)
    await books.until_ended(house.world.gateway)
    charged, listed, held, _, outcome = house.rows(
        "SELECT charged, list, held_charged, held_list, outcome FROM holds ORDER BY id DESC LIMIT 1"
    )[0]
    assert outcome == "client_gone" and 0 < charged == listed < held


async def test_the_caller_waits_on_a_silent_panel_with_heartbeats(house: PanelWorld, key: str, cast: Cast) -> None:
    """The longest gap between bytes is the heartbeat's interval and a second."""
    slow = Member(roles={"member": Behaviour(head_delay_seconds=2.6)})
    cast.members = dict.fromkeys(("one", "two", "three"), slow)
    gaps, last = [], None
    loop = asyncio.get_running_loop()
    async with (
        httpx.AsyncClient(timeout=60) as client,
        client.stream(
            "POST",
            f"{house.url}/v1/chat/completions",
            headers={"authorization": f"Bearer {key}"},
            json={"model": "consensus-fast", "messages": [{"role": "user", "content": "?"}], "stream": True},
        ) as answer,
    ):
        async for _ in answer.aiter_raw():
            now = loop.time()
            gaps.append(0.0 if last is None else now - last)
            last = now
    assert max(gaps) <= 1 + 1
    assert len(gaps) >= 3


async def test_one_member_that_hangs_delays_nobody(house: PanelWorld, key: str, cast: Cast) -> None:
    """The others go on after the grace; the late one is cancelled and reported."""
    cast.members = {"three": Member(roles={"member": Behaviour(fault=Fault.HANG_BEFORE_HEAD)})}
    answer = await ask(house, key, mode="fast")
    assert answer.status_code == 200
    late = [member for member in answer.json()["members"] if member["model"] == "three"]
    assert late[0]["status"] in ("late", "replaced")
    await books.until_ended(house.world.gateway)
    outcomes = {model: outcome for _, model, outcome, _ in house.attempts(answer.headers[ID])}
    assert outcomes["three"] == "running"


async def test_a_panel_within_a_panel_is_refused(house: PanelWorld, key: str) -> None:
    """By the header that every call of a panel has."""
    async with httpx.AsyncClient() as client:
        answer = await client.post(
            f"{house.url}/v1/orchestrate",
            headers={"authorization": f"Bearer {key}", "x-tollway-panel-depth": "1"},
            json={"prompt": "?", "mode": "fast"},
        )
    assert answer.status_code == 400 and "panel" in answer.json()["error"]["message"]
    assert house.world.provider.requests == []


async def test_members_see_nothing_of_the_clients_headers(house: PanelWorld, key: str) -> None:
    """An Idempotency-Key chosen by the client, above all: it would make the members' calls one."""
    async with httpx.AsyncClient() as client:
        await client.post(
            f"{house.url}/v1/orchestrate",
            headers={"authorization": f"Bearer {key}", "idempotency-key": "mine", "openai-beta": "x"},
            json={"prompt": "headers?", "mode": "fast"},
        )
    for seen in house.world.provider.requests:
        assert seen.header("idempotency-key") is None and seen.header("openai-beta") is None
        assert seen.header("x-tollway-panel-depth") == "1"


def test_the_books_are_clean(house: PanelWorld, tmp_path: Path) -> None:
    """After all of it."""
    books.assert_clean(house.world.gateway)
