"""One call under way: its timers, and its certain end."""

from __future__ import annotations

import asyncio

import pytest

from proxy.consensus.api import Answer, CallFailed, CallSpec, Delta, Deltas, Role
from proxy.consensus.budget import Budget
from proxy.consensus.calling import Caller, ended
from proxy.consensus.settings import Deadlines
from proxy.pricing.money import Nano
from tests.support.scripted_panels import ONE, USD, Says, ScriptedCalls
from tests.support.virtual_time import run

DEADLINES = Deadlines(total=60, call=20, first_byte=4, idle=3)
SPEC = CallSpec(ONE, Role.MEMBER, 0, (), 100)


def made(says: Says, ends_at: float = 20, first_by: float | None = None) -> tuple[Answer | CallFailed, float]:
    """The answer or failure, and when it came."""
    calls = ScriptedCalls(lambda _: says)

    async def main() -> tuple[Answer | CallFailed, float]:
        caller = Caller(calls, Budget(calls, Nano(USD)), DEADLINES)
        call = caller.begin(SPEC, ends_at=ends_at, first_by=first_by)
        found: Answer | CallFailed
        try:
            found = await call.task
        except CallFailed as failed:
            found = failed
        await asyncio.sleep(0)
        assert caller.budget.spent() == calls.cost()
        return found, asyncio.get_running_loop().time()

    found = run(main())
    assert calls.running == 0
    return found


@pytest.mark.parametrize(
    ("says", "first_by", "at", "partial"),
    [
        (Says("", 1, hangs=True), 4.0, 4.0, ""),
        (Says("", 1, hangs=True), None, 20.0, ""),
        (Says("some", 1, first=1, pieces=1, hangs=True), 4.0, 4.0, "some"),
        (Says("x" * 40, 60, first=1, pieces=40), 4.0, 20.0, "x" * 13),
    ],
    ids=["no first word", "none by the end", "silence within", "too long as a whole"],
)
def test_deadlines(says: Says, first_by: float | None, at: float, partial: str) -> None:
    """Each ends the call with `timeout` and what it had said."""
    found, when = made(says, first_by=first_by)
    assert isinstance(found, CallFailed)
    assert (found.kind, found.partial) == ("timeout", partial)
    assert when == pytest.approx(at)


def test_slow_reader_is_no_silence_of_the_speaker() -> None:
    """While a delta is handed on, the idle deadline does not run."""

    async def main() -> None:
        calls = ScriptedCalls(lambda _: Says("two words", 2, first=1, pieces=2))
        caller = Caller(calls, Budget(calls, Nano(USD)), DEADLINES)

        async def read(_: Delta) -> None:
            await asyncio.sleep(5)

        answer = await caller.begin(SPEC, ends_at=20, deltas=read).task
        assert answer.text == "two words"

    run(main())


class Stubborn:
    """A call that takes its time to end when it is cancelled."""

    records: tuple[()] = ()

    def __init__(self) -> None:
        self.ended_at = 0.0

    def cost_max(self, spec: CallSpec) -> Nano:
        return Nano(0)

    async def call(self, spec: CallSpec, deltas: Deltas | None = None) -> Answer:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(2)
            self.ended_at = asyncio.get_running_loop().time()
        raise CallFailed("broken")


def test_end_is_awaited_however_often_it_is_cancelled() -> None:
    """The books of a call are closed before the run goes on."""

    async def main() -> None:
        calls = Stubborn()
        caller = Caller(calls, Budget(calls, Nano(0)), DEADLINES)
        call = caller.begin(SPEC, ends_at=60)
        await asyncio.sleep(1)
        loop = asyncio.get_running_loop()
        waiting = loop.create_task(ended([call]))
        await asyncio.sleep(0.5)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert calls.ended_at == pytest.approx(3)
        assert call.task.done()

    run(main())


def test_call_cancelled_before_it_began_gives_its_money_back() -> None:
    """Its ticket is not lost with it."""

    async def main() -> None:
        calls = ScriptedCalls(lambda _: Says("x"))
        caller = Caller(calls, Budget(calls, Nano(USD)), DEADLINES)
        await ended([caller.begin(SPEC, ends_at=20)])
        await asyncio.sleep(0)
        assert caller.budget.spent() == 0
        assert not calls.specs

    run(main())
