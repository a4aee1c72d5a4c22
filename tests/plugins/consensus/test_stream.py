"""A run told as it goes: when it may begin to answer, and that it ends with its reader."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from plugins.consensus.chat_wire import ChatWire
from plugins.consensus.run import Run
from plugins.consensus.stream import RunStream
from plugins.consensus.wires import Meta
from proxy.consensus.api import Emit, Event, Quality, Question, Result, RunFailed, Severity
from proxy.dialects.sse import event_data, split_events
from proxy.errors import Refusal
from proxy.exchange import Exchange, Finish
from proxy.ledger.errors import HoldNotOpen
from proxy.pricing.money import ZERO, Nano
from tests.support.fakes import Log, exchange
from tests.support.panels import Counted, consensus, panel_model

CONSENSUS = consensus()
META = Meta("req_1", 1, "consensus-fast", "fast")
RESULT = Result(
    text="Forty-two.", finish_reason="stop", tool_calls=(), mode="fast", domain="general", language="en",
    source="synthesis", quality=Quality(80.0, "agreement"), agreement=1.0, confidence=Severity.HIGH,
    effective_votes=1.7,
)  # fmt: skip
Script = Callable[[Emit], Awaitable[Result]]


class Engine:
    """Does what a test says."""

    def __init__(self, script: Script) -> None:
        self.consensus = CONSENSUS
        self._script = script

    async def run(self, question: Question, mode: str, calls: Any, emit: Emit, *, seated: Any = None) -> Result:
        return await self._script(emit)


class Calls:
    """None were made."""

    records: tuple[()] = ()
    cost = Nano(7)

    def hand_over(self) -> None:
        """Nothing to hand over."""

    def close(self, reason: Finish) -> None:
        """Nothing to close."""


class Streamed:
    """A stream, and what was told of it."""

    def __init__(self, script: Script) -> None:
        self.exchange: Exchange = exchange()
        self.exchange.model = panel_model()
        engine: Any = Engine(script)
        calls: Any = Calls()
        self.counted = Counted()
        self.run = Run(self.exchange, engine, Question((), 100), "fast", calls, self.counted)
        self.log = Log()
        self.stream = RunStream(self.exchange, self.run, ChatWire(META), META, self.log)

    async def sent(self) -> list[bytes]:
        """The data of every event."""
        whole = b"".join([piece async for piece in self.stream])
        return [event_data(event) for event in split_events(whole)]


def waiting(ended: asyncio.Event) -> Script:
    """Never answers; says when it was cancelled."""

    async def script(emit: Emit) -> Result:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return RESULT

    return script


async def answered(emit: Emit) -> Result:
    await emit(Event("synthesis.started"))
    await emit(Event("token", {"text": "Forty"}))
    await emit(Event("token", {"text": "-two."}))
    return RESULT


async def test_a_run_is_told_from_its_opening_to_its_end() -> None:
    """Role first, then the synthesiser's own pieces, then the end; it is charged its price."""
    under = Streamed(answered)
    sent = await under.sent()
    assert b'"role":"assistant"' in sent[0] and sent[-1] == b"[DONE]"
    assert [b"Forty" in sent[1], b"-two." in sent[2]] == [True, True]
    assert under.exchange.charge == CONSENSUS.modes["fast"].price.usd


async def test_what_must_be_true_before_an_answer_is_awaited_just_before_it() -> None:
    """The head and the progress go out before; the first piece of the answer does not."""
    order: list[str] = []

    async def script(emit: Emit) -> Result:
        order.append("progress")
        await emit(Event("synthesis.started"))
        await emit(Event("token", {"text": "Forty-two."}))
        order.append("token")
        return RESULT

    under = Streamed(script)

    async def burn() -> None:
        order.append("burnt")

    under.stream.before_content.append(burn)
    await under.sent()
    assert order == ["progress", "burnt", "token"]


async def test_nothing_of_the_answer_goes_out_where_its_payment_is_lost() -> None:
    """The stream ends with an error, and nothing is charged."""
    under = Streamed(answered)

    async def burn() -> None:
        raise HoldNotOpen("hold 1 has ended already")

    under.stream.before_content.append(burn)
    sent = await under.sent()
    assert not any(b"Forty" in piece for piece in sent)
    assert b'"error"' in sent[-1]
    assert under.exchange.charge == ZERO
    assert under.log.names() == ["payment_not_burnt"]


async def test_a_ledger_that_cannot_be_written_is_told_as_an_error() -> None:
    """It says so with a refusal of its own: the stream is ended properly, and nothing is charged."""
    under = Streamed(answered)

    async def burn() -> None:
        raise Refusal("overloaded", "The ledger cannot be written at the moment.", retry_after_seconds=2)

    under.stream.before_content.append(burn)
    sent = await under.sent()
    assert not any(b"Forty" in piece for piece in sent)
    assert b"cannot be written" in sent[-1]
    assert (under.exchange.charge, under.exchange.refusal and under.exchange.refusal.code) == (ZERO, "overloaded")


