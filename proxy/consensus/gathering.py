"""Many calls at once: a quorum, a grace for stragglers, a spare for who fails or is silent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from proxy.consensus.api import Answer, CallFailed, CallSpec
from proxy.consensus.calling import Caller, LiveCall, ended
from proxy.consensus.settings import Rules, Seat

ANSWERED: Final = "answered"
LATE: Final = "late"
FAILED: Final = "failed"
REPLACED: Final = "replaced"


@dataclass(slots=True, eq=False)
class Outcome:
    """What became of one call. `answer` is there exactly where `status` is answered."""

    spec: CallSpec
    status: str
    answer: Answer | None = None
    reason: str = ""
    seconds: float | None = None
    partial: str = ""
    """What it had said when it broke or was given up."""
    retry_after_seconds: float | None = None


async def _silently(_: object) -> None:
    """Nobody watches."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a stage is gathered."""

    quorum: int
    ends_at: float
    vendors: int = 1
    """That must be among the answers for a quorum, as far as so many are still there to answer, spares among them."""
    there: frozenset[str] = frozenset()
    """Vendors whose answers are there already: they count among `vendors`."""
    spares: tuple[Seat, ...] = ()
    respec: Callable[[Seat, bool], CallSpec] | None = None
    """The call of a spare; the flag: it is a hedge."""
    hedge_after: float | None = None
    """Seconds of silence, after which one spare of another vendor is called while the quorum is open."""
    may_hedge: Callable[[], bool] = lambda: False
    judge: Callable[[CallSpec, Answer], str] = lambda _spec, _answer: ""
    """Why an answer cannot be used (it counts as failed then); "": it can."""
    started: Callable[[CallSpec], Awaitable[None]] = _silently
    reached: Callable[[float], Awaitable[None]] = _silently
    """Told the seconds that the quorum took."""
    finished: Callable[[Outcome], Awaitable[None]] = _silently


@dataclass(slots=True, eq=False)
class Gathered:
    """What a stage came to, in the order in which its calls were begun."""

    outcomes: list[Outcome] = field(default_factory=list)
    quorum_seconds: float | None = None
    """From the stage's beginning to its quorum; None: there was none."""

    @property
    def answered(self) -> list[Outcome]:
        """Those with a usable answer."""
        return [outcome for outcome in self.outcomes if outcome.status == ANSWERED]


