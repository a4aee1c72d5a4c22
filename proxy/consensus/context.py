"""What every stage of one run shares: the question, the clock, the money, who watches, what was noted on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from statistics import median
from string import ascii_uppercase
from typing import Any, Final

from proxy.consensus.api import Calls, Emit, Event, MemberReport, Question
from proxy.consensus.budget import Budget, HedgeBudget
from proxy.consensus.calling import Caller
from proxy.consensus.detection import Detected
from proxy.consensus.fences import Fence
from proxy.consensus.gathering import ANSWERED, Outcome
from proxy.consensus.settings import Consensus, Mode, Seat

SYNTHESIS_MARGIN: Final = 1.5
"""A synthesis is taken to last this much longer than the slowest answer so far: it reads more, and writes as much."""
TIME: Final = "time"
BUDGET: Final = "budget"


@dataclass(slots=True, eq=False)
class Run:
    """One run. `mode` changes when `auto` goes on with its second one."""

    question: Question
    mode: Mode
    consensus: Consensus
    calls: Calls
    emit: Emit
    random: Random
    nonce: Callable[[], str]
    hedges: HedgeBudget
    detected: Detected
    budget: Budget
    caller: Caller
    began: float
    skipped: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    reports: dict[str, MemberReport] = field(default_factory=dict)
    """Label -> what became of that seat."""
    hedged: bool = False
    told: list[str] = field(default_factory=list)
    """Pieces of the final answer that were sent."""
    told_tools: bool = False
    """Its calls of tools were sent as they came."""
    _labels: dict[tuple[str, str], str] = field(default_factory=dict)
    _seconds: list[float] = field(default_factory=list)

    @property
    def ends_at(self) -> float:
        """When the last token must be out."""
        return self.began + self.mode.deadlines.total

    def left(self) -> float:
        """Seconds until then."""
        return self.ends_at - self.caller.now()

    def fence(self) -> Fence:
        """Of a new nonce: every stage has its own."""
        return Fence(self.nonce())

    def label(self, seat: Seat) -> str:
        """A, B, ...: in the order in which seats are first spoken of."""
        key = self.mode.name, seat.name
        return self._labels.setdefault(key, _letters(len(set(self._labels.values()))))

    def adopt(self, seat: Seat, label: str) -> None:
        """The seat goes under a label that it had in another mode."""
        self._labels[self.mode.name, seat.name] = label

    async def tell(self, name: str, **data: Any) -> None:
        """An event for whoever watches."""
        await self.emit(Event(name, data))

    def note(self, outcome: Outcome) -> None:
        """Learn from an ended call how long calls take."""
        if outcome.status == ANSWERED and outcome.seconds is not None:
            self._seconds.append(outcome.seconds)

    def synthesis_seconds(self) -> float:
        """What the final answer must be left, going by the answers so far."""
        call = self.mode.deadlines.call
        return min(call, SYNTHESIS_MARGIN * max(self._seconds, default=call))

    def stage_end(self, *, first: bool = False) -> float:
        """When a stage of calls that begins now must be over, the synthesis's time kept. Members come `first`: what
        they leave is what is left."""
        now = self.caller.now()
        latest = self.ends_at if first else self.ends_at - self.synthesis_seconds()
        return min(now + self.mode.deadlines.call, latest)

    def has_time(self, stages: int = 1) -> bool:
        """So many further stages would mostly come to their ends: half of the calls so far took less than is left for
        each."""
        typical = median(self._seconds) if self._seconds else 0.0
        left = self.left() - self.synthesis_seconds()
        return self.stage_end() - self.caller.now() > typical and left > stages * typical

    def flag(self, label: str, name: str) -> None:
        """Something odd about a member's answer."""
        noted = f"{label}: {name}"
        if noted not in self.flags:
            self.flags.append(noted)

    def skip(self, stage: str, reason: str) -> None:
        """A stage is left out, and said to be."""
        noted = f"{stage}: {reason}"
        if noted not in self.skipped:
            self.skipped.append(noted)


def _letters(index: int) -> str:
    """A to Z, then AA, AB, ..."""
    name = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, len(ascii_uppercase))
        name = ascii_uppercase[letter] + name
    return name
