"""One task for all who ask for the same thing at once."""

from __future__ import annotations

import asyncio

import pytest

from proxy.payments.together import Together


class Work:
    """Something slow, counted."""

    def __init__(self) -> None:
        self.begun = 0
        self.go = asyncio.Event()

    async def do(self) -> int:
        self.begun += 1
        number = self.begun
        await self.go.wait()
        return number


async def test_those_who_ask_at_once_share_one_task() -> None:
    """And later ones begin another."""
    work, together = Work(), Together[int]("test")
    asked = [asyncio.ensure_future(together.run("key", work.do)) for _ in range(5)]
    other = asyncio.ensure_future(together.run("other", work.do))
    await asyncio.sleep(0)
    work.go.set()
    assert await asyncio.gather(*asked) == [1] * 5
    assert await other == 2
    assert await together.run("key", work.do) == 3


async def test_who_leaves_cancels_nobody() -> None:
    """Not even where it was the only one: `finish` waits for what it began."""
    work, together = Work(), Together[int]("test")
    asked = asyncio.ensure_future(together.run("key", work.do))
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    later = asyncio.ensure_future(together.run("key", work.do))
    await asyncio.sleep(0)
    work.go.set()
    await together.finish()
    assert await later == 1
    assert work.begun == 1


async def test_a_fault_is_everybodys_and_is_forgotten_with_its_task() -> None:
    """One that nobody waits for any more is no warning."""
    together, left = Together[int]("test"), asyncio.Event()

    async def fail() -> int:
        await left.wait()
        raise ValueError("no")

    asked = [asyncio.ensure_future(together.run("key", fail)) for _ in range(2)]
    await asyncio.sleep(0)
    asked[0].cancel()
    left.set()
    with pytest.raises(ValueError, match="no"):
        await asked[1]
    await together.finish()