class Gathering:
    """One stage. Whatever happens to it, its calls have ended when it returns or raises."""

    def __init__(self, caller: Caller, rules: Rules, plan: Plan) -> None:
        self._caller = caller
        self._rules = rules
        self._plan = plan
        self._began = caller.now()
        self._running: dict[asyncio.Task[Answer], LiveCall] = {}
        self._order: list[CallSpec] = []
        self._outcomes: dict[int, Outcome] = {}
        self._spares = list(plan.spares)
        self._hedged = False
        self._gathered = Gathered()

    async def gather(self, specs: Sequence[CallSpec]) -> Gathered:
        """Call all of them, until they have ended, the grace after the quorum has, or the stage's time is over."""
        try:
            for spec in specs:
                await self._begin(spec)
            while self._running:
                await self._step()
                if self._caller.now() >= self._end():
                    break
        finally:
            late = list(self._running.values())
            await ended(late)
        for call in late:
            await self._gave_up(call)
        self._gathered.outcomes = [self._outcomes[id(spec)] for spec in self._order]
        return self._gathered

    async def _begin(self, spec: CallSpec) -> None:
        """A call that cannot be begun (no money, too long for its model) has failed: the next spare may be."""
        self._order.append(spec)
        try:
            call = self._caller.begin(spec, ends_at=self._plan.ends_at)
        except CallFailed as failed:
            await self._failed(Outcome(spec, FAILED, reason=failed.kind))
            return
        self._running[call.task] = call
        await self._plan.started(spec)

    async def _step(self) -> None:
        """Wait for the next thing to happen, and deal with it."""
        until = min(self._end(), self._hedge_at() or self._plan.ends_at)
        timeout = max(0.0, until - self._caller.now())
        done, _ = await asyncio.wait(self._running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for task in [task for task in self._running if task in done]:
            await self._over(self._running.pop(task))
        hedge_at = self._hedge_at()
        if hedge_at is not None and self._caller.now() >= hedge_at:
            await self._hedge()

    async def _over(self, call: LiveCall) -> None:
        seconds = self._caller.now() - call.started
        try:
            answer = call.task.result()
        except CallFailed as failed:
            partial = failed.partial or call.partial
            outcome = Outcome(call.spec, FAILED, None, failed.kind, seconds, partial, failed.retry_after_seconds)
        else:
            reason = self._plan.judge(call.spec, answer)
            if reason:
                outcome = Outcome(call.spec, FAILED, None, reason, seconds, answer.text)
            else:
                await self._settle(Outcome(call.spec, ANSWERED, answer, "", seconds))
                return
        await self._failed(outcome)

    async def _failed(self, outcome: Outcome) -> None:
        """Settle it, and call a spare in its place where the quorum is open."""
        spare = self._next_spare(outcome.spec.seat) if self._open() else None
        if spare is not None:
            outcome.status = REPLACED
        await self._settle(outcome)
        if spare is not None and self._plan.respec is not None:
            await self._begin(self._plan.respec(spare, False))

    async def _settle(self, outcome: Outcome) -> None:
        self._outcomes[id(outcome.spec)] = outcome
        await self._plan.finished(outcome)
        replaced = outcome.status == REPLACED  # by a call that is yet to begin, and may be what the quorum lacks
        if self._gathered.quorum_seconds is None and not replaced and not self._open():
            self._gathered.quorum_seconds = self._caller.now() - self._began
            await self._plan.reached(self._gathered.quorum_seconds)

    async def _gave_up(self, call: LiveCall) -> None:
        """Late: the others went on. What it cost is in its record."""
        reason = "" if self._gathered.quorum_seconds is not None else "timeout"
        status = LATE if not reason else FAILED
        outcome = Outcome(call.spec, status, None, reason, self._caller.now() - call.started, call.partial)
        await self._settle(outcome)

    def _open(self) -> bool:
        """The quorum is not reached yet."""
        answered = [outcome.spec.seat.vendor for outcome in self._outcomes.values() if outcome.status == ANSWERED]
        there = self._plan.there.union(answered)
        possible = there | {call.spec.seat.vendor for call in self._running.values()}
        if self._plan.respec is not None:
            possible |= {seat.vendor for seat in self._spares}
        return len(answered) < self._plan.quorum or len(there) < min(self._plan.vendors, len(possible))

    def _end(self) -> float:
        """When the stage is over at the latest, as things stand."""
        reached = self._gathered.quorum_seconds
        if reached is None:
            return self._plan.ends_at
        rules = self._rules
        grace = min(max(float(rules.grace_share) * reached, rules.grace_seconds_min), rules.grace_seconds_max)
        return min(self._plan.ends_at, self._began + reached + grace)

    def _hedge_at(self) -> float | None:
        """When the first silent member is to be hedged; None: nobody is."""
        after = self._plan.hedge_after
        if after is None or self._hedged or not self._spares or not self._open():
            return None
        return min((call.started + after for call in self._running.values() if call.first_at is None), default=None)

    async def _hedge(self) -> None:
        """A spare of another vendor beside the member that has been silent longest."""
        self._hedged = True
        silent = min((call for call in self._running.values() if call.first_at is None), key=lambda call: call.started)
        others = [seat for seat in self._spares if seat.vendor != silent.spec.seat.vendor]
        if others and self._plan.respec is not None and self._plan.may_hedge():
            self._spares.remove(others[0])
            await self._begin(self._plan.respec(others[0], True))

    def _next_spare(self, failed: Seat) -> Seat | None:
        """The first spare of another vendor, or else the first."""
        if not self._spares or self._plan.respec is None:
            return None
        others = [seat for seat in self._spares if seat.vendor != failed.vendor]
        chosen = (others or self._spares)[0]
        self._spares.remove(chosen)
        return chosen