async def test_what_was_begun_before_the_answer_is_ended_whoever_goes() -> None:
    """A deadline that falls into the burning of a payment: it is known to be burnt, and nothing was said."""
    burning, written = asyncio.Event(), asyncio.Event()
    told: list[str] = []

    async def script(emit: Emit) -> Result:
        try:
            async with asyncio.timeout(0):
                await emit(Event("token", {"text": "Forty"}))
        except TimeoutError:
            told.append("late")
        raise RunFailed(Refusal("upstream_timeout", "The answer came too late."))

    under = Streamed(script)

    async def burn() -> None:
        burning.set()
        await written.wait()
        told.append("burnt")

    under.stream.before_content.append(burn)
    reading = asyncio.create_task(under.sent())
    await burning.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    assert told == []
    written.set()
    sent = await reading
    assert told == ["burnt", "late"]
    assert not any(b"Forty" in piece for piece in sent) and b"too late" in sent[-1]
    assert under.exchange.charge == ZERO


async def test_a_second_cancellation_ends_the_burning_all_the_same() -> None:
    """Who reads is cancelled twice while a payment is being burnt: it is burnt once, to its end, and waited for."""
    burning, written = asyncio.Event(), asyncio.Event()
    told: list[str] = []
    under = Streamed(answered)

    async def burn() -> None:
        burning.set()
        await written.wait()
        told.append("burnt")

    under.stream.before_content.append(burn)
    reading = asyncio.create_task(under.sent())
    await burning.wait()
    for _ in range(2):
        reading.cancel()
        await asyncio.sleep(0)
    assert not reading.done()
    written.set()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert told == ["burnt"]


async def test_a_failed_run_ends_with_an_error_and_owes_nothing() -> None:
    """The refusal is the exchange's; there is no [DONE]."""
    refusal = Refusal("upstream_unavailable", "Too few members answered.", retry_after_seconds=5)

    async def script(emit: Emit) -> Result:
        raise RunFailed(refusal)

    under = Streamed(script)
    sent = await under.sent()
    assert b"Too few members" in sent[-1]
    assert under.exchange.refusal is refusal and under.exchange.charge == ZERO
    under.run.close(Finish.UPSTREAM_FAILED)
    assert under.counted.runs == [("fast", "failed")]


async def test_a_reader_that_goes_takes_the_run_with_it() -> None:
    """By the time that closing returns, nothing of it is left."""
    ended = asyncio.Event()
    under = Streamed(waiting(ended))
    pieces = aiter(under.stream)
    await anext(pieces)
    await asyncio.sleep(0)
    await under.stream.aclose()
    assert ended.is_set()
    under.run.close(Finish.CLIENT_GONE)
    assert under.exchange.charge == Nano(7)
    assert under.counted.runs == [("fast", "left")]


async def test_who_leaves_in_the_middle_of_the_answer_pays_the_price() -> None:
    """The answer had begun."""

    async def script(emit: Emit) -> Result:
        await emit(Event("token", {"text": "Forty"}))
        await asyncio.Event().wait()
        return RESULT

    under = Streamed(script)
    pieces = aiter(under.stream)
    await anext(pieces)
    await anext(pieces)
    under.run.close(Finish.CLIENT_GONE)
    await under.stream.aclose()
    assert under.exchange.charge == CONSENSUS.modes["fast"].price.usd


async def test_a_reader_that_is_cancelled_takes_the_run_with_it() -> None:
    """The driver's task is cancelled while it waits for the next piece."""
    ended = asyncio.Event()
    under = Streamed(waiting(ended))
    reading = asyncio.create_task(under.sent())
    for _ in range(5):
        await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert ended.is_set()


async def test_a_fault_of_ours_cuts_the_answer() -> None:
    """It is raised to whoever reads, who fails closed; nothing is charged."""

    async def script(emit: Emit) -> Result:
        raise ZeroDivisionError

    under = Streamed(script)
    with pytest.raises(ZeroDivisionError):
        await under.sent()
    under.run.close(Finish.FAILED)
    await under.stream.aclose()
    assert (under.exchange.charge, under.log.names()) == (ZERO, [])


async def test_an_answer_that_is_not_what_was_streamed_is_cut_for_nothing() -> None:
    """The run has its result by then; who gets half of an answer pays nothing for it all the same."""

    async def script(emit: Emit) -> Result:
        await emit(Event("token", {"text": "Something else"}))
        return RESULT

    under = Streamed(script)
    with pytest.raises(RuntimeError):
        await under.sent()
    under.run.close(Finish.FAILED)
    assert under.exchange.charge == ZERO


async def test_a_fault_behind_the_run_owes_nothing() -> None:
    """The caller got a 500 in the place of the answer."""

    async def script(emit: Emit) -> Result:
        return RESULT

    under = Streamed(script)
    await under.run.run(_nobody)
    assert under.exchange.charge == CONSENSUS.modes["fast"].price.usd
    under.exchange.refusal = Refusal("internal_error", "Something failed here.")
    under.run.close(Finish.REFUSED)
    assert under.exchange.charge == ZERO


async def _nobody(_: Event) -> None:
    """Nobody watches."""
