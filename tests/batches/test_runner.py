"""How batches are worked off."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.batches import store
from proxy.batches.api import BatchReport, BatchRules, ItemState
from proxy.batches.service import Batches
from proxy.clock import SystemClock
from proxy.errors import Refusal
from proxy.headers import Headers
from proxy.idempotency.api import asked
from proxy.identities import Identity
from proxy.inward import InwardAnswer, InwardCut
from proxy.ledger.boots import boots_folder
from tests.support.fakes import Log, identity

OWNER = "key_1"
QUICK = BatchRules(retry_seconds_max=0.01, tries_max=2, retries_max=3)
Answering = Callable[[str, str], Awaitable[InwardAnswer]]


class Exchanges:
    """Stands for `proxy.inward.Inward`: answers by prompt and owner, and remembers who asked for what."""

    def __init__(self, answering: Answering | None = None) -> None:
        self.asked: list[tuple[str, str]] = []
        self.keys: list[str] = []
        self.running = self.most = 0
        self.gone: set[str] = set()
        self._answering = answering or served

    async def stands(self) -> None:
        """At once."""

    def identity(self, key_id: str) -> Identity:
        if key_id in self.gone:
            raise Refusal("invalid_api_key", "revoked")
        return identity(key_id=key_id)

    async def run(
        self, method: str, path: str, body: bytes, who: Identity, headers: Any = (), *, peer: str = ""
    ) -> InwardAnswer:
        prompt = orjson.loads(body)["prompt"]
        assert (method, path, peer) == ("POST", "/v1/orchestrate", "192.0.2.1")
        self.asked.append((who.key_id, prompt))
        self.keys.append(dict(headers)["idempotency-key"])
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self._answering(who.key_id, prompt)
        finally:
            self.running -= 1


class Told:
    """Stands for `services.webhooks`."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str | None, str, dict[str, Any], str | None]] = []

    async def enqueue(
        self, owner: str, url: str | None, type: str, payload: Any, *, event_id: str | None = None
    ) -> str:
        self.events.append((owner, url, type, payload, event_id))
        return event_id or ""


async def served(_: str, prompt: str) -> InwardAnswer:
    await asyncio.sleep(0)
    return InwardAnswer(200, Headers(), orjson.dumps({"answer": prompt}))


def refusing(code: str, *, after: float | None = None, times: int = 1_000_000) -> Answering:
    """Refuses so many times, then serves."""
    left = times

    async def answer(owner: str, prompt: str) -> InwardAnswer:
        nonlocal left
        left -= 1
        if left < 0:
            return await served(owner, prompt)
        refusal = Refusal(code, "CANARY-WORDS", retry_after_seconds=after)
        return InwardAnswer(refusal.status, Headers(refusal.wire_headers()), refusal.envelope())

    return answer


async def hanging(_: str, __: str) -> InwardAnswer:
    await asyncio.Event().wait()
    raise AssertionError


class House:
    """Batches on a folder, with what they ask and tell."""

    def __init__(self, folder: Path, answering: Answering | None = None) -> None:
        self.exchanges, self.told, self.log = Exchanges(answering), Told(), Log()
        self.batches = Batches(
            folder, self.exchanges, self.told, SystemClock(), self.log  # type: ignore[arg-type]
        )  # fmt: skip

    async def add(self, *prompts: str, owner: str = OWNER, **options: Any) -> BatchReport:
        bodies = tuple(orjson.dumps({"prompt": prompt}) for prompt in prompts)
        fields: dict[str, Any] = {"peer": "192.0.2.1", "webhook_url": None, **options}
        return await self.batches.add(owner, bodies, **fields)

    async def report(self, batch: str, owner: str = OWNER) -> BatchReport:
        found = await self.batches.report(owner, batch)
        assert found is not None
        return found

    async def ended(self, batch: str, owner: str = OWNER) -> BatchReport:
        return await self.until(batch, lambda one: one.ended_ms is not None, owner)

    async def until(self, batch: str, done: Callable[[BatchReport], bool], owner: str = OWNER) -> BatchReport:
        deadline = time.monotonic() + 20
        while not done(found := await self.report(batch, owner)):
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.005)
        return found


@contextlib.asynccontextmanager
async def house(
    folder: Path, answering: Answering | None = None, *, rules: BatchRules = QUICK, at_once_max: int = 4
) -> AsyncIterator[House]:
    made = House(folder, answering)
    await made.batches.start(rules, lambda: at_once_max)
    try:
        yield made
    finally:
        await made.batches.stop()


