"""What a mode's smallest run can cost at its input limit, by bytes: its budget must carry that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from proxy.catalogue import Model
from proxy.consensus.settings import Mode, Prompts, Rules, Seat
from proxy.panels import INPUT_BYTES_PER_TOKEN, vendors
from proxy.pricing.bounds import PART_TOKENS, REQUEST_TOKENS
from proxy.pricing.money import ZERO, Nano

ANSWER_BYTES_PER_TOKEN: Final = 4
"""Of a member's answer as the synthesiser reads it: what is longer is cut to what the budget carries."""
FRAME_BYTES: Final = 2048
"""JSON, roles, fences, and what a prompt's placeholders stand for."""
MESSAGES: Final = 8
"""Around each of which a provider writes something."""


def smallest_run(mode: Mode, prompts: Prompts, rules: Rules, models: Mapping[str, Model]) -> Nano:
    """The cheapest members that make a quorum, and the first synthesiser, at the input limit."""
    question = mode.input_tokens_max * INPUT_BYTES_PER_TOKEN
    asked = question + len(prompts.member.encode())
    costs = {seat.name: _call(models[seat.model], asked, mode.tokens.member) for seat in mode.seats}
    answer = min(mode.tokens.member * ANSWER_BYTES_PER_TOKEN, rules.answer_chars_max)
    read = question + len(prompts.synthesise.encode()) + mode.quorum * answer
    final = _call(models[mode.synthesisers[0].model], read, mode.tokens.final_max)
    return Nano(sum(costs[seat.name] for seat in _quorum(mode, costs)) + final)


def _quorum(mode: Mode, costs: Mapping[str, Nano]) -> list[Seat]:
    """The cheapest, of as many vendors as are needed."""
    left = sorted(mode.seats, key=lambda seat: costs[seat.name])
    chosen: list[Seat] = []
    while left and len(chosen) < mode.quorum:
        seated = vendors(chosen)
        wanted = mode.vendors_min - len(seated) >= mode.quorum - len(chosen)
        seat = next((one for one in left if wanted and one.vendor not in seated), left[0])
        left.remove(seat)
        chosen.append(seat)
    return chosen


def _call(model: Model, input_bytes: int, output_tokens: int) -> Nano:
    """At the dearest of the model's candidates. A token is at least a byte."""
    tokens = input_bytes + FRAME_BYTES + REQUEST_TOKENS + MESSAGES * PART_TOKENS
    rates = [model.list_rates(candidate) for candidate in model.candidates]
    return max((one.bound(tokens, output_tokens, cache_write=True) for one in rates if one is not None), default=ZERO)
