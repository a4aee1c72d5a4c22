"""A client that leaves at any moment of a run: every call has ended, once, and is booked before the settlement."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, Final

import orjson
import pytest

from plugins.consensus.plugin import ConsensusPlugin
from proxy.dialects import DIALECTS
from proxy.driver import Driver, DriverLimits
from proxy.exchange import Exchange, Finish, Request, Response, WhenLeft
from proxy.headers import Headers
from proxy.ledger.api import Hold, HoldRequest
from proxy.listeners.api import Arrival
from proxy.pricing.money import ZERO, Nano
from proxy.pricing.quote import Quote
from proxy.routes import Route, Try
from proxy.usage import Usage
from tests.support.downstream import MemoryDownstream
from tests.support.fakes import Body, Chunks, FakeClock, Log, exchange, generation, identity, model, origin
from tests.support.ledger import MemoryLedger
from tests.support.panels import Counted, consensus, mode, panel_model

PRICE: Final = Nano(50_000_000)
STEPS_MAX: Final = 2_000
"""More than a whole run takes."""
ANSWERS: Final = {"a": "It is forty-two.", "b": "It is forty-one.", "c": "It is forty.", "d": "It is sixty."}


class Calls:
    """The chain behind the plugin: every call is dispatched, answers in pieces, and reports its usage at its end."""

    def __init__(self) -> None:
        self.ledger = MemoryLedger()
        self.branches: list[Exchange] = []
        self.ended: list[Finish] = []

    async def __call__(self, branch: Exchange) -> Response:
        self.branches.append(branch)
        branch.on_finish(self.ended.append)
        branch.route = Route()
        if branch.model is None or branch.hold is None:
            raise AssertionError("a call without a model or a hold")
        await asyncio.sleep(0)
        candidate = branch.model.candidates[0]
        row = await self.ledger.dispatch(branch.hold, upstream=candidate.upstream, upstream_model="m", role=branch.role)
        tried = Try(candidate, row)
        branch.route.tries.append(tried)
        for _ in range(3):
            await asyncio.sleep(0)
        tried.outcome = "served"

        async def closing() -> None:
            await asyncio.sleep(0)
            if not tried.cut:
                tried.usage = Usage(10, 5)

        branch.before_finish.append(closing)
        words = ANSWERS[branch.model.name].split(" ")
        stream = Chunks(*[_piece(word + " ") for word in words], _piece("", "stop"))
        branch.streams.append(stream)
        return Response(200, Headers(), stream=stream, sse=True)


def _piece(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: " + orjson.dumps({"choices": [choice]}) + b"\n\n"


class Slow(MemoryDownstream):
    """A client that takes its time with every piece."""

    async def write(self, chunk: bytes) -> None:
        await super().write(chunk)
        for _ in range(2):
            await asyncio.sleep(0)


@dataclass
class Scene:
    """One exchange from its driver to its calls. What happens is noted in `order`."""

    stream: bool
    paid: bool = False
    calls: Calls = field(default_factory=Calls)
    log: Log = field(default_factory=Log)
    down: MemoryDownstream = field(default_factory=Slow)
    counted: Counted = field(default_factory=Counted)
    burning: int = 0
    """How often a payment was begun to be burnt."""
    burnt: int = 0
    settled: list[Finish] = field(default_factory=list)
    costs: list[int] = field(default_factory=list)
    """Of all calls, when it was settled."""

    def __post_init__(self) -> None:
        models = {name: model(name) for name in ANSWERS}
        fast = mode()
        under = replace(generation(models=models), consensus=consensus(fast))
        candidates = tuple(replace(models[name].candidates[0], model=name) for name in ANSWERS)
        panel = panel_model(fast, candidates=candidates)
        body = {"model": "consensus-fast", "messages": [{"role": "user", "content": "?"}], "stream": self.stream}
        self.exchange = exchange(under=under, body=body)
        self.exchange.identity = identity()
        self.exchange.call = DIALECTS["openai.chat"].parse(orjson.dumps(body))
        self.exchange.model = panel
        self.exchange.quote = Quote(100, 500, 1, PRICE, fast.budget, candidates=candidates)
        self.exchange.hold = Hold(1, HoldRequest("x", "k", "u", "t", "o", "m", "chat", PRICE, ZERO, (), 0))
        if self.paid:
            self.exchange.payment_proof = "digest"
        services: Any = SimpleNamespace(
            clock=FakeClock(), log=self.log, metrics=self.counted, webhooks=None, generation=under
        )
        self.plugin = ConsensusPlugin(ConsensusPlugin.Settings(), services)

    async def _chain(self, seen: Exchange) -> Response:
        seen.on_finish(self._settle)
        response = await self.plugin(seen, self.calls)
        if response.before_content is not None:
            response.before_content.append(self._burn)
        return response

    async def _burn(self) -> None:
        self.burning += 1
        for _ in range(3):
            await asyncio.sleep(0)
        self.burnt += 1

    def _settle(self, reason: Finish) -> None:
        self.settled.append(reason)
        route = self.exchange.route
        self.costs = [] if route is None else [tried.attempt.number for tried in route.tries]

    def driver(self) -> Driver:
        return Driver(
            open_exchange=lambda _: self.exchange,
            chain=lambda _: self._chain,
            limits=DriverLimits(60.0, 5.0, 1 << 20),
            request_id_header="x-tollway-request-id",
            on_open=lambda _: None,
            on_end=lambda *_: None,
            clock=FakeClock(),
            log=self.log,
        )

    async def play(self, leave_after: int, *, again_after: int | None = None) -> bool:
        """Leave after so many turns of the loop, be cancelled once more after so many; whether it had ended before."""
        request = Request(method="POST", path="/", headers=Headers(), reader=Body())
        task = asyncio.create_task(self.driver().serve(Arrival(origin(), request), self.down))
        ended = await _turns(task, leave_after)
        self.down.leave()
        if again_after is not None and not ended:
            await _turns(task, again_after)
            task.cancel()
        await asyncio.wait({task})
        if not task.cancelled() and task.exception() is not None:
            raise AssertionError("the driver raised") from task.exception()
        return ended

    @property
    def sent(self) -> bool:
        """A piece of the answer went out."""
        return b'"content"' in self.down.body.replace(b'"content":""', b"")


async def _turns(task: asyncio.Task[None], count: int) -> bool:
    for _ in range(count):
        if task.done():
            return True
        await asyncio.sleep(0)
    return task.done()


def check(scene: Scene) -> None:
    """What is true however it ended."""
    calls = scene.calls
    assert len(scene.settled) == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert len(calls.ended) == len(calls.branches)
    assert all(getattr(stream, "closed", True) for branch in calls.branches for stream in branch.streams)
    made = [tried.attempt.number for branch in calls.branches if branch.route for tried in branch.route.tries]
    assert sorted(scene.costs) == sorted(made), "a call was booked after the settlement"
    assert scene.burning == scene.burnt <= 1
    assert scene.sent <= (scene.burnt == 1) or not scene.stream
    assert not [name for name in scene.log.names() if name != "client_gone"], scene.log.names()
    assert all(status != "running" for _, status in scene.counted.calls)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("again", [None, 1, 3])
async def test_leaving_at_any_moment_leaves_nothing_behind(stream: bool, again: int | None) -> None:
    """Cancelled once, or once more while the first is under way."""
    for step in range(STEPS_MAX):
        scene = Scene(stream)
        ended = await scene.play(step, again_after=again)
        check(scene)
        charge, reason = scene.exchange.charge, scene.settled[0]
        if ended:
            assert (charge, reason) == (PRICE, Finish.SERVED)
            break
        assert charge is not None
        if stream and not scene.burnt:
            assert 0 <= charge < PRICE
    else:
        pytest.fail("it never ended")
    assert step > 10


async def test_a_payer_may_leave_at_any_moment() -> None:
    """The run goes on to its end: burnt once, the price charged, every call booked."""
    for step in range(STEPS_MAX):
        scene = Scene(stream=True, paid=True)
        ended = await scene.play(step)
        check(scene)
        if scene.exchange.when_left is WhenLeft.STAY:
            assert (scene.burnt, scene.exchange.charge) == (1, PRICE)
        if ended:
            break
    assert step > 10
