"""The scripted provider of one run: it answers every call in text, which the panel reads like any model's."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import orjson

from bench.consensus.items import Item, Said
from bench.consensus.laws import Faults, Laws
from bench.consensus.meter import Meter, Span
from bench.consensus.writing import Writer
from proxy.consensus.api import Answer, CallFailed, CallRecord, CallSpec, Delta, Deltas, Role
from proxy.pricing.money import Nano
from proxy.pricing.rates import Rates
from proxy.usage import Usage

BYTES_PER_TOKEN: Final = 4
PIECES: Final = 4
"""An answer comes in so many, evenly spaced."""
NO_FAULTS: Final = Faults()
SAID_NOTHING: Final = frozenset({"rate_limited", "unavailable", "content_filter"})


@dataclass(frozen=True, slots=True)
class Script:
    """What one call is going to do."""

    text: str
    finish_reason: str
    seconds: float
    fails: str = ""
    """A CallFailed's kind; `text` is what comes before it."""


class ScriptedCalls:
    """See `proxy.consensus.api.Calls`. Random numbers of a call depend on the seed, the question, its role, seat and
    round alone: not on the order in which a run makes its calls."""

    def __init__(self, item: Item, laws: Laws, rates: Callable[[str], Rates], seed: int) -> None:
        self.meter = Meter()
        self._laws = laws
        self._rates = rates
        self._item = item
        self._seed = seed
        self._records: list[CallRecord] = []
        self._writer = Writer(item, laws, self._random(Role.MEMBER, "common", 0))

    @property
    def records(self) -> Sequence[CallRecord]:
        """See Calls."""
        return self._records

    def right(self, text: str) -> bool | None:
        """Whether a final answer is right; None where it is no answer that was given here."""
        said = self._writer.found(text)
        return None if said is None else said.right

    def said(self, text: str) -> Said | None:
        """The answer that a text repeats."""
        return self._writer.found(text)

    def cost_max(self, spec: CallSpec) -> Nano:
        """See Calls: a token is at least a byte."""
        return self._rates(spec.seat.model).cost(_usage(_bytes(spec), spec.output_tokens))

    async def call(self, spec: CallSpec, deltas: Deltas | None = None) -> Answer:
        """See Calls."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        given = math.ceil(_bytes(spec) / BYTES_PER_TOKEN)
        record = CallRecord(spec.seat, spec.role, spec.round, spec.hedge, cost=self.cost_max(spec))
        self._records.append(record)
        self.meter.begin()
        script = self._script(spec)
        heard: list[str] = []
        try:
            answer = await self._play(spec, script, record, heard, deltas)
            record.status = "served"
            return answer
        except CallFailed as failed:
            record.status = failed.kind
            raise
        except asyncio.CancelledError:
            record.status, record.estimated = "cancelled", True
            raise
        finally:
            written = min(math.ceil(len("".join(heard)) / BYTES_PER_TOKEN), spec.output_tokens)
            if script.fails in SAID_NOTHING and record.status == script.fails:
                given = 0
            record.input_tokens, record.output_tokens = given, written
            record.cost = self._rates(spec.seat.model).cost(_usage(given, written))
            record.seconds = loop.time() - began
            self.meter.end(given, written, self._billed(spec, given, written), loop.time())
            served = record.status == "served"
            self.meter.spans.append(Span(spec.role.value, spec.round, spec.seat.name, began, loop.time(), served))

    def _billed(self, spec: CallSpec, given: int, written: int) -> Nano:
        """The provider's own sum, from its price list."""
        rates = self._rates(spec.seat.model)
        return Nano(rates.cost(_usage(given, 0)) + rates.cost(_usage(0, written)))

    async def _play(
        self, spec: CallSpec, script: Script, record: CallRecord, heard: list[str], deltas: Deltas | None
    ) -> Answer:
        loop = asyncio.get_running_loop()
        began, first = loop.time(), self._laws.latency.first_share * script.seconds
        await asyncio.sleep(first)
        if script.fails in SAID_NOTHING:
            raise CallFailed(script.fails, retry_after_seconds=1.0 if script.fails == "rate_limited" else None)
        pieces = _pieces(script.text)
        for index, piece in enumerate(pieces):
            if index:
                await asyncio.sleep((script.seconds - first) / len(pieces))
            if record.first_seconds is None:
                record.first_seconds = loop.time() - began
            heard.append(piece)
            if deltas is not None:
                await deltas(Delta(piece))
        await asyncio.sleep(max(began + script.seconds - loop.time(), 0.0))
        if script.fails:
            raise CallFailed(script.fails, partial=script.text)
        return Answer(script.text, script.finish_reason, output_tokens=len(script.text) // BYTES_PER_TOKEN)

    def _random(self, role: Role, seat: str, round_: int) -> Random:
        return Random(f"{self._seed}/{self._item.key}/{role.value}/{seat}/{round_}")

    def _script(self, spec: CallSpec) -> Script:
        random = self._random(spec.role, spec.seat.name, spec.round)
        seconds = self._laws.latency.draw(random)
        kind = self._laws.faults.get(spec.role.value, NO_FAULTS).draw(random)
        if spec.seat.name in self._laws.hanging or kind == "hang":
            return Script("", "stop", math.inf)
        text = self._writer.text(spec, random, kind)
        match kind:
            case "rate_limited" | "unavailable" | "content_filter":
                return Script("", "stop", seconds, kind)
            case "empty":
                return Script("", "stop", seconds)
            case "truncated":
                return Script(text[: len(text) // 2], "length", seconds)
            case "broken":
                return Script(text[: len(text) // 2], "stop", seconds, "broken")
        return Script(text, "stop", seconds)


def _usage(given: int, written: int) -> Usage:
    return Usage.reported(input_tokens=given, output_tokens=written)


def _bytes(spec: CallSpec) -> int:
    """Of everything that is sent."""
    document: dict[str, Any] = {"messages": spec.messages}
    if spec.response_format is not None:
        document["response_format"] = spec.response_format
    return len(orjson.dumps(document))


def _pieces(text: str) -> list[str]:
    size = max(math.ceil(len(text) / PIECES), 1)
    return [text[at : at + size] for at in range(0, len(text), size)]


def rates_of(table: Mapping[str, Rates], default: Rates) -> Callable[[str], Rates]:
    """Model -> its price list."""
    return lambda model: table.get(model, default)