async def test_prompts_are_answered_in_their_places(tmp_path: Path) -> None:
    """Each under an Idempotency-Key of its own; the owner is told once it is done."""
    async with house(tmp_path) as at:
        made = await at.add("a", "b", "c", webhook_url="https://hooks.example.com/")
        assert (made.status, made.counts["queued"]) == ("queued", 3)
        done = await at.ended(made.id)
        await at.until(made.id, lambda _: bool(at.told.events))
    assert done.status == "completed"
    assert [orjson.loads(item.outcome)["answer"] for item in done.items] == ["a", "b", "c"]
    assert sorted(at.exchanges.keys) == [f"{made.id}-{number}" for number in range(3)]
    ((owner, url, kind, payload, event_id),) = at.told.events
    assert (owner, url, kind) == (OWNER, "https://hooks.example.com/", "batch.completed")
    assert (payload["id"], payload["counts"]["completed"], event_id) == (made.id, 3, f"evt_{made.id}")


async def test_no_more_run_at_once_than_may(tmp_path: Path) -> None:
    """Over all batches of the process."""

    async def slow(owner: str, prompt: str) -> InwardAnswer:
        await asyncio.sleep(0.01)
        return await served(owner, prompt)

    async with house(tmp_path, slow, at_once_max=3) as at:
        batches = [await at.add(*"abcdef") for _ in range(2)]
        for one in batches:
            await at.ended(one.id)
    assert at.exchanges.most == 3


async def test_owners_take_turns_whoever_came_first(tmp_path: Path) -> None:
    """A single prompt does not wait for somebody's three batches of twenty."""
    async with house(tmp_path, at_once_max=1) as at:
        for _ in range(3):
            last = await at.add(*[f"first {number}" for number in range(20)], owner="key_first")
        small = await at.add("second", owner="key_second")
        await at.ended(small.id, "key_second")
        await at.ended(last.id, "key_first")
    place = at.exchanges.asked.index(("key_second", "second"))
    assert place < 25


async def test_refused_prompt_fails_alone(tmp_path: Path) -> None:
    """Its error stands in its place; a batch of which every prompt failed has failed."""

    async def some(owner: str, prompt: str) -> InwardAnswer:
        return await (refusing("quota_exhausted") if prompt == "bad" else served)(owner, prompt)

    async with house(tmp_path, some) as at:
        mixed = await at.ended((await at.add("good", "bad")).id)
        lost = await at.ended((await at.add("bad")).id)
    assert (mixed.status, lost.status) == ("completed", "failed")
    error = orjson.loads(mixed.items[1].outcome)
    assert (mixed.items[1].state, error["code"]) == (ItemState.FAILED, "quota_exhausted")
    assert len(at.exchanges.asked) == 3


@pytest.mark.parametrize(("code", "after"), [("rate_limited", 1), ("upstream_unavailable", 1), ("conflict", 1)])
async def test_prompt_that_is_told_to_come_later_comes_later(tmp_path: Path, code: str, after: float) -> None:
    """A bounded number of times."""
    async with house(tmp_path, refusing(code, after=after, times=2)) as at:
        done = await at.ended((await at.add("a")).id)
    assert (done.status, len(at.exchanges.asked)) == ("completed", 3)


async def test_prompt_that_is_always_told_to_come_later_fails(tmp_path: Path) -> None:
    """With the last refusal."""
    async with house(tmp_path, refusing("rate_limited", after=1)) as at:
        done = await at.ended((await at.add("a")).id)
    assert (done.status, len(at.exchanges.asked)) == ("failed", 4)
    assert orjson.loads(done.items[0].outcome)["code"] == "rate_limited"


async def test_conflict_that_says_no_time_is_an_end(tmp_path: Path) -> None:
    """Waiting would not help."""
    async with house(tmp_path, refusing("conflict")) as at:
        assert (await at.ended((await at.add("a")).id)).status == "failed"
    assert len(at.exchanges.asked) == 1


async def test_revoked_key_runs_nothing_more(tmp_path: Path) -> None:
    """What was queued fails with the same words that the key itself would meet."""
    async with house(tmp_path) as at:
        at.exchanges.gone.add(OWNER)
        done = await at.ended((await at.add("a", "b")).id)
    assert (done.status, at.exchanges.asked) == ("failed", [])
    assert orjson.loads(done.items[0].outcome)["code"] == "invalid_api_key"


async def test_answer_that_breaks_off_fails_its_prompt(tmp_path: Path) -> None:
    """Nothing of it is shown."""

    async def cut(_: str, __: str) -> InwardAnswer:
        raise InwardCut

    async with house(tmp_path, cut) as at:
        assert (await at.ended((await at.add("a")).id)).status == "failed"


async def test_fault_of_ours_is_the_end_of_its_prompt(tmp_path: Path) -> None:
    """It does not run for ever, and it is in the log."""

    async def fault(_: str, __: str) -> InwardAnswer:
        raise RuntimeError("CANARY")

    async with house(tmp_path, fault) as at:
        done = await at.ended((await at.add("a")).id)
        await at.until(done.id, lambda _: "batch_item_failed" in at.log.names())
    assert done.status == "failed"
    assert b"CANARY" not in done.items[0].outcome


