"""What a mode's smallest run can cost at its input limit, by bytes: its budget must carry that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from proxy.catalogue import Model
from proxy.consensus.settings import Mode, Prompts, Rules, Seat
from proxy.panels import INPUT_BYTES_PER_TOKEN
from proxy.pricing.bounds import PART_TOKENS, REQUEST_TOKENS
from proxy.pricing.money import ZERO, Nano

ANSWER_BYTES_PER_TOKEN: Final = 8
"""A member's answer as the synthesiser reads it: English has 4 or 5, Cyrillic and Indic scripts up to 8."""
FRAME_BYTES: Final = 2048
"""JSON, roles, fences, and what a prompt's placeholders stand for."""
MESSAGES: Final = 8
"""Around each of which a provider writes something."""


def smallest_run(mode: Mode, prompts: Prompts, rules: Rules, models: Mapping[str, Model]) -> Nano:
    """The cheapest members that make a quorum, and the cheapest synthesiser of their answers, at the input limit."""
    question = mode.input_tokens_max * INPUT_BYTES_PER_TOKEN
    members = sorted(
        _call(models, seat, question + len(prompts.member.encode()), mode.tokens.member) for seat in mode.seats
    )
    answer = min(mode.tokens.member * ANSWER_BYTES_PER_TOKEN, rules.answer_chars_max)
    read = question + len(prompts.synthesise.encode()) + mode.quorum * answer
    final = min((_call(models, seat, read, mode.tokens.final_max) for seat in mode.synthesisers), default=ZERO)
    return Nano(sum(members[: mode.quorum]) + final)


def _call(models: Mapping[str, Model], seat: Seat, input_bytes: int, output_tokens: int) -> Nano:
    """At the dearest of the model's candidates. A token is at least a byte."""
    model = models[seat.model]
    tokens = input_bytes + FRAME_BYTES + REQUEST_TOKENS + MESSAGES * PART_TOKENS
    rates = [model.list_rates(candidate) for candidate in model.candidates]
    return max((one.bound(tokens, output_tokens) for one in rates if one is not None), default=ZERO)
