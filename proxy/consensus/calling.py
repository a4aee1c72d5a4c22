"""One call under way: admitted by the budget, bound by its timers, ended for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from proxy.consensus.api import Answer, CallFailed, Calls, CallSpec, Delta, Deltas
from proxy.consensus.budget import Budget
from proxy.consensus.settings import Deadlines

EMPTY = "empty"
TIMEOUT = "timeout"
CONTENT_FILTER = "content_filter"


@dataclass(slots=True, eq=False)
class LiveCall:
    """A call that was begun. Its task raises CallFailed, and is awaited by who began it."""

    spec: CallSpec
    started: float
    task: asyncio.Task[Answer] = field(init=False)
    first_at: float | None = None
    """When it said its first word; None: it is silent."""
    heard: list[str] = field(default_factory=list)

    @property
    def partial(self) -> str:
        """What it has said so far."""
        return "".join(self.heard)


class Caller:
    """Begins the calls of one run."""

    def __init__(self, calls: Calls, budget: Budget, deadlines: Deadlines) -> None:
        self._calls = calls
        self.budget = budget
        self.deadlines = deadlines

    def now(self) -> float:
        """Seconds of the event loop."""
        return asyncio.get_running_loop().time()

    def begin(
        self,
        spec: CallSpec,
        *,
        ends_at: float,
        first_by: float | None = None,
        deltas: Deltas | None = None,
        final: bool = False,
    ) -> LiveCall:
        """Begin the call. Raises CallFailed where the budget has no room for it (`final`: the reserve is room, too).

        Its task fails with `timeout` at `ends_at`, after `Deadlines.idle` of silence between two words, and where it
        has not said its first one by `first_by`.
        """
        ticket = self.budget.take(spec, final=final)
        call = LiveCall(spec, self.now())
        name = f"consensus {spec.role.value} {spec.seat.name}"
        call.task = asyncio.get_running_loop().create_task(self._made(call, ends_at, first_by, deltas), name=name)
        call.task.add_done_callback(lambda _: self.budget.give_back(ticket))
        return call

    async def _made(self, call: LiveCall, ends_at: float, first_by: float | None, deltas: Deltas | None) -> Answer:
        try:
            async with asyncio.timeout_at(ends_at if first_by is None else min(first_by, ends_at)) as timer:

                async def heard(delta: Delta) -> None:
                    if call.first_at is None:
                        call.first_at = self.now()
                    call.heard.append(delta.text)
                    if deltas is not None:
                        _move(timer, ends_at)
                        await deltas(delta)
                    _move(timer, min(ends_at, self.now() + self.deadlines.idle))

                answer = await self._calls.call(call.spec, heard)
        except TimeoutError:
            raise CallFailed(TIMEOUT, partial=call.partial) from None
        return _usable(answer)


def _move(timer: asyncio.Timeout, when: float) -> None:
    if not timer.expired():
        timer.reschedule(when)


def _usable(answer: Answer) -> Answer:
    if answer.finish_reason == CONTENT_FILTER:
        raise CallFailed(CONTENT_FILTER, partial=answer.text)
    if not answer.text.strip() and not answer.tool_calls:
        raise CallFailed(EMPTY)
    return answer


async def ended(calls: Iterable[LiveCall]) -> None:
    """Cancel what still runs of these, and wait for the ends of all. Cancelled meanwhile, it goes on waiting and then
    lets the cancellation through: nothing is left behind."""
    tasks = [call.task for call in calls]
    for task in tasks:
        task.cancel()
    cancelled: asyncio.CancelledError | None = None
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as again:
            cancelled = again
    for task in tasks:
        if not task.cancelled():
            task.exception()
    if cancelled is not None:
        raise cancelled
