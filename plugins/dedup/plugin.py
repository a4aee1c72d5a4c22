"""An identical request of the same caller within seconds is answered once: from memory, without a charge."""

from __future__ import annotations

import asyncio
from typing import ClassVar, Final

from pydantic import Field

from plugins.dedup.memory import Answer, Flight, Memory, Twin
from plugins.dedup.twins import TwinRule, caller_of, served_name, twin_of, twin_rule, wants_memory
from proxy.config.schema import Generation
from proxy.errors import Refusal
from proxy.exchange import Exchange, Response
from proxy.plugin import Next, Plugin, PluginSettings, Services, Stage

ON_LOOP_BYTES_MAX: Final = 256 << 10
"""Bodies larger than this are digested in a thread."""
LEADERS_MAX: Final = 3
"""So many twins that fail are waited for, one after the other; then a request is served on its own."""
REFUSED_RETRY_SECONDS: Final = 2


class DedupSettings(PluginSettings):
    """How much is remembered, and for how long."""

    seconds: float = Field(default=30, gt=0, le=3600, description="An answer is remembered this long.")
    entries_max: int = Field(default=100, ge=1, le=10_000, description="Answers remembered at once.")
    answer_bytes_max: int = Field(
        default=1 << 20, ge=1024, le=16 << 20, description="Larger answers are not remembered."
    )
    request_bytes_max: int = Field(default=1 << 20, ge=1024, le=32 << 20, description="Larger requests have no twins.")
    wait_seconds_max: float = Field(
        default=300, gt=0, le=1800, description="A twin is waited for this long; then the request is served on its own."
    )


class DedupPlugin(Plugin[DedupSettings]):
    """Streamed requests, callers without a key of ours and callers with their own provider key are left alone.

    Only a 200 is shared or remembered. Of twins at once the first calls and is charged, the others wait for it; if
    it fails, or its client leaves before it was answered, one of those who wait takes its place. Each configuration
    has a memory of its own: what was answered under the old one is not given out under the new one.
    """

    name = "dedup"
    stage = Stage.LIMIT
    Settings: ClassVar[type[PluginSettings]] = DedupSettings
    requires = frozenset({"identity", "call", "model", "policy"})

    def __init__(self, settings: DedupSettings, services: Services) -> None:
        super().__init__(settings, services)
        self.follow(services.generation)

    def follow(self, generation: Generation) -> None:
        """Begin with an empty memory. Who waits under the old one still gets its answer."""
        settings = self.settings
        self._generation = generation
        self._memory = Memory(
            self.services.clock,
            seconds=settings.seconds,
            entries_max=settings.entries_max,
            body_bytes_max=settings.answer_bytes_max,
        )

    async def __call__(self, exchange: Exchange, call_next: Next) -> Response:
        twin = await self._twin(exchange)
        if twin is None or exchange.generation is not self._generation:
            return await call_next(exchange)
        memory, left = self._memory, LEADERS_MAX
        deadline = asyncio.get_running_loop().time() + self.settings.wait_seconds_max
        while left:
            if (answer := memory.answer(twin)) is not None:
                return self._repeated(exchange, answer, "memory")
            flight = memory.flight(twin)
            if flight is None:
                return await self._lead(exchange, call_next, memory, twin)
            if twin_rule(exchange) is TwinRule.REFUSE:
                raise _under_way()
            if not await _landed(flight, deadline):
                break
            if flight.answer is not None:
                return self._repeated(exchange, flight.answer, "twin")
            left -= 1
        return await call_next(exchange)

    async def _twin(self, exchange: Exchange) -> Twin | None:
        call, model = exchange.call, exchange.model
        if call is None or model is None or call.stream or not exchange.operation.priced:
            return None
        caller = caller_of(exchange)
        if caller is None or len(call.body) > self.settings.request_bytes_max or not wants_memory(exchange):
            return None
        if len(call.body) > ON_LOOP_BYTES_MAX:
            return await asyncio.to_thread(twin_of, exchange, call, caller, served_name(model))
        return twin_of(exchange, call, caller, served_name(model))

    async def _lead(self, exchange: Exchange, call_next: Next, memory: Memory, twin: Twin) -> Response:
        """Call, for all who wait. However this ends, they are told."""
        flight, kept = memory.begin(twin), False
        try:
            response = await call_next(exchange)
            flight.answer = Answer.of(response, self.services.clock.monotonic())
        finally:
            kept = memory.end(twin, flight)
        if kept and not exchange.repeated:
            response.headers["x-dedup"] = "miss"
        return response

    def _repeated(self, exchange: Exchange, answer: Answer, source: str) -> Response:
        exchange.repeated = True
        self.services.metrics.repeated(source)
        response = answer.response()
        response.headers["x-dedup"] = "hit"
        response.headers["age"] = str(max(0, int(self.services.clock.monotonic() - answer.at)))
        return response


async def _landed(flight: Flight, deadline: float) -> bool:
    """Wait for a twin's end. False where that takes too long."""
    try:
        async with asyncio.timeout_at(deadline):
            await flight.done.wait()
    except TimeoutError:
        return False
    return True


def _under_way() -> Refusal:
    return Refusal(
        "payment_under_way",
        "The same request with the same proof of payment is being answered right now. Wait for that answer.",
        retry_after_seconds=REFUSED_RETRY_SECONDS,
    )


PLUGIN = DedupPlugin
