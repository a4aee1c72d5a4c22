"""A budget that the file is taken with is one that the engine admits a question at the input limit with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import orjson
import pytest

from proxy import shipped
from proxy.catalogue import Model
from proxy.config.consensus_budgets import smallest_run
from proxy.config.load import load_generation
from proxy.config.schema import Generation
from proxy.consensus.api import Answer, CallRecord, CallSpec, Deltas, Question
from proxy.consensus.engine import Engine
from proxy.dialects import DIALECTS
from proxy.errors import Refusal
from proxy.panels import INPUT_BYTES_PER_TOKEN
from proxy.pricing.money import ZERO, Nano, nano_from_usd
from proxy.quoting import priced, quote
from tests.config.test_shipped import KEYS

ROOT: Path = shipped.folder()


class Bounds:
    """Calls that are never made, at the bounds of the very bodies that would be sent."""

    def __init__(self, models: dict[str, Model]) -> None:
        self._models = models

    @property
    def records(self) -> Sequence[CallRecord]:
        return ()

    def cost_max(self, spec: CallSpec) -> Nano:
        model = self._models[spec.seat.model]
        body = {"model": model.name, "messages": list(spec.messages), "max_tokens": spec.output_tokens, "stream": True}
        call = DIALECTS["openai.chat"].parse(orjson.dumps(body))
        bound = quote(model, call, provider_credential=False).with_output(spec.output_tokens)
        return priced(bound, model, call, provider_credential=False).list or ZERO

    async def call(self, spec: CallSpec, deltas: Deltas | None = None) -> Answer:
        raise NotImplementedError


@pytest.fixture(scope="module")
def generation() -> Generation:
    return load_generation(ROOT / "config.yaml", environment=dict.fromkeys(KEYS, "k"))


@pytest.mark.parametrize("mode", ["fast", "balanced", "deep", "demo"])
async def test_a_question_at_the_input_limit_is_admitted(generation: Generation, mode: str) -> None:
    """As many bytes as its tokens can have, and the longest final answer: there is money for the smallest run."""
    consensus = generation.consensus
    assert consensus is not None
    panel = consensus.modes[mode]
    text = "a" * (panel.input_tokens_max * INPUT_BYTES_PER_TOKEN)
    question = Question(({"role": "user", "content": text},), panel.tokens.final_max, domain="general")
    Engine(consensus).admit(question, mode, Bounds(generation.models))


@pytest.mark.parametrize("mode", ["fast", "balanced", "deep"])
async def test_what_a_budget_needs_is_what_the_engine_asks_for(generation: Generation, mode: str) -> None:
    """Never less, and within a tenth of it."""
    consensus = generation.consensus
    assert consensus is not None
    panel = replace(consensus.modes[mode], budget=Nano(1))
    text = "a" * (panel.input_tokens_max * INPUT_BYTES_PER_TOKEN)
    question = Question(({"role": "user", "content": text},), panel.tokens.final_max, domain="general")
    engine = Engine(replace(consensus, modes={mode: panel}))
    with pytest.raises(Refusal) as refused:
        engine.admit(question, mode, Bounds(generation.models))
    asked = nano_from_usd(Decimal(str((refused.value.details or {})["needed_usd"])))
    needed = smallest_run(panel, consensus.prompts, consensus.rules, generation.models)
    assert asked <= needed <= asked * Decimal("1.1")