async def test_what_runs_when_the_process_stops_goes_on_with_the_next(tmp_path: Path) -> None:
    """It is no try of the prompt's; what is done stays done."""

    async def first_alone(owner: str, prompt: str) -> InwardAnswer:
        return await (served if prompt == "a" else hanging)(owner, prompt)

    async with house(tmp_path, first_alone) as at:
        made = await at.add("a", "b", "c")
        await at.until(made.id, lambda one: one.counts["completed"] == 1 and one.counts["running"] == 2)
    async with house(tmp_path) as at:
        done = await at.ended(made.id)
        assert sorted(prompt for _, prompt in at.exchanges.asked) == ["b", "c"]
    assert done.status == "completed"
    assert _tries(tmp_path) == [1, 1, 1]


@pytest.mark.parametrize("drains", [True, False])
async def test_drain_is_no_end_of_a_prompt(tmp_path: Path, drains: bool) -> None:
    """Whether the exchange is refused or cut off by it."""

    async def draining(owner: str, prompt: str) -> InwardAnswer:
        if drains:
            raise Refusal("draining", "Later.", retry_after_seconds=5)
        return await refusing("draining", after=5)(owner, prompt)

    async with house(tmp_path, draining) as at:
        made = await at.add("a")
        await at.until(made.id, lambda one: bool(at.exchanges.asked) and one.counts["queued"] == 1)
        assert len(at.exchanges.asked) == 1
    async with house(tmp_path) as at:
        assert (await at.ended(made.id)).status == "completed"


async def test_what_a_dead_process_ran_is_run_again_a_bounded_number_of_times(tmp_path: Path) -> None:
    """Twice here; then it has failed, and says why."""
    async with house(tmp_path, hanging) as at:
        made = await at.add("a")
        await at.until(made.id, lambda one: one.counts["running"] == 1)
    for tries, ends in ((1, "completed"), (2, "failed")):
        boots = boots_folder(tmp_path / store.FILE_NAME)
        (boots / "dead").touch()
        with contextlib.closing(sqlite3.connect(tmp_path / store.FILE_NAME)) as connection:
            connection.execute(
                "UPDATE items SET state='running', boot='dead', tries=?, body=?", (tries, b'{"prompt":"a"}')
            )
            connection.execute("UPDATE batches SET ended_ms=NULL")
            connection.commit()
        async with house(tmp_path) as at:
            done = await at.ended(made.id)
            assert (done.status, len(at.exchanges.asked)) == (ends, 1 if ends == "completed" else 0)
        assert list(boots.iterdir()) == []
    assert b"went down" in done.items[0].outcome


async def test_two_processes_run_each_prompt_once(tmp_path: Path) -> None:
    """They share the file, and what there is to do."""

    async def slow(owner: str, prompt: str) -> InwardAnswer:
        await asyncio.sleep(0.005)
        return await served(owner, prompt)

    async with house(tmp_path, slow, at_once_max=2) as one, house(tmp_path, slow, at_once_max=2) as other:
        made = [await one.add(*[f"{batch} {number}" for number in range(10)]) for batch in range(4)]
        other.batches._runner.wake()  # type: ignore[union-attr]
        for batch in made:
            assert (await one.ended(batch.id)).status == "completed"
    runs = [*one.exchanges.asked, *other.exchanges.asked]
    assert (len(runs), len(set(runs))) == (40, 40)
    assert one.exchanges.asked
    assert other.exchanges.asked


async def test_what_is_told_to_come_later_does_not_come_back_after_a_cancellation(tmp_path: Path) -> None:
    """A run that ends with a 429 just as its batch is cancelled is left out: it is not begun, and paid for, again."""
    made: list[BatchReport] = []

    async def late(_: str, __: str) -> InwardAnswer:
        # As another process does it: nothing wakes this one's runner.
        with contextlib.closing(sqlite3.connect(tmp_path / store.FILE_NAME)) as connection, connection:
            store.cancel(connection, OWNER, made[0].id, 1, kept_ms=1 << 50)
        return await refusing("rate_limited", after=1)("", "")

    async with house(tmp_path, late, at_once_max=1) as at:
        made.append(await at.add("a"))
        done = await at.ended(made[0].id)
    assert len(at.exchanges.asked) == 1
    assert (done.status, done.counts["canceled"]) == ("canceled", 1)


