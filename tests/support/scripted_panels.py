"""Panels on virtual time: a configuration, members that say what a script tells them to, and a run that is watched."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from random import Random
from typing import Any

from proxy.consensus.api import (
    Answer,
    CallFailed,
    CallRecord,
    CallSpec,
    Delta,
    Deltas,
    Event,
    Question,
    Result,
    Role,
    RunFailed,
)
from proxy.consensus.engine import Engine
from proxy.consensus.settings import (
    DIMENSIONS,
    Consensus,
    Deadlines,
    Mode,
    Price,
    Prompts,
    Rules,
    Seat,
    Tokens,
    Weights,
)
from proxy.pricing.money import Nano
from tests.support.virtual_time import run as run_virtually

USD = 1_000_000_000
PROMPTS = Prompts(
    member="MEMBER {domain} {language}\n{ending}",
    evaluate="EVALUATE {domain} {language} {dimensions}\n{shape}",
    refine="REFINE {language}\n{ending}",
    check="CHECK {domain}\n{shape}",
    synthesise="SYNTHESISE {domain} {language}\n{form}",
    repair="REPAIR {problem}\n{schema}",
)
GENERAL = {
    "accuracy": Fraction(35, 100),
    "completeness": Fraction(20, 100),
    "evidence": Fraction(15, 100),
    "clarity": Fraction(15, 100),
    "instructions": Fraction(15, 100),
}


def seat(name: str, vendor: str | None = None, family: str | None = None, **more: Any) -> Seat:
    """A seat whose model is called like it, of a vendor of its own."""
    model = name.split("#")[0]
    return Seat(name, model, vendor or f"{model}-vendor", family or model, **more)


ONE, TWO, THREE, FOUR, FIVE = (seat(name) for name in ("one", "two", "three", "four", "five"))
WRITER = seat("writer", tools=True, json_schema=True)
SECOND = seat("second", tools=True)
SPARE = seat("spare")


def mode(name: str = "fast", seats: Sequence[Seat] = (ONE, TWO, THREE), **more: Any) -> Mode:
    """A mode as fast is; `more` replaces what differs."""
    made = Mode(
        name=name,
        seats=tuple(seats),
        spares=(),
        synthesisers=(WRITER, SECOND),
        quorum=2,
        vendors_min=2,
        evaluate=False,
        refine_rounds_max=0,
        reevaluate=False,
        check_claims=False,
        early_exit=True,
        deadlines=Deadlines(total=20, call=12, first_byte=4, idle=3),
        tokens=Tokens(member=1000, evaluation=1000, check=500, final=1000, final_max=2000),
        input_tokens_max=10_000,
        budget=Nano(10 * USD),
        price=Price(Nano(USD), 1000),
    )
    return replace(made, **more)


def balanced(**more: Any) -> Mode:
    """Three members that judge each other, and one round of refinement."""
    deadlines = Deadlines(total=60, call=25, first_byte=8, idle=5)
    return mode("balanced", **{"evaluate": True, "refine_rounds_max": 1, "deadlines": deadlines, **more})


def deep(**more: Any) -> Mode:
    """Five members, two rounds that are judged again, claims checked."""
    settings = {
        "evaluate": True,
        "refine_rounds_max": 2,
        "reevaluate": True,
        "check_claims": True,
        "quorum": 3,
        "vendors_min": 3,
        "deadlines": Deadlines(total=180, call=60, first_byte=15, idle=10),
    }
    return mode("deep", (ONE, TWO, THREE, FOUR, FIVE), **{**settings, **more})


def consensus(*modes: Mode, **more: Any) -> Consensus:
    """The whole, with short prompts that name their role."""
    known = {one.name: one for one in modes or (mode(),)}
    rules = more.pop("rules", Rules(hedge_percent_max=100))
    return Consensus(known, PROMPTS, Weights({"general": GENERAL}), rules, **more)


@dataclass(frozen=True, slots=True)
class Says:
    """How one call goes."""

    text: str = ""
    seconds: float = 1.0
    """To its end."""
    first: float | None = None
    """To its first word; None: half of `seconds`."""
    fails: str = ""
    """Kind of a CallFailed at the end, after `text` was said."""
    finish_reason: str = "stop"
    tool_calls: tuple[dict[str, Any], ...] = ()
    output_tokens: int = 0
    pieces: int = 4
    hangs: bool = False
    """After `text` it says nothing more, for good."""
    retry_after: float | None = None
    streams: bool = True


def said(text: str, final: str | None = None, kind: str = "number", claims: Sequence[str] = (), **more: Any) -> Says:
    """A member's answer with its trailer; the fence is put in when it is called."""
    trailer = {"final_answer": final or "", "type": kind if final else "open", "claims": list(claims)}
    return Says(f"{text}\n<<FENCE>>\n{json.dumps(trailer)}", **more)


def ballot(spec: CallSpec, best: Callable[[str], float], verdict: str = "supported") -> str:
    """A judge's reply that ranks and scores by `best` (seat -> 0 to 10)."""
    paper = spec.about["paper"]
    order = sorted(paper.seats, key=best, reverse=True)
    answers = []
    for label, name in zip(paper.labels, paper.seats, strict=True):
        scores = dict.fromkeys(DIMENSIONS, best(name))
        marks = [
            {"claim": number, "verdict": verdict, "reason": "because", "correction": ""}
            for number, _ in enumerate(spec.about["claims"][name], 1)
        ]
        answers.append({"label": label, "rank": order.index(name) + 1, **scores, "claims": marks})
    return json.dumps({"answers": answers})


