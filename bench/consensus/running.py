"""Runs of the product's engine in a scripted world, one behind the other on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from bench.consensus.items import Item
from bench.consensus.laws import Laws
from bench.consensus.panels import consensus_of, rates_of
from bench.consensus.scripted import ScriptedCalls
from bench.consensus.virtual_time import run as run_virtually
from proxy.consensus.api import Event, Question, Result, RunFailed
from proxy.consensus.engine import Engine
from proxy.consensus.settings import Consensus, Mode
from proxy.errors import Refusal
from proxy.pricing.money import Nano

OUTCOMES: Final = ("answered", "degraded", "failed", "refused")
"""How a run can end; anything else is a fault of the engine."""


@dataclass(slots=True)
class Ran:
    """One run and all that was seen of it."""

    item: Item
    calls: ScriptedCalls
    events: list[tuple[float, Event]] = field(default_factory=list)
    """With seconds since the run began."""
    outcome: str = ""
    """One of OUTCOMES, or the name of an exception that must not be."""
    result: Result | None = None
    failure: RunFailed | None = None
    seconds: float = 0.0
    deadline: float = 0.0
    """Seconds that the mode gives a run."""

    @property
    def right(self) -> bool:
        """The final answer is."""
        return self.result is not None and self.calls.right(self.result.text) is True

    @property
    def known(self) -> bool:
        """Its final answer, if it has one, is an answer that was given."""
        return self.result is None or self.calls.right(self.result.text) is not None

    @property
    def booked(self) -> Nano:
        """What the panel's own records say that the run has cost."""
        return Nano(sum(record.cost for record in self.calls.records))

    def named(self, name: str) -> list[tuple[float, dict[str, Any]]]:
        """The events of one name."""
        return [(at, event.data) for at, event in self.events if event.name == name]


async def run_one(engine: Engine, mode: str, item: Item, laws: Laws, seed: int) -> Ran:
    """One question through the panel."""
    calls = ScriptedCalls(item, laws, rates_of, seed)
    ran = Ran(item, calls, deadline=engine.consensus.modes[mode].deadlines.total)
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def emit(event: Event) -> None:
        ran.events.append((loop.time() - began, event))

    question = Question(({"role": "user", "content": item.question},), 1024, domain="general")
    try:
        ran.result = await engine.run(question, mode, calls, emit)
        ran.outcome = "degraded" if ran.result.degraded else "answered"
    except RunFailed as failure:
        ran.failure, ran.outcome = failure, "failed"
    except Refusal:
        ran.outcome = "refused"
    except Exception as fault:  # noqa: BLE001 (what it is shows in the report)
        ran.outcome = f"{type(fault).__name__}: {fault}"
    ran.seconds = loop.time() - began
    return ran


def engine_of(consensus: Consensus, seed: int) -> Engine:
    """With nonces and choices from the seed."""
    random = Random(f"engine/{seed}")
    return Engine(consensus, random=random, nonce=lambda: f"{random.getrandbits(64):016x}")


def run_all(mode: Mode, items: Iterable[Item], laws: Laws, seed: int, **changes: Any) -> list[Ran]:
    """Every question through the panel. `changes` are of the Consensus: weights, rules."""
    consensus = consensus_of(mode, **changes)

    async def all_of_them() -> list[Ran]:
        engine = engine_of(consensus, seed)
        return [await run_one(engine, mode.name, item, laws, seed) for item in items]

    return run_virtually(all_of_them())