async def test_cancelled_batch_begins_nothing_more_and_cuts_what_runs(tmp_path: Path) -> None:
    """What has ended keeps its result; nobody is told."""

    async def first_alone(owner: str, prompt: str) -> InwardAnswer:
        return await (served if prompt == "a" else hanging)(owner, prompt)

    async with house(tmp_path, first_alone, at_once_max=2) as at:
        made = await at.add("a", "b", "c", "d")
        await at.until(made.id, lambda one: one.counts["completed"] == 1 and one.counts["running"] == 2)
        assert await at.batches.cancel(OWNER, made.id) is not None
        done = await at.ended(made.id)
        assert at.exchanges.running == 0
    assert done.status == "canceled"
    assert (done.counts["completed"], done.counts["canceled"]) == (1, 3)
    assert at.told.events == []


async def test_batch_is_its_owners_alone(tmp_path: Path) -> None:
    """Nobody else sees or cancels it."""
    async with house(tmp_path, hanging) as at:
        made = await at.add("a")
        assert await at.batches.report("key_other", made.id) is None
        assert await at.batches.cancel("key_other", made.id) is None
        assert (await at.report(made.id)).canceled_ms is None


async def test_owner_has_a_bounded_number_of_batches_under_way(tmp_path: Path) -> None:
    """429 that says how many; another owner is not concerned."""
    async with house(tmp_path, hanging, rules=BatchRules(open_max=2)) as at:
        for _ in range(2):
            await at.add("a")
        with pytest.raises(Refusal, match="2 batches") as refused:
            await at.add("a")
        assert (refused.value.status, refused.value.retry_after_seconds) == (429, 30)
        await at.add("a", owner="key_other")


async def test_twenty_posts_with_one_idempotency_key_are_one_batch(tmp_path: Path) -> None:
    """All get the same one; another body under the key is refused; another owner's key is another one."""
    once = asked(f"key:{OWNER}", "nightly", "/v1/batch", b"body")
    async with house(tmp_path) as at:
        made = await asyncio.gather(*[at.add("a", "b", once=once) for _ in range(20)])
        assert len({one.id for one in made}) == 1
        await at.ended(made[0].id)
        assert (await at.add("a", "b", once=once)).status == "completed"
        with pytest.raises(Refusal, match="idempotency_mismatch"):
            await at.add("a", once=asked(f"key:{OWNER}", "nightly", "/v1/batch", b"other"))
        assert (await at.add("a", once=once, owner="key_2")).id != made[0].id
    assert [owner for owner, _ in at.exchanges.asked].count(OWNER) == 2


async def test_results_are_forgotten_when_their_time_is_over(tmp_path: Path) -> None:
    """And what was not begun by then has failed; prompts are forgotten as soon as they are answered."""
    async with house(tmp_path) as at:
        done = await at.ended((await at.add("CANARY-PROMPT")).id)
        await at.until(done.id, lambda _: bool(at.told.events))
    with contextlib.closing(sqlite3.connect(tmp_path / store.FILE_NAME)) as connection:
        assert connection.execute("SELECT body FROM items").fetchall() == [(b"",)]
        connection.execute("UPDATE batches SET told=1, expires_ms=1")
        connection.commit()
    async with house(tmp_path) as at:
        deadline = time.monotonic() + 10
        while await at.batches.report(OWNER, done.id) is not None:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)


async def test_prompt_that_was_never_begun_fails_when_its_time_is_over(tmp_path: Path) -> None:
    """Nothing waits for ever."""
    async with house(tmp_path, at_once_max=0) as at:
        made = await at.add("a")
    with contextlib.closing(sqlite3.connect(tmp_path / store.FILE_NAME)) as connection:
        connection.execute("UPDATE batches SET expires_ms=1")
        connection.commit()
    async with house(tmp_path, at_once_max=0) as at:
        done = await at.ended(made.id)
    assert done.status == "failed"
    assert b"not begun in time" in done.items[0].outcome


async def test_owner_is_told_even_where_the_process_died_before_it_could(tmp_path: Path) -> None:
    """Under the same id, so that whoever hears it twice knows."""
    async with house(tmp_path) as at:
        done = await at.ended((await at.add("a")).id)
        await at.until(done.id, lambda _: bool(at.told.events))
    with contextlib.closing(sqlite3.connect(tmp_path / store.FILE_NAME)) as connection:
        connection.execute("UPDATE batches SET told=0")
        connection.commit()
    async with house(tmp_path) as again:
        await again.until(done.id, lambda _: bool(again.told.events))
    assert again.told.events[0][4] == at.told.events[0][4] == f"evt_{done.id}"


async def test_neither_prompts_nor_answers_are_logged(tmp_path: Path) -> None:
    """Ids and states."""
    async with house(tmp_path, refusing("rate_limited", after=1)) as at:
        await at.ended((await at.add("CANARY-PROMPT")).id)
    assert "CANARY" not in repr(at.log.events)
    assert at.log.names() == ["batch_item_ended"]


def _tries(folder: Path) -> list[int]:
    with contextlib.closing(sqlite3.connect(folder / store.FILE_NAME)) as connection:
        return [row[0] for row in connection.execute("SELECT tries FROM items ORDER BY number")]
