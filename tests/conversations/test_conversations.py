"""The store of conversations: nobody else's, none lost, bounded, over after a while, and really gone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.conversations.api import Turn, is_id, new_id
from proxy.conversations.service import Conversations
from proxy.errors import Refusal
from tests.support.fakes import FakeClock, Log

OWNER = "key:key_1"
OTHERS_PROCESS = """
import asyncio, sys
from pathlib import Path
from proxy.conversations.api import Turn
from proxy.conversations.service import Conversations
from tests.support.fakes import FakeClock, Log

async def main() -> None:
    store = Conversations(Path(sys.argv[1]), FakeClock(), Log())
    store.turns_max = 100
    await store.start()
    await asyncio.gather(*[
        store.append("key:key_1", sys.argv[2], [Turn("user", f"{sys.argv[3]}-{n}"), Turn("assistant", "a")])
        for n in range(10)
    ])
    await store.stop()

asyncio.run(main())
"""


def said(text: str, answer: str = "a") -> list[Turn]:
    return [Turn("user", text), Turn("assistant", answer)]


def service(folder: Path, clock: FakeClock | None = None) -> Conversations:
    return Conversations(folder, clock or FakeClock(), Log())


def written(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("conversations.db*") if path.is_file())


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Conversations]:
    made = service(tmp_path)
    await made.start()
    yield made
    await made.stop()


async def begun(store: Conversations, owner: str = OWNER, text: str = "first") -> str:
    id_ = new_id()
    assert await store.append(owner, id_, said(text), new=True)
    return id_


async def texts(store: Conversations, id_: str, owner: str = OWNER) -> list[str]:
    return [turn.text for turn in (await store.find(owner, id_)).turns if turn.role == "user"]


def test_ids_are_ours_and_cannot_be_guessed() -> None:
    """26 characters of 32 behind the prefix."""
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(is_id(one) and len(one) == 31 for one in ids)
    assert not any(is_id(bad) for bad in ("new", "conv_", "conv_" + "a" * 25, "conv_" + "A" * 26, "conv_" + "a" * 27))


async def test_turns_come_back_in_their_order(store: Conversations) -> None:
    """Role, text and time."""
    id_ = await begun(store)
    await store.append(OWNER, id_, said("second", "b"))
    found = await store.find(OWNER, id_)
    assert [(turn.role, turn.text) for turn in found.turns] == [
        ("user", "first"),
        ("assistant", "a"),
        ("user", "second"),
        ("assistant", "b"),
    ]
    assert found.summary.turns == 4


async def test_unknown_expired_deleted_and_anothers_are_refused_in_the_same_words(tmp_path: Path) -> None:
    """Nobody learns that a conversation exists."""
    clock = FakeClock()
    store = service(tmp_path, clock)
    await store.start()
    over = await begun(store)
    clock.advance(86_400)
    anothers, deleted = await begun(store, "key:key_2"), await begun(store)
    await store.delete(OWNER, deleted)
    told = set()
    for id_ in (over, anothers, deleted, new_id(), "conv_x", "new", ""):
        with pytest.raises(Refusal) as refused:
            await store.find(OWNER, id_)
        told.add((refused.value.code, refused.value.message, refused.value.param))
        with pytest.raises(Refusal):
            await (store.delete(OWNER, id_) if id_ != over else store.find(OWNER, id_))
        assert id_ == over or not await store.append(OWNER, id_, said("x"))
    assert len(told) == 1
    assert {code for code, _, _ in told} == {"not_found"}
    assert await texts(store, anothers, "key:key_2") == ["first"]
    await store.stop()


async def test_a_conversation_lives_from_its_last_turn(tmp_path: Path) -> None:
    """Not from its first; what is over is swept out of the file."""
    clock = FakeClock()
    store = service(tmp_path, clock)
    await store.start()
    id_ = await begun(store, text="SECRET-QUESTION")
    for _ in range(3):
        clock.advance(80_000)
        await store.append(OWNER, id_, said("more"))
    assert len(await texts(store, id_)) == 4
    clock.advance(86_400)
    assert await store.listing(OWNER, 10) == []
    assert await store.sweep() == 1
    assert b"SECRET-QUESTION" not in written(tmp_path)
    await store.stop()


async def test_deleted_text_is_gone_from_the_file(tmp_path: Path, store: Conversations) -> None:
    """From the tables and from the log beside them."""
    id_ = await begun(store, text="SECRET-QUESTION" * 1000)
    assert b"SECRET-QUESTION" in written(tmp_path)
    await store.delete(OWNER, id_)
    assert b"SECRET-QUESTION" not in written(tmp_path)
    assert not await store.append(OWNER, id_, said("late"))


async def test_turns_of_requests_at_once_are_all_kept(tmp_path: Path, store: Conversations) -> None:
    """Over two connections and two processes; each request's two turns stay together."""
    id_ = await begun(store)
    other = service(tmp_path)
    await other.start()
    store.turns_max = other.turns_max = 100
    processes = [
        subprocess.Popen([sys.executable, "-c", OTHERS_PROCESS, str(tmp_path), id_, name]) for name in ("p", "q")
    ]
    await asyncio.gather(*[[store, other][number % 2].append(OWNER, id_, said(f"t-{number}")) for number in range(10)])
    assert [await asyncio.to_thread(one.wait, 30) for one in processes] == [0, 0]
    turns = (await store.find(OWNER, id_)).turns
    expected = {"first", *[f"t-{n}" for n in range(10)], *[f"{name}-{n}" for name in "pq" for n in range(10)]}
    assert {turn.text for turn in turns if turn.role == "user"} | {"first"} == expected
    assert [turn.role for turn in turns] == ["user", "assistant"] * (len(turns) // 2)
    await other.stop()


async def test_oldest_turns_are_dropped(tmp_path: Path) -> None:
    """By number and by bytes."""
    store = service(tmp_path)
    store.turns_max, store.conversation_bytes_max = 4, 1000
    await store.start()
    id_ = await begun(store)
    for number in range(3):
        await store.append(OWNER, id_, said(f"t-{number}"))
    assert await texts(store, id_) == ["t-1", "t-2"]
    await store.append(OWNER, id_, said("x" * 999))
    assert await texts(store, id_) == ["x" * 999]
    await store.append(OWNER, id_, said("x" * 1001))
    assert [turn.role for turn in (await store.find(OWNER, id_)).turns] == ["assistant"]
    await store.stop()


async def test_callers_oldest_conversations_give_way(tmp_path: Path) -> None:
    """Its own alone; the list has the last spoken in first."""
    clock = FakeClock()
    store = service(tmp_path, clock)
    store.owner_count_max = 2
    await store.start()
    foreign = await begun(store, "key:key_2")
    ids = []
    for _ in range(3):
        clock.advance(1)
        ids.append(await begun(store))
    clock.advance(1)
    await store.append(OWNER, ids[1], said("again"))
    assert [one.id for one in await store.listing(OWNER, 10)] == [ids[1], ids[2]]
    assert [one.turns for one in await store.listing(OWNER, 10)] == [4, 2]
    assert [one.id for one in await store.listing(OWNER, 1)] == [ids[1]]
    assert await texts(store, foreign, "key:key_2") == ["first"]
    await store.stop()


async def test_conversations_survive_a_restart(tmp_path: Path) -> None:
    """They are in the file."""
    first = service(tmp_path)
    await first.start()
    id_ = await begun(first)
    await first.stop()
    second = service(tmp_path)
    await second.start()
    assert await texts(second, id_) == ["first"]
    await second.stop()


async def test_file_that_is_not_open_is_overloaded(tmp_path: Path) -> None:
    """With a wait, and without a word of the conversation."""
    with pytest.raises(Refusal, match="overloaded") as refused:
        await service(tmp_path).find(OWNER, new_id())
    assert refused.value.retry_after_seconds


def test_text_is_in_no_representation() -> None:
    """So that no log can have it."""
    assert "SECRET" not in repr(Turn("user", "SECRET"))
