"""An Idempotency-Key on a panel: one run, told again to the byte."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.faults import books
from tests.peers.behaviour import Behaviour
from tests.support.panel_clients import ID, post
from tests.support.panel_world import (
    Cast,
    Member,
    PanelWorld,
    events_of,
)

USER = {"role": "user", "content": "?"}


@pytest.fixture(autouse=True)
def staged(cast: Cast) -> Cast:
    return cast


async def test_twenty_at_once_with_one_key_are_one_run(house: PanelWorld, key: str, cast: Cast) -> None:
    """Who comes while it runs gets 409; afterwards the answer, byte for byte; another body 422."""
    slow = Member(roles={"member": Behaviour(head_delay_seconds=0.5)})
    cast.members = dict.fromkeys(("one", "two", "three"), slow)
    body = {"prompt": "What is six times seven?", "mode": "fast"}
    marked = {"idempotency-key": "race-whole"}
    answers = await asyncio.gather(*[post(house, key, "orchestrate", body, **marked) for _ in range(20)])
    assert Counter(one.status_code for one in answers) == {200: 1, 409: 19}
    assert len(house.world.provider.requests) == 3
    (first,) = [one for one in answers if one.status_code == 200]
    busy = next(one for one in answers if one.status_code == 409).json()["error"]
    assert busy["code"] == "conflict" and "again" in busy["message"]
    again = await post(house, key, "orchestrate", body, **marked)
    assert (again.status_code, again.content) == (200, first.content)
    other = await post(house, key, "orchestrate", {**body, "prompt": "?"}, **marked)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_mismatch")
    assert len(house.world.provider.requests) == 3
    await books.until_ended(house.world.gateway)
    assert house.rows("SELECT count(*) FROM holds WHERE exchange_id = ?", again.headers[ID]) in ([(0,)], [(1,)])


async def test_a_stream_is_told_again_byte_for_byte(house: PanelWorld, key: str, cast: Cast) -> None:
    """Once it has come to its end; a race of streams is one run, too."""
    slow = Member(roles={"member": Behaviour(head_delay_seconds=0.5)})
    cast.members = dict.fromkeys(("one", "two", "three"), slow)
    body = {"model": "consensus-fast", "messages": [USER], "stream": True}
    marked = {"idempotency-key": "race-stream"}
    answers = await asyncio.gather(*[post(house, key, "chat/completions", body, **marked) for _ in range(20)])
    assert Counter(one.status_code for one in answers) == {200: 1, 409: 19}
    (first,) = [one for one in answers if one.status_code == 200]
    again = await post(house, key, "chat/completions", body, **marked)
    assert [line for line in again.text.splitlines() if line.startswith("data")] == [
        line for line in first.text.splitlines() if line.startswith("data")
    ]
    assert len(house.world.provider.requests) == 3


async def test_a_failed_run_leaves_its_key_free(house: PanelWorld, key: str, cast: Cast) -> None:
    """The next one with it runs."""
    cast.members = dict.fromkeys(("one", "two", "three", "spare"), Member(roles={"member": Behaviour(status=500)}))
    marked = {"idempotency-key": "failed-first"}
    body = {"prompt": "What is six times seven?", "mode": "fast", "stream": True}
    failed = await post(house, key, "orchestrate", body, **marked)
    assert events_of(failed.text)[-1][0] == "error"
    cast.members = {}
    answer = await post(house, key, "orchestrate", body, **marked)
    assert events_of(answer.text)[-1][0] == "done"