Script = Callable[[CallSpec], Says]


class ScriptedCalls:
    """Calls that go as a script says. Costs are what tokens there are, at a nano-dollar a byte and a thousand a token
    of output."""

    def __init__(self, script: Script, *, output_rate: int = 1000, input_rate: int = 1) -> None:
        self._script = script
        self._rates = input_rate, output_rate
        self.specs: list[CallSpec] = []
        self.running = 0
        self.cancelled: list[CallSpec] = []
        self._records: list[CallRecord] = []

    @property
    def records(self) -> Sequence[CallRecord]:
        return self._records

    def cost(self) -> Nano:
        return Nano(sum(record.cost for record in self._records))

    def of(self, role: Role) -> list[CallSpec]:
        return [spec for spec in self.specs if spec.role is role]

    def _input(self, spec: CallSpec) -> int:
        return len(json.dumps(spec.messages)) * self._rates[0]

    def cost_max(self, spec: CallSpec) -> Nano:
        return Nano(self._input(spec) + spec.output_tokens * self._rates[1])

    async def call(self, spec: CallSpec, deltas: Deltas | None = None) -> Answer:
        record = CallRecord(spec.seat, spec.role, spec.round, spec.hedge, cost=self.cost_max(spec))
        self._records.append(record)
        self.specs.append(spec)
        self.running += 1
        spoken = ""
        try:
            says = self._script(spec)
            text = says.text.replace("<<FENCE>>", (spec.about or {}).get("fence", "")) if spec.about else says.text
            first = says.seconds / 2 if says.first is None else says.first
            await asyncio.sleep(first if text or says.tool_calls else says.seconds)
            count = max(1, says.pieces)
            for index in range(count if text and says.streams else 0):
                piece = text[len(text) * index // count : len(text) * (index + 1) // count]
                spoken += piece
                if deltas is not None:
                    await deltas(Delta(piece))
                await asyncio.sleep((says.seconds - first) / count)
            if says.tool_calls and deltas is not None:
                await deltas(Delta("", tuple({"index": n, **call} for n, call in enumerate(says.tool_calls))))
            if says.hangs:
                await asyncio.Event().wait()
            if says.fails:
                raise CallFailed(says.fails, partial=spoken, retry_after_seconds=says.retry_after)
            record.status = "served"
            tokens = says.output_tokens or max(1, len(text) // 4)
            record.output_tokens = tokens
            return Answer(text, says.finish_reason, says.tool_calls, tokens)
        except CallFailed as failed:
            record.status = failed.kind
            raise
        except asyncio.CancelledError:
            record.status = "cancelled"
            self.cancelled.append(spec)
            raise
        finally:
            self.running -= 1
            record.input_tokens = len(json.dumps(spec.messages))
            record.output_tokens = record.output_tokens or len(spoken) // 4
            record.cost = min(record.cost, Nano(self._input(spec) + record.output_tokens * self._rates[1]))
            record.seconds = 0.0


@dataclass
class Watched:
    """A run that has ended."""

    calls: ScriptedCalls
    events: list[tuple[float, Event]] = field(default_factory=list)
    result: Result | None = None
    failed: RunFailed | None = None
    seconds: float = 0.0
    left: int = 0
    """Tasks that were left behind."""

    @property
    def done(self) -> Result:
        assert self.result is not None, self.failed and self.failed.refusal
        return self.result

    def names(self) -> list[str]:
        return [event.name for _, event in self.events]

    def named(self, name: str) -> list[dict[str, Any]]:
        return [event.data for _, event in self.events if event.name == name]

    def when(self, name: str) -> float:
        return next(at for at, event in self.events if event.name == name)

    def tokens(self) -> str:
        return "".join(data["text"] for data in self.named("token"))


def asking(text: str = "What is 6 times 3?", **more: Any) -> Question:
    """One user message."""
    return Question(({"role": "user", "content": text},), more.pop("output_tokens", 800), **more)


def watch(
    script: Script,
    settings: Consensus | None = None,
    *,
    question: Question | None = None,
    mode_name: str | None = None,
    engine: Engine | None = None,
    calls: ScriptedCalls | None = None,
    cancel_at: float | None = None,
) -> Watched:
    """Run it to its end on virtual time."""
    settings = settings or consensus()
    watched = Watched(calls or ScriptedCalls(script))
    numbers = iter(range(10_000))
    used = engine or Engine(settings, random=Random(7), nonce=lambda: f"nonce{next(numbers):06d}")

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def emit(event: Event) -> None:
            json.dumps(event.data)
            watched.events.append((loop.time(), event))

        name = mode_name or next(iter(settings.modes))
        task = loop.create_task(used.run(question or asking(), name, watched.calls, emit))
        if cancel_at is not None:
            loop.call_later(cancel_at, task.cancel)
        try:
            watched.result = await task
        except RunFailed as failed:
            watched.failed = failed
        except asyncio.CancelledError:
            if cancel_at is None:
                raise
        finally:
            watched.seconds = loop.time()
            watched.left = len(asyncio.all_tasks()) - 1

    run_virtually(main())
    return watched
